package pop3d

import (
	"bufio"
	"bytes"
)

// dotWriter writes a message behind a multi-line answer (RFC 1939, 3): a dot at the
// start of a line is doubled, and nothing else is changed. A line starts after a bare
// LF too: many clients read it so, and a message must not be able to end its own
// answer for them.
type dotWriter struct {
	w     *bufio.Writer
	start bool // at the start of a line
	last  [2]byte
}

func newDotWriter(w *bufio.Writer) *dotWriter {
	return &dotWriter{w: w, start: true, last: [2]byte{'\r', '\n'}}
}

// Write takes content of the message.
func (d *dotWriter) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		rest := p[done:]
		if d.start && rest[0] == '.' {
			d.w.WriteByte('.')
		}
		n := bytes.IndexByte(rest, '\n') + 1
		d.start = n > 0
		if n == 0 {
			n = len(rest)
		}
		if _, err := d.w.Write(rest[:n]); err != nil {
			return done, err
		}
		done += n
	}
	switch n := len(p); {
	case n >= 2:
		d.last = [2]byte(p[n-2:])
	case n == 1:
		d.last = [2]byte{d.last[1], p[0]}
	}
	return done, nil
}

// close writes the last line, after a line end where the message lacks one.
func (d *dotWriter) close() error {
	if d.last != [2]byte{'\r', '\n'} {
		d.w.WriteString("\r\n")
	}
	_, err := d.w.WriteString(".\r\n")
	return err
}
