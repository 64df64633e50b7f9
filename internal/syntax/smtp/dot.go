package smtp

import (
	"bufio"

	"github.com/martlet-mail/martlet/internal/fault"
)

// DotWriter writes a message after DATA: dots doubled at the start of lines, and
// CRLF.CRLF at the end and nowhere else. A bare CR or a bare LF becomes CRLF, so
// that no server down the road can take it for the end of the data. Close ends the
// data; neither flushes the writer below.
type DotWriter struct {
	w     *bufio.Writer
	state scanState
}

// NewDotWriter returns a writer of one message.
func NewDotWriter(w *bufio.Writer) *DotWriter { return &DotWriter{w: w} }

// Write takes content of the message. A NUL, which DATA cannot carry, is a fault of
// kind Invalid; the connection is then of no more use, as the data cannot be ended.
func (d *DotWriter) Write(p []byte) (int, error) {
	for i := 0; i < len(p); {
		if d.state == inLine {
			n := plainRun(p[i:], false)
			if _, err := d.w.Write(p[i : i+n]); err != nil {
				return i, err
			}
			if i += n; i == len(p) {
				break
			}
		}
		if err := d.step(p[i]); err != nil {
			return i, err
		}
		i++
	}
	return len(p), nil
}

func (d *DotWriter) step(c byte) error {
	if d.state == afterCR { // CRLF has been written
		d.state = atLineStart
		if c == '\n' {
			return nil
		}
	}
	switch {
	case c == 0:
		return fault.New(fault.Invalid, "message has a NUL byte, which DATA cannot carry")
	case c == '\r':
		d.state = afterCR
		return d.crlf()
	case c == '\n':
		d.state = atLineStart
		return d.crlf()
	case c == '.' && d.state == atLineStart:
		d.w.WriteByte('.')
	}
	d.state = inLine
	return d.w.WriteByte(c)
}

func (d *DotWriter) crlf() error {
	_, err := d.w.WriteString("\r\n")
	return err
}

// Close writes the end of the data, after a line end where the message lacks one.
func (d *DotWriter) Close() error {
	if d.state == inLine {
		d.crlf()
	}
	_, err := d.w.WriteString(".\r\n")
	return err
}
