package imap

import (
	"bufio"
	"errors"
	"io"
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Literal is a literal whose size the client has announced. Reading it gives its
// bytes, from the wire, never more than Size; the command goes on when all are read.
type Literal struct {
	Size    int64
	Binary  bool // ~{n}: may hold NUL (RFC 3516, 4.4)
	NonSync bool // {n+}: the client does not wait for leave (RFC 7888)

	d        *Decoder
	left     int64
	accepted bool
}

// Accept tells the client, if it waits for that, to send the literal. Read does so
// too; Accept alone is for an answer that must come before.
func (l *Literal) Accept() error {
	if l.accepted {
		return nil
	}
	if !l.NonSync {
		if l.d.Continue == nil {
			return fault.New(fault.Invalid, "a literal that waits for leave is not possible here")
		}
		if err := l.d.Continue(); err != nil {
			return err
		}
	}
	l.accepted = true
	l.settle()
	return nil
}

// settle lets the command go on once the literal has been read.
func (l *Literal) settle() {
	if l.left == 0 && l.d.lit == l {
		l.d.lit = nil
		l.d.tail = l.d.tail[:0]
	}
}

// Read reads from the literal. A connection that ends within it gives
// io.ErrUnexpectedEOF, and so does every later use of the decoder.
func (l *Literal) Read(p []byte) (int, error) {
	if err := l.Accept(); err != nil {
		l.d.fault(err)
		return 0, err
	}
	if l.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > l.left {
		p = p[:l.left]
	}
	n, err := l.d.r.Read(p)
	l.left -= int64(n)
	if err != nil && l.left > 0 {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		l.d.fault(err)
		return n, err
	}
	l.settle()
	return n, nil
}

// ExpectLiteral reads the announcement of a literal and hands it over unread. With
// binary, a literal8 will do too. The caller reads it to its end or calls Skip.
func (d *Decoder) ExpectLiteral(out **Literal, binary bool) bool {
	eight := binary && d.Special('~')
	if !d.Special('{') {
		return d.expected("a literal")
	}
	var n uint64
	if !d.number(&n, 1<<63-1, "the size of a literal") {
		return false
	}
	plus := d.Special('+')
	if !d.ExpectSpecial('}') {
		return false
	}
	if !d.CRLF() {
		return d.expected("a line end after the size of a literal")
	}
	d.ended = false // the line ended, not the command
	lit := &Literal{Size: int64(n), Binary: eight, NonSync: plus, d: d, left: int64(n)}
	d.lit = lit
	d.tail = d.tail[:0]
	if plus && d.lim.NonSync > 0 && lit.Size > d.lim.NonSync {
		return d.Fail("a literal of more than " + strconv.FormatInt(d.lim.NonSync, 10) + " bytes must wait for leave")
	}
	*out = lit
	return true
}

// literalString reads a literal into memory, within the limits.
func (d *Decoder) literalString(out *string) bool {
	var lit *Literal
	if !d.ExpectLiteral(&lit, false) {
		return false
	}
	if lit.Size > d.lim.String || d.held+lit.Size > d.lim.Strings {
		return d.Fail("a literal of " + strconv.FormatInt(lit.Size, 10) + " bytes is too large here")
	}
	d.held += lit.Size
	if lit.Size == 0 {
		if err := lit.Accept(); err != nil {
			return d.fault(err)
		}
		*out = ""
		return true
	}
	var b strings.Builder
	b.Grow(int(lit.Size))
	if _, err := io.Copy(&b, struct{ io.Reader }{lit}); err != nil {
		return d.fault(err)
	}
	if strings.IndexByte(b.String(), 0) >= 0 {
		return d.Fail("a NUL in a literal")
	}
	*out = b.String()
	return true
}

// Skip reads the rest of the command, after an error or because it is not wanted,
// so that the next Begin finds the next command. A literal that waits for leave is
// not asked for: the client gives it up when it reads the tagged answer. Literals
// that come unasked are thrown away (RFC 7888, 4). An error of kind TooLarge means
// that there is more of them than is worth reading: say BYE and close.
func (d *Decoder) Skip() error {
	if d.err != nil && fault.Of(d.err) != fault.Invalid && fault.Of(d.err) != fault.Unsupported {
		return d.err // the reader is broken
	}
	budget := d.lim.Discard
	for {
		if l := d.lit; l != nil {
			d.lit = nil
			if !l.NonSync && !l.accepted {
				d.ended = true
				return nil
			}
			if budget -= l.left; budget < 0 {
				return fault.New(fault.TooLarge, "a literal is too large to be skipped")
			}
			if err := d.discard(l.left); err != nil {
				return err
			}
			d.tail = d.tail[:0]
		}
		if d.ended {
			return nil
		}
		if err := d.skipLine(&budget); err != nil {
			return err
		}
		n, plus, ok := announced(d.tail)
		if !ok || !plus {
			d.ended = true
			return nil
		}
		d.lit = &Literal{Size: n, NonSync: true, d: d, left: n}
	}
}

func (d *Decoder) discard(n int64) error {
	for n > 0 {
		k, err := d.r.Discard(int(min(n, 1<<20)))
		n -= int64(k)
		if err != nil {
			return io.ErrUnexpectedEOF
		}
	}
	return nil
}

// skipLine reads up to the next LF, keeping the last bytes before it in d.tail.
func (d *Decoder) skipLine(budget *int64) error {
	for {
		b, err := d.r.ReadSlice('\n')
		if *budget -= int64(len(b)); *budget < 0 {
			return fault.New(fault.TooLarge, "the command is too long to be skipped")
		}
		line := strings.TrimRight(string(b[max(0, len(b)-tailLen-2):]), "\r\n")
		d.advance([]byte(line))
		switch {
		case err == nil:
			return nil
		case errors.Is(err, io.EOF):
			return io.ErrUnexpectedEOF
		case !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
	}
}

// announced tells whether a line ends in the announcement of a literal.
func announced(tail []byte) (size int64, plus, ok bool) {
	s, found := strings.CutSuffix(string(tail), "}")
	open := strings.LastIndexByte(s, '{')
	if !found || open < 0 {
		return 0, false, false
	}
	s, plus = strings.CutSuffix(s[open+1:], "+")
	n, err := strconv.ParseUint(s, 10, 63)
	switch {
	case errors.Is(err, strconv.ErrRange):
		n = 1<<63 - 1
	case err != nil:
		return 0, false, false
	}
	return int64(n), plus, true
}

// Line reads one whole line without its end, at most the line limit: an answer to
// a challenge of AUTHENTICATE, or DONE. Begin is not needed before it.
func (d *Decoder) Line() (string, error) {
	d.Begin()
	b := d.run(func(c byte) bool { return c != '\r' && c != '\n' })
	s := string(b)
	if d.err != nil || !d.ExpectCRLF() {
		return "", d.err
	}
	return s, nil
}
