package dkim

import (
	"bytes"
	"encoding/binary"
)

// Canon is a canonicalisation (RFC 6376, 3.4).
type Canon uint8

const (
	Relaxed Canon = iota
	Simple
)

// String returns the name that c= has for it.
func (c Canon) String() string {
	if c == Simple {
		return "simple"
	}
	return "relaxed"
}

func parseCanon(s string) (Canon, bool) {
	switch s {
	case "relaxed":
		return Relaxed, true
	case "simple":
		return Simple, true
	}
	return 0, false
}

// AppendField appends a field in its canonical form to b, with its line ending. Other lines
// than the first begin with white space.
func (c Canon) AppendField(b []byte, f Field) []byte {
	if c == Simple {
		return append(b, f.Raw...)
	}
	b = append(b, f.Name...)
	b = append(b, ':')
	return append(appendRelaxed(b, f.Raw[f.Colon+1:]), "\r\n"...)
}

// appendRelaxed appends a value with its runs of white space as one space each, and none
// around it (RFC 6376, 3.4.2). A line ending is white space here: more of the value follows
// it only behind a space.
func appendRelaxed(b, value []byte) []byte {
	value = trim(value)
	for {
		i := bytes.IndexAny(value, " \t\r\n")
		if i < 0 {
			return append(b, value...)
		}
		b = append(append(b, value[:i]...), ' ')
		for i < len(value) && isSpace(value[i]) {
			i++
		}
		value = value[i:]
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// body is a canonicaliser of bodies: what is written to it in any pieces goes on to out in
// canonical form. Only CRLF ends a line.
type body interface {
	Write(p []byte) (int, error)
	end()
}

func newBody(c Canon, out func([]byte)) body {
	if c == Simple {
		return &simpleBody{out: out}
	}
	return &relaxedBody{out: out, fresh: true}
}

// crlfs is some of the line endings that are held back.
var crlfs = []byte("\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n")

// endings writes n line endings.
func endings(out func([]byte), n int) {
	for n > 0 {
		k := min(2*n, len(crlfs))
		out(crlfs[:k])
		n -= k / 2
	}
}

// simpleBody holds back the line endings at the end (RFC 6376, 3.4.3).
type simpleBody struct {
	out  func([]byte)
	held int  // line endings held back
	cr   bool // and a CR, which may be one
}

func (s *simpleBody) Write(p []byte) (int, error) {
	n := len(p)
	if s.cr && n > 0 {
		s.cr = false
		if p[0] == '\n' {
			s.held++
			p = p[1:]
		} else {
			s.flush(crlfs[:1])
		}
	}
	if len(p) > 0 && p[len(p)-1] == '\r' {
		s.cr = true
		p = p[:len(p)-1]
	}
	end := len(p)
	for end >= 2 && p[end-1] == '\n' && p[end-2] == '\r' {
		end -= 2
	}
	if end > 0 {
		s.flush(p[:end])
	}
	s.held += (len(p) - end) / 2
	return n, nil
}

func (s *simpleBody) flush(p []byte) {
	endings(s.out, s.held)
	s.held = 0
	s.out(p)
}

func (s *simpleBody) end() {
	if s.cr {
		s.flush(crlfs[:1])
	}
	s.out(crlfs[:2])
}

// relaxedBody makes each run of white space one space, and none at the end of a line, and
// holds back empty lines (RFC 6376, 3.4.4).
type relaxedBody struct {
	out   func([]byte)
	held  int  // line endings held back
	fresh bool // at the start of a line
	space bool // white space is held back
	cr    bool // a CR is, which may end the line
	some  bool // there was something but line endings
	buf   []byte
}

func (r *relaxedBody) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if r.fresh {
			p = p[r.clean(p):]
		}
		p = p[r.line(p):]
	}
	return n, nil
}

// clean passes on the whole lines at the start of p that are canonical as they are, and
// returns their length.
func (r *relaxedBody) clean(p []byte) int {
	n := canonicalUntil(p)
	n = bytes.LastIndexByte(p[:n], '\n') + 1
	for n > 0 && (n < 2 || p[n-2] != '\r') { // a bare LF ends no line
		n = bytes.LastIndexByte(p[:n-1], '\n') + 1
	}
	text := n
	for text >= 2 && p[text-1] == '\n' && p[text-2] == '\r' {
		text -= 2
	}
	if text > 0 {
		r.flush()
		r.out(p[:text])
		r.some = true
	}
	r.held += (n - text) / 2
	return n
}

// canonicalUntil returns how many bytes at the start of p hold no tab, no two spaces in a row, and
// no space in front of a CR; it may be fewer. Eight bytes are looked at together.
func canonicalUntil(p []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	// A byte of x that is 0 is 0x80 in the result; one above it that is 1 may be, too.
	zero := func(x uint64) uint64 { return (x - ones) &^ x & highs }
	i, before := 0, uint64(0) // whether the byte before is a space, as its highest bit
	for ; i+8 <= len(p); i += 8 {
		x := binary.LittleEndian.Uint64(p[i:])
		space := zero(x ^ ones*' ')
		if zero(x^ones*'\t')|(space<<8|before)&(space|zero(x^ones*'\r')) != 0 {
			return i
		}
		before = space >> 56
	}
	for ; i < len(p); i++ {
		c := p[i]
		if c == '\t' || before != 0 && (c == ' ' || c == '\r') {
			return i
		}
		if before = 0; c == ' ' {
			before = 0x80
		}
	}
	return i
}

// line works on p byte by byte, to the end of a line, and returns how far it came.
func (r *relaxedBody) line(p []byte) int {
	for i, c := range p {
		if r.cr {
			if r.cr = false; c == '\n' {
				r.empty()
				r.held++
				r.space, r.fresh = false, true
				return i + 1
			}
			r.put('\r')
		}
		switch c {
		case ' ', '\t':
			r.space, r.fresh = true, false
		case '\r':
			r.cr, r.fresh = true, false
		default:
			r.put(c)
		}
	}
	r.empty()
	return len(p)
}

func (r *relaxedBody) put(c byte) {
	r.flush()
	if r.space {
		r.buf = append(r.buf, ' ')
	}
	r.buf = append(r.buf, c)
	r.space, r.fresh, r.some = false, false, true
	if len(r.buf) >= 1<<10 {
		r.empty()
	}
}

func (r *relaxedBody) flush() {
	endings(r.out, r.held)
	r.held = 0
}

func (r *relaxedBody) empty() {
	if len(r.buf) > 0 {
		r.out(r.buf)
		r.buf = r.buf[:0]
	}
}

func (r *relaxedBody) end() {
	if r.cr {
		r.put('\r')
	}
	r.empty()
	if r.some {
		r.out(crlfs[:2])
	}
}
