package smtp

import (
	"bufio"
	"io"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Chunks reads a message that comes in pieces by BDAT (RFC 3030). Nothing in a
// chunk ends it but its length. Unless the message is BINARYMIME the same bytes are
// refused as after DATA, so that it may be passed on by DATA.
type Chunks struct {
	r    *bufio.Reader
	src  *bufio.Reader // of the present chunk: r, or another
	s    scanner
	left int64 // of the present chunk
	last bool  // it is the last
}

// NewChunks returns a reader of a message whose first chunk is yet to begin.
func NewChunks(r *bufio.Reader, o DataOptions) *Chunks {
	return &Chunks{r: r, s: scanner{opt: o}}
}

// Begin tells that a chunk of n bytes begins at the next byte of the reader, and
// whether it is the last; the one before must have been read to its end. A chunk
// that takes the message over MaxSize is a fault from the start, and so nothing of
// it is kept.
func (c *Chunks) Begin(n int64, last bool) { c.BeginFrom(c.r, n, last) }

// BeginFrom is Begin for a chunk that lies somewhere else (BURL, RFC 4468). If its reader
// fails, so does Read.
func (c *Chunks) BeginFrom(src *bufio.Reader, n int64, last bool) {
	c.src, c.left, c.last = src, n, last
	if limit := c.s.opt.MaxSize; limit > 0 && n > limit-c.s.size {
		c.s.fail(errTooLarge())
	}
}

// Read returns content of the present chunk and io.EOF at its end, or there the
// fault that was found in it or in an earlier one: kinds as for DataReader. The
// chunk has then been read up and the session may go on. Limited and other errors
// end the connection.
func (c *Chunks) Read(p []byte) (int, error) {
	for {
		if n := c.s.take(p); n > 0 || len(p) == 0 {
			return n, nil
		}
		if c.left == 0 && c.last && c.s.state == afterCR {
			c.s.state = inLine // a CR at the very end is a bare one
			c.s.bareCR()
			continue
		}
		if c.left == 0 {
			return 0, c.end()
		}
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
}

// Drain reads the rest of the chunk, for a session that has no use for it. It
// returns nil if the session may go on.
func (c *Chunks) Drain() error {
	c.s.fail(io.EOF)
	c.s.out, c.s.given = nil, 0
	for c.left > 0 {
		if err := c.fill(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Chunks) end() error {
	if c.s.bad != nil {
		return c.s.bad
	}
	return io.EOF
}

func (c *Chunks) fill() error {
	chunk, err := buffered(c.src)
	if err != nil {
		return err
	}
	chunk = chunk[:min(int64(len(chunk)), c.left)]
	n := c.s.scan(chunk)
	c.src.Discard(n)
	c.left -= int64(n)
	if c.s.drained() {
		return fault.New(fault.Limited, "message does not end")
	}
	return nil
}
