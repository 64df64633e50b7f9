package imapc

import (
	"strings"

	"github.com/martlet-mail/martlet/internal/mail"
)

// data reads an untagged response, after "* ".
func (c *Client) data() {
	s := &c.s
	if d := s.peek(); d >= '0' && d <= '9' {
		n := s.number()
		s.space()
		c.numbered(n, strings.ToUpper(s.atom()))
		return
	}
	word := strings.ToUpper(s.atom())
	if s.err != nil {
		return
	}
	switch word {
	case "OK", "NO", "BAD", "PREAUTH", "BYE":
		c.untaggedStatus(c.readStatus(word))
		return
	case "CAPABILITY":
		s.spaces()
		c.readCapabilities(&atomBytes)
	case "VANISHED":
		c.vanished()
	case "ENABLED":
		for s.err == nil && !s.atLineEnd() {
			if s.take(' ') {
				continue
			}
			c.enabled(strings.ToUpper(s.atom()))
		}
	default:
		s.spaces()
		for _, p := range c.queue {
			if p.untagged != nil && p.untagged(word) {
				break
			}
		}
	}
	s.rest()
}

func (c *Client) untaggedStatus(st status) {
	switch st.word {
	case "BYE":
		c.bye = st
		return
	case "NO", "BAD":
		if st.code != "" && judge(st, false) == Throttled {
			c.alert = st.text
		}
	}
	for _, p := range c.queue {
		if p.untagged != nil {
			p.st = st
			if p.untagged("[" + st.code + "]") {
				break
			}
		}
	}
}

func (c *Client) enabled(name string) {
	switch name {
	case "QRESYNC":
		c.qresync = true
	case "UTF8=ACCEPT", "UTF8=ONLY", "IMAP4REV2":
		c.utf8 = true
	}
}

// numbered reads a response that begins with a number.
func (c *Client) numbered(n uint64, word string) {
	s := &c.s
	if s.err == nil && n > 1<<32-1 {
		s.fail("a message number is too large")
		return
	}
	switch word {
	case "FETCH":
		s.space()
		c.fetched(uint32(n))
		s.crlf()
		return
	case "EXISTS":
		if c.sel != nil {
			c.sel.Exists = uint32(n)
		}
		c.tell(News{Exists: uint32(n)})
	case "EXPUNGE":
		if c.sel != nil && c.sel.Exists > 0 {
			c.sel.Exists--
		}
		c.tell(News{Expunged: uint32(n)})
	}
	s.rest()
}

func (c *Client) tell(n News) {
	if c.news != nil {
		c.news(n)
	}
}

// vanished reads VANISHED, with or without EARLIER (RFC 7162, 3.2.10).
func (c *Client) vanished() {
	s := &c.s
	s.space()
	early := false
	if s.peek() == '(' {
		s.list(func() { early = strings.EqualFold(s.atom(), "EARLIER") || early })
		s.spaces()
	}
	var set mail.UIDSet
	s.set(&set)
	if s.err != nil {
		return
	}
	if early && c.selecting() != nil {
		for _, r := range set {
			c.sel.Vanished.AddRange(r.From, r.To)
		}
		return
	}
	c.tell(News{Vanished: set})
}

// selecting returns the SELECT that is under way.
func (c *Client) selecting() *Pending {
	for _, p := range c.queue {
		if p.name == "SELECT" {
			return p
		}
	}
	return nil
}

// on returns a function for Pending.untagged that reads one kind of response.
func on(word string, read func()) func(string) bool {
	return func(w string) bool {
		if w != word {
			return false
		}
		read()
		return true
	}
}
