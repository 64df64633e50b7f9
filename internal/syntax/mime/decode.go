package mime

import (
	"bytes"
	"io"

	"github.com/martlet-mail/martlet/internal/fault"
)

// NewDecoder returns a reader of r without its transfer encoding, for reading and
// searching (RFC 2045, 6). It never fails by itself: bytes that are no base64 are
// skipped, a "=" that begins no quoted-printable code stays, an unknown encoding is
// passed through. It reads r in pieces of a few KB.
func NewDecoder(transferEncoding string, r io.Reader) io.Reader {
	switch firstToken(transferEncoding) {
	case "base64":
		return &base64Reader{source: source{r: r}}
	case "quoted-printable":
		return &qpReader{source: source{r: r}}
	}
	return r
}

// IsPlain tells whether text is for certain what NewDecoder and ToUTF8 would make of it:
// ASCII under no transfer encoding and in one of the charsets that most mail is in.
func IsPlain(charset, transferEncoding string, text []byte) bool {
	switch firstToken(transferEncoding) {
	case "base64", "quoted-printable":
		return false
	}
	switch charset {
	case "", "us-ascii", "utf-8":
	default:
		return false
	}
	return !has8Bit(text)
}

// BinaryDecoder is NewDecoder for BINARY fetches: an encoding it does not know is a
// fault.Unsupported, which IMAP calls UNKNOWN-CTE (RFC 9051, 7.1).
func BinaryDecoder(transferEncoding string, r io.Reader) (io.Reader, error) {
	switch firstToken(transferEncoding) {
	case "base64", "quoted-printable":
	case "", "7bit", "8bit", "binary":
		return r, nil
	default:
		return nil, fault.New(fault.Unsupported, "the part has a transfer encoding that is not known here")
	}
	return NewDecoder(transferEncoding, r), nil
}

// source hands out r's bytes in pieces.
type source struct {
	r    io.Reader
	buf  [4096]byte
	next []byte
	err  error
}

// fill makes next non-empty, or returns false at the end or on an error.
func (s *source) fill() bool {
	for idle := 0; len(s.next) == 0 && s.err == nil; idle++ {
		var n int
		n, s.err = s.r.Read(s.buf[:])
		s.next = s.buf[:n]
		if n == 0 && s.err == nil && idle > 100 {
			s.err = io.ErrNoProgress
		}
	}
	return len(s.next) > 0
}

type base64Reader struct {
	source
	acc  uint32
	bits uint
}

func (d *base64Reader) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if len(d.next) == 0 {
			if n > 0 {
				break
			}
			if !d.fill() {
				return 0, d.err
			}
		}
		c := d.next[0]
		d.next = d.next[1:]
		if c == '=' { // padding ends a group; another encoded text may follow
			d.bits = 0
			continue
		}
		v := sextet(c)
		if v < 0 {
			continue
		}
		d.acc = d.acc<<6 | uint32(v)
		if d.bits += 6; d.bits >= 8 {
			d.bits -= 8
			p[n] = byte(d.acc >> d.bits)
			n++
		}
	}
	return n, nil
}

// sextet returns the value of a base64 digit, or -1.
func sextet(c byte) int {
	switch {
	case c >= 'A' && c <= 'Z':
		return int(c - 'A')
	case c >= 'a' && c <= 'z':
		return int(c-'a') + 26
	case c >= '0' && c <= '9':
		return int(c-'0') + 52
	case c == '+':
		return 62
	case c == '/':
		return 63
	}
	return -1
}

// maxSpaces bounds the white space kept until it is known whether a line ends after
// it; more is passed on.
const maxSpaces = 1024

// qpReader decodes quoted-printable one byte at a time through a small state.
type qpReader struct {
	source
	out    []byte // decoded, not yet read
	spaces []byte // white space that goes if the line ends (RFC 2045, 6.7, rule 3)
	code   []byte // "=" and what followed it, while undecided
}

func (d *qpReader) Read(p []byte) (int, error) {
	for len(d.out) == 0 && len(p) > 0 {
		d.out = d.out[:0]
		if !d.fill() {
			if len(d.code) == 0 && len(d.spaces) == 0 {
				return 0, d.err
			}
			d.finish()
			break
		}
		piece := d.next[:min(len(d.next), 1024)]
		d.next = d.next[len(piece):]
		for _, c := range piece {
			d.byte(c)
		}
	}
	n := copy(p, d.out)
	d.out = d.out[n:]
	if n == 0 && len(p) > 0 {
		return 0, d.err
	}
	return n, nil
}

func (d *qpReader) byte(c byte) {
	if len(d.code) > 0 {
		d.inCode(c)
		return
	}
	switch c {
	case '=':
		d.flush()
		d.code = append(d.code, c)
	case ' ', '\t':
		if len(d.spaces) >= maxSpaces {
			d.flush()
		}
		d.spaces = append(d.spaces, c)
	case '\r':
		d.flushBefore(c)
	case '\n':
		// The CR of the ending waits with the white space before it.
		crlf := bytes.HasSuffix(d.spaces, []byte("\r"))
		d.spaces = d.spaces[:0]
		if crlf {
			d.out = append(d.out, '\r')
		}
		d.out = append(d.out, '\n')
	default:
		d.flush()
		d.out = append(d.out, c)
	}
}

// flushBefore keeps one CR at the end of the waiting white space.
func (d *qpReader) flushBefore(c byte) {
	if bytes.HasSuffix(d.spaces, []byte("\r")) || len(d.spaces) >= maxSpaces {
		d.flush()
	}
	d.spaces = append(d.spaces, c)
}

func (d *qpReader) flush() {
	d.out = append(d.out, d.spaces...)
	d.spaces = d.spaces[:0]
}

// inCode decides about "=" and what follows: a code, a soft line break with white
// space before it, or nothing, and then the bytes stay as they are.
func (d *qpReader) inCode(c byte) {
	first := byte(0)
	if len(d.code) > 1 {
		first = d.code[1]
	}
	blank := first == ' ' || first == '\t' || first == '\r'
	switch {
	case c == '\n' && (first == 0 || blank):
		d.code = d.code[:0] // soft line break
	case (c == ' ' || c == '\t' || c == '\r') && (first == 0 || blank) && len(d.code) < maxSpaces:
		d.code = append(d.code, c)
	case first == 0 && unhex(c) >= 0:
		d.code = append(d.code, c)
	case first != 0 && !blank && unhex(c) >= 0:
		d.out = append(d.out, byte(unhex(first)<<4|unhex(c)))
		d.code = d.code[:0]
	default:
		d.out = append(d.out, d.code...)
		d.code = d.code[:0]
		d.byte(c)
	}
}

// finish puts out what waits at the end. A lone "=" there is a soft line break.
func (d *qpReader) finish() {
	if len(bytes.TrimRight(d.code, " \t\r")) > 1 {
		d.out = append(d.out, d.code...)
	}
	if bytes.HasSuffix(d.spaces, []byte("\r")) {
		d.out = append(d.out, '\r')
	}
	d.code, d.spaces = d.code[:0], d.spaces[:0]
}
