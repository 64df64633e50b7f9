package move

import (
	"path"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Choice says what of a source is brought, and how.
type Choice struct {
	Mailboxes []string          // only those of these names, there or here: "*" stands for anything, "?" for a character
	Exclude   []string          // not those of these
	Since     time.Time         // only messages of this date or later
	Before    time.Time         // only messages of an earlier date
	MaxSize   int64             // only messages of at most so many bytes; 0: of any size
	KeepNames bool              // roles count for nothing: "Sent Items" does not go into "Sent"
	Map       map[string]string // mailbox there -> name here
	// SkipDuplicates: of messages with the same Message-ID and size only the first is brought.
	SkipDuplicates bool
	Order          string  // auto, source or newest; "" is auto
	Bytes          int64   // a second at most; 0: what the source advises
	Messages       float64 // a second at most; 0: what the source advises
}

// Check finds mistakes. Faults: Invalid.
func (c *Choice) Check() error {
	switch c.Order {
	case "", "auto", "source", "newest":
	default:
		return fault.Newf(fault.Invalid, "there is no order %q; it is auto, source or newest", c.Order)
	}
	for _, p := range append(append([]string(nil), c.Mailboxes...), c.Exclude...) {
		if _, err := path.Match(p, ""); err != nil {
			return fault.Newf(fault.Invalid, "%q is no pattern of mailboxes; an example is Archive/*", p)
		}
	}
	if !c.Since.IsZero() && !c.Before.IsZero() && !c.Since.Before(c.Before) {
		return fault.New(fault.Invalid, "nothing is both since and before those times")
	}
	return nil
}

// partial tells whether messages are left out by it.
func (c *Choice) partial() bool {
	return !c.Since.IsZero() || !c.Before.IsZero() || c.MaxSize > 0 || c.SkipDuplicates
}

// leavesBox says why a mailbox is left out, "" if it is not.
func (c *Choice) leavesBox(m *Mailbox) string {
	switch {
	case matchesAny(c.Exclude, m):
		return "excluded"
	case len(c.Mailboxes) > 0 && !matchesAny(c.Mailboxes, m):
		return "not asked for"
	case len(c.Mailboxes) == 0:
		return m.Skip
	}
	return ""
}

func matchesAny(patterns []string, m *Mailbox) bool {
	for _, p := range patterns {
		for _, name := range [...]string{m.Name, m.Source} {
			if matches(strings.ToLower(p), strings.ToLower(name)) {
				return true
			}
		}
	}
	return false
}

// matches is path.Match but that "*" goes over levels, too.
func matches(pattern, name string) bool {
	const level = "\x00"
	ok, err := path.Match(strings.ReplaceAll(pattern, "/", level), strings.ReplaceAll(name, "/", level))
	return ok && err == nil
}

// rename gives a mailbox the name that it is to have here, and tells why it is another one.
func (c *Choice) rename(m *Mailbox) (why string) {
	for _, name := range [...]string{m.Source, m.Name} {
		if to, ok := c.Map[name]; ok {
			m.Name, m.Role, m.Exact = NameHere(to), "", false
			return "as you asked"
		}
	}
	if c.KeepNames && m.Role != mail.RoleInbox {
		m.Role, m.Exact = "", false
	}
	if name := NameHere(m.Name); name != m.Name {
		if !strings.EqualFold(name, m.Name) {
			why = "the name cannot be one here"
		}
		m.Name = name
	}
	return why
}

// leaves says why a message is left out, "" if it is not.
func (c *Choice) leaves(item *Item) string {
	switch {
	case c.MaxSize > 0 && item.Size > c.MaxSize:
		return "larger than asked for"
	case item.Date.IsZero():
	case !c.Since.IsZero() && item.Date.Before(c.Since): // a date may be before the year 1
		return "older than asked for"
	case !c.Before.IsZero() && !item.Date.Before(c.Before):
		return "newer than asked for"
	}
	return ""
}

// inOrder is how many messages a mailbox may have to be read in the source's order unless
// somebody asks for it.
const inOrder = 20_000

// order decides in which order a mailbox is read (docs/decisions/0038).
func (c *Choice) order(m *Mailbox, kept bool, a Advice) Order {
	switch {
	case kept || a.Files || m.Scattered || c.Order == "source":
		return SourceOrder
	case c.Order == "newest" || a.Throttles || m.Messages > inOrder:
		return NewestFirst
	}
	return SourceOrder
}

// twins finds messages that are there twice, by what can be known before they are read. Of
// each it remembers 16 bytes, of two million at most: what it is known by, and whose that is, as
// a mailbox that is read again tells of the same messages.
type twins map[uint64]uint64

const mostTwins = 2 << 20

// again tells whether a message of a mailbox of the source is the twin of another one.
func (t twins) again(mailbox string, item *Item) bool {
	if item.MessageID == "" || item.Size < 0 {
		return false
	}
	h := fnv(fnvBasis, item.MessageID)
	for n := uint64(item.Size); n > 0; n >>= 8 {
		h = (h ^ n&0xff) * fnvPrime
	}
	me := fnv(fnv(fnvBasis, mailbox)*fnvPrime, item.Key) // a zero byte between them
	if first, ok := t[h]; ok {
		return first != me
	}
	if len(t) < mostTwins {
		t[h] = me
	}
	return false
}

// FNV-1a.
const (
	fnvBasis uint64 = 14695981039346656037
	fnvPrime uint64 = 1099511628211
)

func fnv(h uint64, s string) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * fnvPrime
	}
	return h
}
