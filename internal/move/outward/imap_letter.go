package outward

import (
	"bufio"
	"bytes"
	"io"

	"github.com/martlet-mail/martlet/internal/move"
)

// letterOut is a message on its way.
type letterOut struct {
	item move.Item
	like like
	text text
}

// asThere is what the message is like at a server. IMAP has lines in CRLF only, so what had
// others is there with another size; and an odd Message-ID is read as imapc reads it.
func (l *letterOut) asThere() like {
	return likeOf(l.text.messageID(), l.text.size+l.text.bare, l.item.Date)
}

// body reads the message with its lines in CRLF.
func (l *letterOut) body() io.Reader {
	if l.text.bare == 0 {
		return l.text.reader()
	}
	return &allCRLF{r: bufio.NewReaderSize(l.text.reader(), 32<<10)}
}

// allCRLF gives each LF that has no CR before it one.
type allCRLF struct {
	r    *bufio.Reader
	last byte
	have []byte
	err  error
}

func (c *allCRLF) Read(p []byte) (int, error) {
	for len(c.have) == 0 {
		if c.err != nil {
			return 0, c.err
		}
		piece, err := c.r.ReadSlice('\n')
		if err != bufio.ErrBufferFull {
			c.err = err
		}
		n := len(piece)
		if n == 0 {
			continue
		}
		before := c.last
		if n > 1 {
			before = piece[n-2]
		}
		if c.last = piece[n-1]; c.last == '\n' && before != '\r' {
			c.have = append(bytes.Clone(piece[:n-1]), '\r', '\n')
		} else {
			c.have = bytes.Clone(piece)
		}
	}
	n := copy(p, c.have)
	c.have = c.have[n:]
	return n, nil
}
