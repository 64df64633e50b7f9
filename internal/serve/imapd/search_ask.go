package imapd

import (
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// verdict is what a condition says of a message as far as it has been read.
type verdict uint8

const (
	unmet verdict = iota
	open          // cannot be said yet
	met
)

func verdictOf(b bool) verdict {
	if b {
		return met
	}
	return unmet
}

// cond is one condition of a search, ready to be asked.
type cond struct {
	op     imap.SearchOp
	kids   []cond
	uids   mail.UIDSet               // of sets: which messages
	row    func(*store.Message) bool // if not nil, all there is to it
	marks  bool                      // it is about flags and keywords alone
	field  string
	text   string    // folded
	titled bool      // it is the subject's
	sought []byte    // the text, if so
	from   time.Time // of dates sent: the day's first moment
	needle int       // of texts: which of the search's needles
	grams  []uint32  // of the text
	loose  bool      // matches by its words, too (RFC 6203)
	words  []word    // of the text, if so
}

// ask says whether a message meets the condition, as far as it has been read.
func (c *cond) ask(m *candidate) verdict {
	if c.row != nil {
		return verdictOf(c.row(&m.m))
	}
	switch c.op {
	case imap.SearchAnd:
		return c.askAll(m)
	case imap.SearchOr:
		return c.askAny(m)
	case imap.SearchNot:
		return met - c.kids[0].ask(m)
	case imap.SearchFuzzy:
		return c.kids[0].ask(m)
	}
	if m.title != nil {
		if v := c.askTitle(m.title); v != open {
			return v
		}
	}
	switch {
	case m.header == nil && m.filters != nil:
		return c.sift(m.filters)
	case m.header == nil:
		return open
	case len(c.words) > 0:
		return c.askLoosely(m)
	}
	return c.askRead(m)
}

// askAll is ask of conditions that must all be met: the worst that is said of any.
func (c *cond) askAll(m *candidate) verdict {
	all := met
	for i := range c.kids {
		if all = min(all, c.kids[i].ask(m)); all == unmet {
			break
		}
	}
	return all
}

// askAny is ask of conditions one of which must be met: the best that is said of any.
func (c *cond) askAny(m *candidate) verdict {
	one := unmet
	for i := range c.kids {
		if one = max(one, c.kids[i].ask(m)); one == met {
			break
		}
	}
	return one
}

// askRead is ask of a message whose header has been read, and perhaps its texts.
func (c *cond) askRead(m *candidate) verdict {
	switch c.op {
	case imap.SearchHeader:
		return verdictOf(m.header.has(c.field, c.text))
	case imap.SearchAddress:
		return verdictOf(m.header.has(c.field, c.text) || m.header.addressed(c.field, c.text))
	case imap.SearchAttachment:
		return verdictOf(m.attached)
	case imap.SearchFilename:
		return verdictOf(m.hasFile(c.text))
	case imap.SearchText:
		if m.header.contains(c.text) {
			return met
		}
		fallthrough
	case imap.SearchBody:
		if m.texts == nil {
			return open
		}
		return verdictOf(m.texts[c.needle])
	}
	return open // a date of sending: keys say all
}

// sent tests the Date field, whose day is the one its sender wrote. A message
// without a date has none of these.
func (c *cond) sent(at time.Time) bool {
	if at.IsZero() {
		return false
	}
	day := time.Date(at.Year(), at.Month(), at.Day(), 0, 0, 0, 0, time.UTC)
	switch c.op {
	case imap.SearchSentBefore:
		return day.Before(c.from)
	case imap.SearchSentOn:
		return day.Equal(c.from)
	}
	return !day.Before(c.from)
}
