package smtp

import (
	"bufio"
	"io"

	"github.com/martlet-mail/martlet/internal/fault"
)

// DataOptions say what message data may be.
type DataOptions struct {
	// MaxSize is how many bytes a message may have, dots removed; 0 is no limit.
	MaxSize int64

	// Normalise turns a bare CR or a bare LF into CRLF. Otherwise they are refused:
	// what other servers take for a line end they might take for the end of the
	// message as well.
	Normalise bool

	// Binary allows everything (BINARYMIME). It is for Chunks alone.
	Binary bool
}

// maxDrain is how much is read, looking for the end of the data, after a fault in
// it, or after MaxSize if that is more.
const maxDrain = 16 << 20

// Faults in the data. They are told when its true end has been read.
func errBareLF() error {
	return fault.New(fault.Invalid, "message has a line that ends in LF without CR")
}
func errBareCR() error { return fault.New(fault.Invalid, "message has a CR without LF") }
func errNUL() error    { return fault.New(fault.Invalid, "message has a NUL byte") }
func errTooLarge() error {
	return fault.New(fault.TooLarge, "message is too large")
}

// scanner goes over message data byte by byte; what it does hangs on the bytes
// alone and never on how they are cut into packets. It serves DATA (with dots) and
// BDAT (without).
type scanner struct {
	opt   DataOptions
	dots  bool
	state scanState
	out   []byte // content, of which the first given bytes are handed on
	given int
	size  int64 // of the content so far
	bad   error // the first fault
	waste int64 // bytes read since then
}

type scanState uint8

const (
	atLineStart scanState = iota // after CRLF or at the beginning
	inLine
	afterCR    // in a line, CR not yet handed on
	afterDot   // after a dot at the start of a line, which is not content
	afterDotCR // that and CR
	atEnd      // after CRLF.CRLF
)

// scan takes src up to the end of the data and returns how much that is.
func (s *scanner) scan(src []byte) int {
	i := 0
	for i < len(src) && s.state != atEnd {
		if s.state == inLine {
			n := plainRun(src[i:], s.opt.Binary)
			s.keep(src[i : i+n]...)
			if i += n; i == len(src) {
				break
			}
		}
		s.step(src[i])
		i++
	}
	if s.bad != nil {
		s.waste += int64(i)
	}
	return i
}

// plainRun returns how many bytes from the start of b mean nothing.
func plainRun(b []byte, binary bool) int {
	if binary {
		return len(b)
	}
	for i, c := range b {
		if c <= '\r' && (c == '\r' || c == '\n' || c == 0) {
			return i
		}
	}
	return len(b)
}

// step takes one byte.
func (s *scanner) step(c byte) {
	switch s.state {
	case atLineStart:
		if c == '.' && s.dots {
			s.state = afterDot
			return
		}
	case afterDot:
		if c == '\r' {
			s.state = afterDotCR
			return
		}
	case afterDotCR:
		if c == '\n' {
			s.state = atEnd
			return
		}
		s.bareCR()
	case afterCR:
		if c == '\n' {
			s.keep('\r', '\n')
			s.state = atLineStart
			return
		}
		s.bareCR()
	}
	s.state = inLine
	switch {
	case s.opt.Binary:
		s.keep(c)
	case c == '\r':
		s.state = afterCR
	case c == '\n':
		s.bareLF()
	case c == 0:
		s.fail(errNUL())
	default:
		s.keep(c)
	}
}

func (s *scanner) bareCR() {
	if !s.opt.Normalise {
		s.fail(errBareCR())
	}
	s.keep('\r', '\n')
}

func (s *scanner) bareLF() {
	if !s.opt.Normalise {
		s.fail(errBareLF())
	}
	s.keep('\r', '\n')
}

// fail remembers the first fault; from then on content is only counted.
func (s *scanner) fail(err error) {
	if s.bad == nil {
		s.bad = err
		s.out, s.given = nil, 0
	}
}

func (s *scanner) keep(b ...byte) {
	if s.size += int64(len(b)); s.opt.MaxSize > 0 && s.size > s.opt.MaxSize {
		s.fail(errTooLarge())
	}
	if s.bad == nil {
		s.out = append(s.out, b...)
	}
}

// drained tells whether the peer has sent so much after a fault that waiting for
// the end is over.
func (s *scanner) drained() bool { return s.waste > max(maxDrain, s.opt.MaxSize) }

// take moves content to p.
func (s *scanner) take(p []byte) int {
	n := copy(p, s.out[s.given:])
	if s.given += n; s.given == len(s.out) {
		s.out, s.given = s.out[:0], 0
	}
	return n
}

// DataReader reads the message after DATA: dots of transparency removed, up to the
// first line that is CRLF.CRLF and nothing else (RFC 5321, 4.1.1.4 and 4.5.2).
//
// At the end it returns io.EOF, or the fault that was found on the way: Invalid for
// a bare CR, a bare LF or a NUL, TooLarge for size. Either way the data has been
// read up to its true end and the session may go on. Limited means that the end was
// not found: the connection is of no more use, as after any other error.
type DataReader struct {
	r *bufio.Reader
	s scanner
	// err is what Read returns once the content is used up.
	err error
}

// NewDataReader returns a reader of the message that begins at the next byte of r.
func NewDataReader(r *bufio.Reader, o DataOptions) *DataReader {
	o.Binary = false
	return &DataReader{r: r, s: scanner{opt: o, dots: true}}
}

// Read returns content of the message.
func (d *DataReader) Read(p []byte) (int, error) {
	for {
		if n := d.s.take(p); n > 0 || len(p) == 0 {
			return n, nil
		}
		if d.err != nil {
			return 0, d.err
		}
		d.fill()
	}
}

// Drain reads the rest of the data, for a session that has no use for it. It
// returns nil if the session may go on.
func (d *DataReader) Drain() error {
	if d.s.bad == nil {
		d.s.fail(io.EOF)
	}
	d.s.out, d.s.given = nil, 0
	for d.err == nil {
		d.fill()
	}
	if d.s.state == atEnd {
		return nil
	}
	return d.err
}

// fill scans what r holds, or waits for more.
func (d *DataReader) fill() {
	chunk, err := buffered(d.r)
	if err != nil {
		d.err = err
		return
	}
	d.r.Discard(d.s.scan(chunk))
	switch {
	case d.s.state == atEnd && d.s.bad != nil:
		d.err = d.s.bad
	case d.s.state == atEnd:
		d.err = io.EOF
	case d.s.drained():
		d.err = fault.New(fault.Limited, "message does not end")
	}
}

// buffered returns what r holds, at least one byte.
func buffered(r *bufio.Reader) ([]byte, error) {
	if _, err := r.Peek(1); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return r.Peek(r.Buffered())
}
