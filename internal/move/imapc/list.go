package imapc

import (
	"context"
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

func uintString(n uint64) string { return strconv.FormatUint(n, 10) }

// maxMailboxes is how many mailboxes a server may list.
const maxMailboxes = 200_000

// List lists all mailboxes there are, with roles, what is subscribed, and what LIST-STATUS
// gives with it, if the server knows that (RFC 5258; 6154; 5819). An older one is asked by
// LIST or XLIST, and LSUB.
func (c *Client) List(ctx context.Context) ([]Mailbox, error) {
	l := lister{c: c, at: map[string]int{}}
	line, word := `LIST "" "*"`, "LIST"
	extended := c.Capable("LIST-EXTENDED") || c.Capable("IMAP4REV2")
	switch {
	case extended:
		line += " RETURN (SUBSCRIBED" + c.listReturn() + ")"
	case c.Capable("XLIST") && !c.Capable("SPECIAL-USE"):
		line, word = `XLIST "" "*"`, "XLIST"
	}
	err := l.ask(ctx, line, word, l.add)
	if err != nil && c.dead == nil && (extended || word == "XLIST") && ProblemOf(err) == Bad {
		extended = false
		err = l.ask(ctx, `LIST "" "*"`, "LIST", l.add)
	}
	if err != nil {
		return nil, err
	}
	if !extended {
		if c.Capable("SPECIAL-USE") && !l.roles() && c.Capable("LIST-EXTENDED") {
			l.ask(ctx, `LIST (SPECIAL-USE) "" "*"`, "LIST", l.add)
		}
		if err := l.ask(ctx, `LSUB "" "*"`, "LSUB", l.subscribe); err != nil && c.dead != nil {
			return nil, err
		}
	}
	if c.dead != nil {
		return nil, c.dead
	}
	return l.all, nil
}

// listReturn are further words for RETURN.
func (c *Client) listReturn() (words string) {
	if c.Capable("SPECIAL-USE") || c.Capable("IMAP4REV2") {
		words += " SPECIAL-USE"
	}
	if c.Capable("LIST-STATUS") || c.Capable("IMAP4REV2") {
		words += " STATUS (" + c.statusItems() + ")"
	}
	return words
}

func (c *Client) statusItems() string {
	items := "MESSAGES UIDNEXT UIDVALIDITY UNSEEN"
	if c.Capable("STATUS=SIZE") || c.Capable("IMAP4REV2") {
		items += " SIZE"
	}
	if c.Capable("CONDSTORE") || c.Capable("QRESYNC") {
		items += " HIGHESTMODSEQ"
	}
	return items
}

// lister collects what LIST says.
type lister struct {
	c   *Client
	all []Mailbox
	at  map[string]int // Wire to place in all

	lines int
}

func (l *lister) ask(ctx context.Context, line, word string, add func(Mailbox)) error {
	p := l.c.command(word, line)
	p.untagged = func(w string) bool {
		switch w {
		case word, "LIST":
			add(l.c.readMailbox())
			return true
		case "STATUS":
			l.status(l.c.readStatusData())
			return true
		}
		return false
	}
	return l.c.wait(ctx, p)
}

func (l *lister) add(m Mailbox) {
	if l.c.s.err != nil {
		return
	}
	if l.lines++; l.lines > 3*maxMailboxes { // the same ones, again and again
		l.c.s.fail("more than %d mailboxes", maxMailboxes)
		return
	}
	if i, again := l.at[m.Wire]; again { // two LISTs, of which one has more to say
		old := &l.all[i]
		old.NoSelect, old.Subscribed, old.NoChildren = old.NoSelect || m.NoSelect, old.Subscribed || m.Subscribed, old.NoChildren || m.NoChildren
		if old.Role == "" {
			old.Role = m.Role
		}
		return
	}
	if len(l.all) >= maxMailboxes {
		l.c.s.fail("more than %d mailboxes", maxMailboxes)
		return
	}
	l.at[m.Wire] = len(l.all)
	l.all = append(l.all, m)
}

func (l *lister) subscribe(m Mailbox) {
	if i, ok := l.at[m.Wire]; ok {
		l.all[i].Subscribed = true
	}
}

func (l *lister) status(wire string, st *Status) {
	if i, ok := l.at[wire]; ok {
		l.all[i].Status = st
	}
}

func (l *lister) roles() bool {
	for _, m := range l.all {
		if m.Role != "" && m.Role != mail.RoleInbox {
			return true
		}
	}
	return false
}

// readMailbox reads what follows LIST: attributes, separator, name, extended items.
func (c *Client) readMailbox() Mailbox {
	s := &c.s
	var m Mailbox
	s.list(func() {
		a := s.atom()
		if len(m.Attributes) < 100 {
			m.Attributes = append(m.Attributes, a)
		}
		switch strings.ToLower(a) {
		case `\noselect`, `\nonexistent`:
			m.NoSelect = true
		case `\noinferiors`:
			m.NoChildren = true
		case `\subscribed`:
			m.Subscribed = true
		case `\allmail`: // XLIST
			m.Role = mail.RoleAll
		case `\spam`:
			m.Role = mail.RoleJunk
		case `\starred`:
			m.Role = mail.RoleFlagged
		case `\inbox`:
			m.Role = mail.RoleInbox
		default:
			if r := mail.SpecialUse(a); r != "" && m.Role == "" {
				m.Role = r
			}
		}
	})
	s.space()
	if sep, ok := s.nstring(); ok && len(sep) == 1 {
		m.Separator = sep[0]
	}
	s.space()
	m.Wire = c.wireName(s.name())
	m.Name = decodeName(m.Wire, false)
	if strings.EqualFold(m.Wire, "INBOX") {
		m.Role = mail.RoleInbox
	}
	return m
}

// wireName returns a name as the server sent it in the form of Mailbox.Wire: modified UTF-7
// also if the server writes UTF-8.
func (c *Client) wireName(sent string) string {
	if c.utf8 {
		return imap.EncodeUTF7(sent)
	}
	return sent
}

// sendName returns a name of that form as the server is to be sent it.
func (c *Client) sendName(wire string) string {
	if c.utf8 {
		if name, err := imap.DecodeUTF7(wire); err == nil {
			wire = name
		}
	}
	return wire
}

// decodeName returns the UTF-8 of a name, or the name as it is if it has none.
func decodeName(wire string, isUTF8 bool) string {
	if isUTF8 {
		return wire
	}
	if name, err := imap.DecodeUTF7(wire); err == nil {
		return name
	}
	return wire
}

// mailbox returns a mailbox's name as an argument. What it needs a literal for goes as
// {n+}, which the few servers that have such names know; without that it fails.
func (c *Client) mailbox(wire string) (string, error) {
	name := c.sendName(wire)
	for i := 0; i < len(name); i++ {
		if name[i] == '\r' || name[i] == '\n' || name[i] == 0 {
			if !c.literalPlus(len(name)) {
				return "", state("the mailbox's name has a line end, and the server takes no literals unasked")
			}
			return "{" + strconv.Itoa(len(name)) + "+}\r\n" + name, nil
		}
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`, nil
}

// literalPlus tells whether a literal of n bytes may be sent without leave (RFC 7888).
func (c *Client) literalPlus(n int) bool {
	return c.Capable("LITERAL+") || (c.Capable("LITERAL-") || c.Capable("IMAP4REV2")) && n <= 4096
}

// readStatusData reads what follows STATUS.
func (c *Client) readStatusData() (string, *Status) {
	s := &c.s
	wire := c.wireName(s.name())
	st := &Status{Size: -1}
	s.space()
	s.list(func() {
		item := strings.ToUpper(s.atom())
		s.space()
		n := s.number()
		switch item {
		case "MESSAGES":
			st.Messages = uint32(n)
		case "UIDNEXT":
			st.UIDNext = uint32(n)
		case "UIDVALIDITY":
			st.UIDValidity = uint32(n)
		case "UNSEEN":
			st.Unseen = uint32(n)
		case "HIGHESTMODSEQ":
			st.ModSeq = n
		case "SIZE":
			st.Size = int64(n &^ (1 << 63))
		}
	})
	return wire, st
}

// Status asks for the status of mailboxes, all at once. The answers are in the order of the
// names; nil where the server refuses.
func (c *Client) Status(ctx context.Context, wires ...string) ([]*Status, error) {
	out := make([]*Status, len(wires))
	for from := 0; from < len(wires); from += 50 {
		if err := c.statusOf(ctx, wires[from:min(from+50, len(wires))], out[from:]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (c *Client) statusOf(ctx context.Context, wires []string, out []*Status) error {
	pending := make([]*Pending, len(wires))
	for i, w := range wires {
		name, err := c.mailbox(w)
		if err != nil {
			continue
		}
		pending[i] = c.command("STATUS", "STATUS ", name, " (", c.statusItems(), ")")
		pending[i].untagged = on("STATUS", func() {
			// Answers come in order, but a server may spell the name otherwise (INBOX).
			_, out[i] = c.readStatusData()
		})
	}
	for _, p := range pending {
		if p == nil {
			continue
		}
		if err := c.wait(ctx, p); err != nil && c.dead != nil {
			return err
		}
	}
	return nil
}

// Namespaces asks for them; none if the server does not know the command.
func (c *Client) Namespaces(ctx context.Context) (ns Namespaces, err error) {
	if !c.Capable("NAMESPACE") && !c.Capable("IMAP4REV2") {
		return ns, nil
	}
	p := c.command("NAMESPACE", "NAMESPACE")
	p.untagged = on("NAMESPACE", func() {
		for i, out := range []*[]Namespace{&ns.Personal, &ns.Others, &ns.Shared} {
			if i > 0 {
				c.s.space()
			}
			*out = c.readNamespaces()
		}
	})
	if err = c.wait(ctx, p); err != nil && c.dead == nil {
		err = nil
	}
	return ns, err
}

func (c *Client) readNamespaces() (out []Namespace) {
	s := &c.s
	if s.peek() != '(' {
		s.nstring()
		return nil
	}
	s.list(func() {
		var n Namespace
		i := 0
		s.list(func() {
			switch i++; i {
			case 1:
				n.Prefix = c.wireName(s.astring())
			case 2:
				if sep, ok := s.nstring(); ok && len(sep) == 1 {
					n.Separator = sep[0]
				}
			default:
				s.value()
			}
		})
		if len(out) < 100 {
			out = append(out, n)
		}
	})
	return out
}
