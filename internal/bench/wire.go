package bench

import (
	"bytes"
	"io"

	"github.com/martlet-mail/martlet/internal/fault"
)

// longest is the longest response line that is taken: the threads of some millions of
// messages.
const longest = 256 << 20

// wire reads the responses of an IMAP server. It looks for nothing but the ends of
// lines and literals, in one buffer that is as long as the longest line so far.
type wire struct {
	src      io.Reader
	buf      []byte
	from, to int
	head     []byte // copy of a line whose literals are being passed over
	read     int64  // bytes of responses so far
}

// line reads one response with its literals and returns the bytes of its first line,
// good until the next call.
func (w *wire) line() ([]byte, error) {
	first, err := w.piece()
	if err != nil {
		return nil, err
	}
	n := literal(first)
	if n < 0 {
		return first, nil
	}
	w.head = append(w.head[:0], first...)
	for n >= 0 {
		if err := w.skip(n); err != nil {
			return nil, err
		}
		tail, err := w.piece()
		if err != nil {
			return nil, err
		}
		n = literal(tail)
	}
	return w.head, nil
}

// piece reads up to a line feed.
func (w *wire) piece() ([]byte, error) {
	seen := 0
	for {
		if i := bytes.IndexByte(w.buf[w.from+seen:w.to], '\n'); i >= 0 {
			line := w.buf[w.from : w.from+seen+i+1]
			w.from += len(line)
			w.read += int64(len(line))
			return line, nil
		}
		seen = w.to - w.from
		if err := w.fill(); err != nil {
			return nil, err
		}
	}
}

// skip passes over n bytes.
func (w *wire) skip(n int) error {
	w.read += int64(n)
	for n > w.to-w.from {
		n -= w.to - w.from
		w.from, w.to = 0, 0
		if err := w.fill(); err != nil {
			return err
		}
	}
	w.from += n
	return nil
}

// fill reads more, behind what there is.
func (w *wire) fill() error {
	if w.from > 0 {
		w.to = copy(w.buf, w.buf[w.from:w.to])
		w.from = 0
	}
	if w.to == len(w.buf) {
		if len(w.buf) >= longest {
			return fault.Newf(fault.Invalid, "the IMAP server sent a line of more than %d bytes", longest)
		}
		w.buf = append(w.buf, make([]byte, max(len(w.buf), 512))...)
	}
	n, err := w.src.Read(w.buf[w.to:])
	w.to += n
	if n == 0 && err != nil {
		return fault.Wrap(fault.Unavailable, "the IMAP server ended the connection", err)
	}
	return nil
}

// literal returns the size of the literal that line announces, or -1
// (RFC 9051, 4.3).
func literal(line []byte) int {
	end := len(line)
	for end > 0 && (line[end-1] == '\n' || line[end-1] == '\r') {
		end--
	}
	if end < 3 || line[end-1] != '}' {
		return -1
	}
	n, digit := 0, 1
	for i := end - 2; i >= 0 && digit <= 1e12; i-- {
		switch c := line[i]; {
		case c == '{' && i < end-2:
			return n
		case c < '0' || c > '9':
			return -1
		default:
			n += int(c-'0') * digit
			digit *= 10
		}
	}
	return -1
}
