package pop3d

import (
	"bufio"
	"bytes"
)

// dotWriter writes a message behind a multi-line answer (RFC 1939, 3): a dot at the
// start of a line is doubled, and nothing else is changed. A line starts after CRLF
// alone, as the RFC has it: a strict client undoes no other dots, so doubling one after
// a bare LF would change the message.
//
// But many clients take a bare LF for a line end too, and a message must not be able to
// end its own answer for them. So after a bare LF the dot of a line that is nothing but
// a dot is doubled as well: there a strict client sees a dot too many.
type dotWriter struct {
	w  *bufio.Writer
	at position
	cr bool // inLine: the last byte was CR
}

// position is where in the message the next byte stands.
type position uint8

const (
	lineStart position = iota // after CRLF, or at the very start
	bareStart                 // after a bare LF
	heldDot                   // after a bare LF and a dot that is not written yet
	heldDotCR                 // likewise, and a CR
	inLine
)

func newDotWriter(w *bufio.Writer) *dotWriter { return &dotWriter{w: w} }

// Write takes content of the message.
func (d *dotWriter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		switch {
		case d.at == bareStart && rest[0] == '.':
			d.at, rest = heldDot, rest[1:]
			continue
		case d.at == heldDot && rest[0] == '\r':
			d.at, rest = heldDotCR, rest[1:]
			continue
		}
		d.begin(rest[0])
		n, err := d.line(rest)
		if err != nil {
			return len(p) - len(rest), err
		}
		rest = rest[n:]
	}
	return len(p), nil
}

// begin writes what the start of a line needs before its next byte, which is no part
// of what is held.
func (d *dotWriter) begin(next byte) {
	switch d.at {
	case lineStart:
		if next == '.' {
			d.w.WriteByte('.')
		}
	case heldDot, heldDotCR:
		if next == '\n' {
			d.w.WriteByte('.')
		}
		d.w.WriteByte('.')
		if d.at == heldDotCR {
			d.w.WriteByte('\r')
		}
	}
	if d.at != inLine {
		d.cr = d.at == heldDotCR
	}
	d.at = inLine
}

// line writes to the end of the present line, or all there is.
func (d *dotWriter) line(p []byte) (int, error) {
	n := bytes.IndexByte(p, '\n') + 1
	switch {
	case n == 0:
		n = len(p)
		d.cr = p[n-1] == '\r'
	case n == 1 && d.cr || n > 1 && p[n-2] == '\r':
		d.at = lineStart
	default:
		d.at = bareStart
	}
	return d.w.Write(p[:n])
}

// close writes the last line, after a line end where the message lacks one.
func (d *dotWriter) close() error {
	if d.at != lineStart {
		d.Write([]byte("\r\n"))
	}
	_, err := d.w.WriteString(".\r\n")
	return err
}
