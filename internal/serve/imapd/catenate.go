package imapd

import (
	"io"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// putTogether takes in a message that is made of parts: bytes the client sends and
// bytes of messages that are here already (RFC 4469). No part is held whole.
func (s *session) putTogether(room *int64) (*store.Arrival, error) {
	parts := &catenation{s: s, room: *room}
	defer parts.close()
	read, err := s.srv.opt.Store.Read(s.ctx, parts)
	switch {
	case err == nil && parts.size == 0:
		return nil, fault.New(fault.Invalid, "an empty message is not taken in")
	case err == nil:
		*room -= parts.size
	}
	return read, err
}

// catenation reads the parts of one message one after the other. It reads the command
// line as it goes, so that a URL is judged before the literal after it is asked for.
type catenation struct {
	s    *session
	last *imap.CatPart
	open io.ReadCloser // the part being read; nil before the first and between parts
	size int64         // bytes read so far
	room int64         // bytes that the quota leaves
	err  error
}

// Read reads from the part that is open, or opens the next.
func (c *catenation) Read(p []byte) (int, error) {
	for c.err == nil {
		if c.open == nil {
			c.next()
			continue
		}
		n, err := c.open.Read(p)
		if c.size += int64(n); c.size > c.room {
			c.err = fault.New(fault.OverQuota, "the account is full")
			break
		}
		if err == io.EOF {
			err = c.close()
		}
		c.err = err
		if n > 0 {
			return n, nil
		}
	}
	return 0, c.err
}

func (c *catenation) close() error {
	if c.open == nil {
		return nil
	}
	err := c.open.Close()
	c.open = nil
	return err
}

// next opens the next part; at the end of the list it sets io.EOF.
func (c *catenation) next() {
	d := c.s.dec
	var part imap.CatPart
	if !d.NextCatPart(c.last, &part) {
		if c.err = d.Err(); c.err == nil {
			c.err = io.EOF
		}
		return
	}
	c.last = &part
	if part.Data == nil {
		c.open, c.err = c.s.openURL(part.URL)
		return
	}
	most := c.s.srv.opt.Store.MaxMessage()
	if part.Data.Size > most-c.size {
		c.err = fault.Newf(fault.TooLarge, "a message may have %d bytes", most)
		return
	}
	if part.Data.Size == 0 { // nothing will be read, and it must be asked for
		c.err = part.Data.Accept()
		return
	}
	c.open = io.NopCloser(part.Data)
}

// openURL opens the bytes that a URL of the client's own mail means. Whatever is wrong
// with it is told as BADURL (RFC 4469, 4.1); absolute URLs, even of this server, are
// not for APPEND (RFC 4469, 3).
func (s *session) openURL(text string) (io.ReadCloser, error) {
	u, err := imap.ParseURL(text)
	if err == nil && (u.Absolute || u.Access != imap.AccessNone) {
		err = fault.New(fault.Unsupported, "the URL must be a relative one")
	}
	var name string
	if err == nil {
		name, err = s.mailboxOf(&u)
	}
	var at place
	if err == nil {
		if at, err = s.place(name); fault.Is(err, fault.NotFound) {
			err = errNoURL()
		}
	}
	var p *pointed
	if err == nil {
		p, err = follow(s.ctx, &at, &u)
	}
	switch fault.Of(err) {
	case fault.Invalid, fault.Unsupported, fault.NotFound:
		return nil, coded("BADURL "+imap.URLText(text), err)
	}
	if err != nil {
		return nil, err
	}
	r, _, err := p.open(s.ctx)
	return r, err
}
