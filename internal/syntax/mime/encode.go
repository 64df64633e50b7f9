package mime

import (
	"bufio"
	"encoding/base64"
	"io"
)

// maxEncodedLine is the longest line of an encoded body in bytes without the line
// ending (RFC 2045, 6.7 and 6.8).
const maxEncodedLine = 76

// newEncoder returns a writer that puts base64, or else quoted-printable, on what is
// written, for w. Close writes what is left; it adds no line ending.
func newEncoder(transferEncoding string, w *bufio.Writer) io.WriteCloser {
	if transferEncoding == "base64" {
		return base64.NewEncoder(base64.StdEncoding, &lineBreaker{w: w})
	}
	return &qpWriter{w: w}
}

// lineBreaker cuts what is written into lines.
type lineBreaker struct {
	w   *bufio.Writer
	col int
}

func (l *lineBreaker) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		if l.col == maxEncodedLine {
			l.w.WriteString("\r\n")
			l.col = 0
		}
		k := min(len(b), maxEncodedLine-l.col)
		if _, err := l.w.Write(b[:k]); err != nil {
			return 0, err
		}
		l.col += k
		b = b[k:]
	}
	return n, nil
}

// qpWriter encodes text as quoted-printable (RFC 2045, 6.7). CRLF stays the end of a
// line; a bare CR or LF is a byte like others, so that decoding gives the same bytes.
// No line of the result begins with "--": it can never be a delimiter.
type qpWriter struct {
	w     *bufio.Writer
	col   int
	space byte // white space that waits for what comes after it, or 0
	cr    bool // a CR waits likewise, after space
	dash  bool // the line so far is "-"
	fold  bool // a soft line break comes before the next byte
}

func (q *qpWriter) Write(b []byte) (int, error) {
	for _, c := range b {
		q.byte(c)
	}
	// An error of w stays until its Flush.
	return len(b), nil
}

func (q *qpWriter) byte(c byte) {
	if q.cr {
		q.cr = false
		if c == '\n' {
			q.escapeSpace()
			q.w.WriteString("\r\n")
			q.col, q.dash, q.fold = 0, false, false
			return
		}
		q.plainSpace()
		q.escape('\r')
	}
	switch c {
	case '\r':
		q.cr = true
		return
	case ' ', '\t':
		q.plainSpace()
		q.space = c
		return
	}
	q.plainSpace()
	switch {
	case c == '\n': // a line end all the same to the person who reads
		q.escape(c)
		q.fold = true
	case c == '=' || c < ' ' || c > '~' || c == '-' && q.dash && q.col == 1:
		q.escape(c)
	default:
		q.plain(c)
	}
}

// room makes room for n bytes on the line, and for the "=" of a soft line break.
func (q *qpWriter) room(n int) {
	if q.fold || q.col+n > maxEncodedLine-1 {
		q.w.WriteString("=\r\n")
		q.col, q.fold = 0, false
	}
	q.dash = false
	q.col += n
}

func (q *qpWriter) plain(c byte) {
	q.room(1)
	q.dash = c == '-' && q.col == 1
	q.w.WriteByte(c)
}

func (q *qpWriter) escape(c byte) {
	const digits = "0123456789ABCDEF"
	q.room(3)
	q.w.WriteByte('=')
	q.w.WriteByte(digits[c>>4])
	q.w.WriteByte(digits[c&15])
}

func (q *qpWriter) plainSpace() {
	if c := q.space; c != 0 {
		q.space = 0
		q.plain(c)
	}
}

// escapeSpace writes white space at the end of a line, which would be lost.
func (q *qpWriter) escapeSpace() {
	if c := q.space; c != 0 {
		q.space = 0
		q.escape(c)
	}
}

// Close writes what waits.
func (q *qpWriter) Close() error {
	if q.cr {
		q.plainSpace()
		q.escape('\r')
	}
	q.escapeSpace()
	return nil
}
