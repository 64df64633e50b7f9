package imapc

import (
	"context"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// Select opens a mailbox. With how.Since the server tells what has changed, if it knows
// QRESYNC (Selected.Resynced) and the UIDVALIDITY is still the same.
func (c *Client) Select(ctx context.Context, wire string, how Select) (*Selected, error) {
	if c.dead != nil {
		return nil, c.dead
	}
	name, err := c.mailbox(wire)
	if err != nil {
		return nil, err
	}
	line := "SELECT "
	if how.ReadOnly {
		line = "EXAMINE "
	}
	line += name
	since := how.Since
	switch {
	case since != nil && since.ModSeq > 0 && c.qresync:
		line += " (QRESYNC (" + uintString(uint64(since.UIDValidity)) + " " + uintString(since.ModSeq)
		if known := since.Known.String(); known != "" && len(known) < 8000 {
			line += " " + known
		}
		line += "))"
	case c.Capable("CONDSTORE") || c.Capable("QRESYNC"):
		line += " (CONDSTORE)"
		since = nil
	default:
		since = nil
	}
	sel := &Selected{Keywords: true, ReadOnly: how.ReadOnly}
	c.sel = sel
	p := c.command("SELECT", line)
	p.untagged = func(word string) bool { return c.selectData(sel, p, word) }
	if err := c.wait(ctx, p); err != nil {
		c.sel, c.selName = nil, ""
		return nil, err
	}
	c.selName = wire
	if p.st.code == "READ-ONLY" {
		sel.ReadOnly = true
	}
	sel.Resynced = since != nil && since.UIDValidity == sel.UIDValidity && sel.ModSeq > 0
	if !sel.Resynced {
		sel.Changed, sel.Vanished = nil, nil
	}
	return sel, nil
}

// selectData takes what SELECT says on the way.
func (c *Client) selectData(sel *Selected, p *Pending, word string) bool {
	number := func() uint64 {
		var n uint64
		for _, d := range p.st.args {
			if d < '0' || d > '9' || n > 1<<59 {
				break
			}
			n = n*10 + uint64(d-'0')
		}
		return n
	}
	switch word {
	case "[UIDVALIDITY]":
		sel.UIDValidity = uint32(number())
	case "[UIDNEXT]":
		sel.UIDNext = uint32(number())
	case "[HIGHESTMODSEQ]":
		if c.Capable("CONDSTORE") || c.Capable("QRESYNC") {
			sel.ModSeq = number()
		}
	case "[NOMODSEQ]":
		sel.ModSeq = 0
	case "[CLOSED]":
		// What came before was of the mailbox that is left.
		uid, next, mod := sel.UIDValidity, sel.UIDNext, sel.ModSeq
		*sel = Selected{Keywords: true, ReadOnly: sel.ReadOnly, UIDValidity: uid, UIDNext: next, ModSeq: mod}
	case "[PERMANENTFLAGS]":
		sel.Keywords = strings.Contains(p.st.args, `\*`)
		for _, f := range strings.Fields(strings.Trim(p.st.args, "()")) {
			sel.Permanent |= mail.SystemFlag(f)
		}
	default:
		return false
	}
	return true
}

// Selected returns the mailbox that is open, "" if none is.
func (c *Client) Selected() string { return c.selName }

// Search finds messages of the open mailbox by criteria of SEARCH, such as "UID 5:*" or
// "DELETED". A server that offers ESEARCH and answers with other things than it was asked
// for, as iCloud does with a count alone, is asked without from then on.
func (c *Client) Search(ctx context.Context, criteria string) (mail.UIDSet, error) {
	if !c.plainSearch && (c.Capable("ESEARCH") || c.Capable("IMAP4REV2")) {
		found, asked, err := c.search(ctx, "UID SEARCH RETURN (ALL) ", criteria)
		if err != nil && ProblemOf(err) != Bad || err == nil && asked {
			return found, err
		}
		c.plainSearch = true
	}
	return c.PlainSearch(ctx, criteria)
}

// PlainSearch is Search as it was before ESEARCH.
func (c *Client) PlainSearch(ctx context.Context, criteria string) (mail.UIDSet, error) {
	found, _, err := c.search(ctx, "UID SEARCH ", criteria)
	return found, err
}

// search tells also whether the server answered what it was asked for.
func (c *Client) search(ctx context.Context, verb, criteria string) (found mail.UIDSet, asked bool, err error) {
	if c.dead != nil {
		return nil, false, c.dead
	}
	p := c.command("SEARCH", verb, criteria)
	p.untagged = func(word string) bool {
		switch word {
		case "SEARCH":
			c.s.set(&found)
			c.searchModSeq()
			asked = true
		case "ESEARCH":
			asked = c.esearch(&found)
		default:
			return false
		}
		return true
	}
	err = c.wait(ctx, p)
	return found, asked, err
}

// searchModSeq skips "(MODSEQ n)" (RFC 7162, 3.1.5).
func (c *Client) searchModSeq() {
	if c.s.spaces(); c.s.peek() == '(' {
		c.s.list(c.s.value)
	}
}

// esearch reads what follows ESEARCH (RFC 4731, 3.1). Without a result it has neither ALL nor
// anything else.
func (c *Client) esearch(found *mail.UIDSet) (asked bool) {
	s := &c.s
	asked = true
	if s.peek() == '(' {
		s.list(s.value)
		s.spaces()
	}
	for s.err == nil && !s.atLineEnd() {
		switch strings.ToUpper(s.atom()) {
		case "UID":
		case "ALL":
			s.spaces()
			s.set(found)
			asked = true
		case "MODSEQ":
			s.spaces()
			s.value()
		default:
			asked = asked && len(*found) > 0
			s.spaces()
			s.value()
		}
		s.spaces()
	}
	return asked
}

// Storing says what Store does with flags.
type Storing string

const (
	SetFlags    Storing = "FLAGS"
	AddFlags    Storing = "+FLAGS"
	RemoveFlags Storing = "-FLAGS"
)

// Store changes flags of messages of the open mailbox.
func (c *Client) Store(ctx context.Context, uids mail.UIDSet, how Storing, flags mail.Flags, keywords []string) error {
	list := imap.FlagSet{System: flags, Keywords: keywords}.AppendText(nil)
	return c.eachSet(uids, func(set string) error {
		return c.simple(ctx, "STORE", "UID STORE ", set, " ", string(how), ".SILENT ", string(list))
	})
}

// StoreLabels changes Gmail's labels of messages; labels are in UTF-8.
func (c *Client) StoreLabels(ctx context.Context, uids mail.UIDSet, how Storing, labels []string) error {
	sign := strings.TrimSuffix(string(how), "FLAGS")
	list := make([]string, len(labels))
	for i, l := range labels {
		if list[i] = l; !imap.IsSystemLabel(l) {
			name, err := c.mailbox(imap.EncodeUTF7(l))
			if err != nil {
				return err
			}
			list[i] = name
		}
	}
	return c.eachSet(uids, func(set string) error {
		return c.simple(ctx, "STORE", "UID STORE ", set, " ", sign, "X-GM-LABELS.SILENT (", strings.Join(list, " "), ")")
	})
}

// mostRanges is how many ranges of UIDs a command line takes.
const mostRanges = 300

// eachSet calls fn with sets that fit on a command line.
func (c *Client) eachSet(uids mail.UIDSet, fn func(set string) error) error {
	for part := range slices.Chunk(uids, mostRanges) {
		if err := fn(part.String()); err != nil {
			return err
		}
	}
	return nil
}

// Copy copies messages of the open mailbox into another.
func (c *Client) Copy(ctx context.Context, uids mail.UIDSet, wire string) (out Copied, err error) {
	err = c.transfer(ctx, "COPY", uids, wire, &out, func(mail.UIDSet) error { return nil })
	out.Left = out.Done
	return out, err
}

// Move moves messages of the open mailbox into another. A server without MOVE is asked to
// copy and then to remove (RFC 6851, 1): what is copied and could not be removed is told, with
// an error or without one, as to copy it again would make it twice.
func (c *Client) Move(ctx context.Context, uids mail.UIDSet, wire string) (out Copied, err error) {
	if c.Capable("MOVE") || c.Capable("IMAP4REV2") {
		err = c.transfer(ctx, "MOVE", uids, wire, &out, func(mail.UIDSet) error { return nil })
		return out, err
	}
	err = c.transfer(ctx, "COPY", uids, wire, &out, func(part mail.UIDSet) error {
		left, err := c.Expunge(ctx, part)
		if err != nil {
			left = part
		}
		for _, r := range left {
			out.Left.AddRange(r.From, r.To)
		}
		return err
	})
	return out, err
}

// transfer copies or moves in parts that fit on a command line; then is called of each that is
// done.
func (c *Client) transfer(ctx context.Context, verb string, uids mail.UIDSet, wire string, out *Copied, then func(part mail.UIDSet) error) error {
	name, err := c.mailbox(wire)
	if err != nil {
		return err
	}
	for part := range slices.Chunk(uids, mostRanges) {
		p := c.command(verb, "UID ", verb, " ", part.String(), " ", name)
		p.untagged = func(word string) bool { // MOVE says it before its expunges
			if word == "[COPYUID]" {
				out.add(p.st.args)
			}
			return false
		}
		if err := c.wait(ctx, p); err != nil {
			return err
		}
		if p.st.code == "COPYUID" {
			out.add(p.st.args)
		}
		for _, r := range part {
			out.Done.AddRange(r.From, r.To)
		}
		if err := then(part); err != nil {
			return err
		}
	}
	return nil
}

// add reads the arguments of COPYUID (RFC 4315, 3). Sets of different lengths say nothing.
func (o *Copied) add(args string) {
	f := strings.Fields(args)
	if len(f) != 3 {
		return
	}
	validity, from, to := parseUIDs(f[0]), parseUIDs(f[1]), parseUIDs(f[2])
	if len(validity) != 1 || len(from) != len(to) {
		return
	}
	o.UIDValidity = uint32(validity[0])
	o.From, o.To = append(o.From, from...), append(o.To, to...)
}

// parseUIDs reads a set in the order it is written, at most 100,000 UIDs.
func parseUIDs(text string) (uids []mail.UID) {
	for _, part := range strings.Split(text, ",") {
		a, b, isRange := strings.Cut(part, ":")
		from, ok := parseUID(a)
		to := from
		if isRange {
			var ok2 bool
			to, ok2 = parseUID(b)
			ok = ok && ok2
		}
		if from > to {
			from, to = to, from
		}
		if !ok || len(uids)+int(to-from) > 100_000 {
			return nil
		}
		for u := from; ; u++ {
			uids = append(uids, u)
			if u == to {
				break
			}
		}
	}
	return uids
}

func parseUID(text string) (mail.UID, bool) {
	var n uint64
	for _, d := range text {
		if d < '0' || d > '9' || n > 1<<33 {
			return 0, false
		}
		n = n*10 + uint64(d-'0')
	}
	return mail.UID(n), text != "" && n > 0 && n < 1<<32
}

// Expunge removes messages of the open mailbox for good, and returns those that it could only
// mark: a server without UID EXPUNGE (RFC 4315) removes all that are marked \Deleted at once,
// and if others are, these ones are marked and stay.
func (c *Client) Expunge(ctx context.Context, uids mail.UIDSet) (left mail.UIDSet, err error) {
	if err := c.Store(ctx, uids, AddFlags, mail.Deleted, nil); err != nil {
		return uids, err
	}
	if c.Capable("UIDPLUS") || c.Capable("IMAP4REV2") {
		return nil, c.eachSet(uids, func(set string) error { return c.simple(ctx, "EXPUNGE", "UID EXPUNGE ", set) })
	}
	marked, err := c.Search(ctx, "DELETED")
	if err != nil {
		return uids, err
	}
	for u := range marked.All() {
		if !uids.Contains(u) {
			return uids, nil
		}
	}
	return nil, c.simple(ctx, "EXPUNGE", "EXPUNGE")
}

// Create makes a mailbox, with a role if the server takes one (RFC 6154, 3). That it exists
// already is an error of kind Exists where the server says so.
func (c *Client) Create(ctx context.Context, wire string, role mail.Role) error {
	name, err := c.mailbox(wire)
	if err != nil {
		return err
	}
	if role != "" && role != mail.RoleInbox && c.Capable("CREATE-SPECIAL-USE") {
		if err := c.simple(ctx, "CREATE", "CREATE ", name, ` (USE (\`, string(role), "))"); err == nil || c.dead != nil || fault.Is(err, fault.Exists) {
			return err
		}
	}
	return c.simple(ctx, "CREATE", "CREATE ", name)
}

// Rename renames a mailbox and what is below it.
func (c *Client) Rename(ctx context.Context, from, to string) error {
	a, err := c.mailbox(from)
	if err != nil {
		return err
	}
	b, err := c.mailbox(to)
	if err != nil {
		return err
	}
	return c.simple(ctx, "RENAME", "RENAME ", a, " ", b)
}

// Delete removes a mailbox with all that is in it.
func (c *Client) Delete(ctx context.Context, wire string) error { return c.named(ctx, "DELETE", wire) }

// Subscribe subscribes to a mailbox.
func (c *Client) Subscribe(ctx context.Context, wire string) error {
	return c.named(ctx, "SUBSCRIBE", wire)
}

// Unsubscribe undoes that.
func (c *Client) Unsubscribe(ctx context.Context, wire string) error {
	return c.named(ctx, "UNSUBSCRIBE", wire)
}

func (c *Client) named(ctx context.Context, verb, wire string) error {
	name, err := c.mailbox(wire)
	if err != nil {
		return err
	}
	return c.simple(ctx, verb, verb, " ", name)
}

// Unselect leaves the open mailbox without expunging, if the server can (RFC 3691).
func (c *Client) Unselect(ctx context.Context) error {
	c.sel, c.selName = nil, ""
	if !c.Capable("UNSELECT") && !c.Capable("IMAP4REV2") {
		return nil
	}
	return c.simple(ctx, "UNSELECT", "UNSELECT")
}

// Noop lets the server tell what is new: who OnNews named is told.
func (c *Client) Noop(ctx context.Context) error { return c.simple(ctx, "NOOP", "NOOP") }

// OnNews names who is told of what the server says unasked of the open mailbox. fn must not
// use the client.
func (c *Client) OnNews(fn func(News)) { c.news = fn }
