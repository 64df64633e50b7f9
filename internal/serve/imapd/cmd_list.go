package imapd

import (
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// name is one name of the hierarchy: a mailbox, a subscription, or a level that is
// only there because something lies below it.
type name struct {
	full       string
	of         owner
	box        *store.Mailbox // nil: no mailbox has this name that the user can see
	subscribed bool
	children   bool // there is a mailbox below it
	matches    bool // it matches a pattern

	// Of the names below it that meet the selection criteria (RFC 9051, 6.3.9.6):
	chosenBelow bool // there is one
	hiddenBelow bool // there is one that no pattern matches
}

// list is LIST, basic and extended (RFC 9051, 6.3.9; RFC 5258; RFC 5819 for STATUS).
func (s *session) list(_ *command, args imap.List) (reply, error) {
	criteria := args.Select & (imap.ListSubscribed | imap.ListSpecialUse)
	recursive := args.Select&imap.ListRecursiveMatch != 0
	if recursive && criteria == 0 {
		return bad("RECURSIVEMATCH needs another selection option"), nil
	}
	if args.Root { // RFC 9051, 6.3.9: what separates levels
		s.enc.Raw(`* LIST (\Noselect) "/" ""`).CRLF()
		return ok("LIST done"), nil
	}
	for _, entry := range args.Metadata {
		if err := askable(entry); err != nil {
			return reply{}, misuse(err)
		}
	}
	names, err := s.names(args.Reference, args.Patterns)
	if err != nil {
		return reply{}, err
	}
	chosen := func(n *name) bool {
		return (criteria&imap.ListSubscribed == 0 || n.subscribed) &&
			(criteria&imap.ListSpecialUse == 0 || n.box != nil && special(n.box.Role) && n.of.prefix == "") &&
			(criteria != 0 || n.box != nil)
	}
	lookBelow(names, chosen)
	for _, n := range names {
		// A level without a mailbox shows that there is something below it which the
		// pattern does not reach; so, if asked, does a name that was not chosen.
		if !n.matches || !chosen(n) && !(n.hiddenBelow && (recursive || criteria == 0)) {
			continue
		}
		s.tellList(n, &args, recursive && n.chosenBelow)
		if n.box != nil && chosen(n) {
			if err := s.tellListedMore(n, &args); err != nil {
				return reply{}, err
			}
		}
		if err := s.flushFull(); err != nil {
			return reply{}, err
		}
	}
	return ok("LIST done"), nil
}

// tellListedMore tells what was asked for besides of a mailbox that is listed.
func (s *session) tellListedMore(n *name, args *imap.List) error {
	if args.Status != 0 { // RFC 5819, 3
		if err := s.tellListedStatus(n, args.Status); err != nil {
			return err
		}
	}
	if args.Return&imap.ListMyRights != 0 { // RFC 8440, 4
		s.tellMyRights(&n.of, n.box)
	}
	if len(args.Metadata) == 0 {
		return nil
	}
	return s.tellListed(&n.of, n.box, args.Metadata) // RFC 9590, 4
}

// lsub is LSUB (RFC 3501, 6.3.9). With '%' a level that only has subscriptions below
// it is shown as \Noselect, whether or not it is a mailbox.
func (s *session) lsub(_ *command, args imap.List) (reply, error) {
	if args.Root {
		s.enc.Raw(`* LSUB (\Noselect) "/" ""`).CRLF()
		return ok("LSUB done"), nil
	}
	names, err := s.names(args.Reference, args.Patterns)
	if err != nil {
		return reply{}, err
	}
	lookBelow(names, func(n *name) bool { return n.subscribed })
	for _, n := range names {
		if !n.matches || !n.subscribed && !n.hiddenBelow {
			continue
		}
		attrs := `\Noselect`
		if n.subscribed {
			attrs = n.of.use(n.box)
		}
		s.enc.Raw("* LSUB (").Raw(attrs).Raw(`) "/" `).Mailbox(n.full).CRLF()
		if err := s.flushFull(); err != nil {
			return reply{}, err
		}
	}
	return ok("LSUB done"), nil
}

// names returns the whole hierarchy in order, parents before children, and marks
// what matches the patterns. The reference is simply put in front of each.
func (s *session) names(reference string, patterns []string) ([]*name, error) {
	boxes, subs, err := s.visible(mail.RightLookup, reachesOthers(reference, patterns))
	if err != nil {
		return nil, err
	}
	h := hierarchy{}
	for i := range boxes {
		full := boxes[i].name()
		n := h.add(full)
		n.of, n.box = boxes[i].of, &boxes[i].box
		for up := store.Parent(full); up != ""; up = store.Parent(up) {
			h[up].children = true
		}
	}
	for _, sub := range subs {
		h.add(sub).subscribed = true
	}
	if err := h.match(reference, patterns); err != nil {
		return nil, err
	}
	return h.sorted(), nil
}

// reachesOthers tells whether a pattern can match a name among those of other users.
func reachesOthers(reference string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		p = reference + p
		wild := strings.IndexAny(p, "*%")
		if wild < 0 {
			return inOtherUsers(p)
		}
		return strings.HasPrefix(otherUsers, p[:wild]) || inOtherUsers(p[:wild])
	})
}

// tellListedStatus is tellStatus for a mailbox in LIST: of one that may be listed and
// not read there is none.
func (s *session) tellListedStatus(n *name, items imap.StatusItems) error {
	if !n.of.acct.Rights(n.box).Has(mail.RightRead) {
		return nil
	}
	return s.tellStatus(&n.of, n.box, items)
}

// hierarchy is names by their full form.
type hierarchy map[string]*name

// add returns the name, entering it and the levels above it.
func (h hierarchy) add(full string) *name {
	if n := h[full]; n != nil {
		return n
	}
	n := &name{full: full}
	h[full] = n
	if up := store.Parent(full); up != "" {
		h.add(up)
	}
	return n
}

// maxMatching is how many steps it may take to match the patterns of one LIST: about a
// third of a second's work. A name takes one for a pattern like "a/*", and its length
// times the pattern's for one with more wildcards in it.
const maxMatching = 100_000_000

// match marks the names that match a pattern. Fault: Limited, if there are too many
// wildcards for so many names.
func (h hierarchy) match(reference string, patterns []string) error {
	size, steps := 0, 0
	for full := range h {
		size += len(full)
	}
	for _, p := range patterns {
		pattern := imap.NewPattern(reference + p)
		if pattern.Exact() {
			if n := h[pattern.String()]; n != nil {
				n.matches = true
			}
			continue
		}
		steps += len(h)
		if n := pattern.Steps(); n > 1 {
			steps += n * size
		}
		if steps > maxMatching {
			return fault.New(fault.Limited, "the patterns have too many wildcards for so many mailboxes")
		}
		for full, n := range h {
			n.matches = n.matches || pattern.Match(full)
		}
	}
	return nil
}

// sorted returns the names with INBOX first and children right after their parent.
func (h hierarchy) sorted() []*name {
	names := make([]*name, 0, len(h))
	for _, n := range h {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b *name) int { return store.CompareNames(a.full, b.full) })
	return names
}

// lookBelow fills in what each name has below it.
func lookBelow(names []*name, chosen func(*name) bool) {
	h := make(hierarchy, len(names))
	for _, n := range names {
		h[n.full] = n
	}
	for _, n := range names {
		if !chosen(n) {
			continue
		}
		for up := store.Parent(n.full); up != ""; up = store.Parent(up) {
			h[up].chosenBelow = true
			h[up].hiddenBelow = h[up].hiddenBelow || !n.matches
		}
	}
}

// tellList writes a LIST response (RFC 9051, 7.3.1). Roles are always shown: clients
// look for them in plain LIST.
func (s *session) tellList(n *name, args *imap.List, childInfo bool) {
	var attrs []string
	if n.box == nil {
		if args.Extended || s.rev2 {
			attrs = append(attrs, `\NonExistent`)
		} else {
			attrs = append(attrs, `\Noselect`)
		}
	}
	if n.children {
		attrs = append(attrs, `\HasChildren`)
	} else {
		attrs = append(attrs, `\HasNoChildren`)
	}
	if (args.Select|args.Return)&imap.ListSubscribed != 0 && n.subscribed {
		attrs = append(attrs, `\Subscribed`)
	}
	if use := n.of.use(n.box); use != "" {
		attrs = append(attrs, use)
	}
	e := s.enc
	e.Raw("* LIST (").Raw(strings.Join(attrs, " ")).Raw(`) "/" `).Mailbox(n.full)
	if childInfo {
		var by []string
		if args.Select&imap.ListSubscribed != 0 {
			by = append(by, `"SUBSCRIBED"`)
		}
		if args.Select&imap.ListSpecialUse != 0 {
			by = append(by, `"SPECIAL-USE"`)
		}
		e.Raw(` ("CHILDINFO" (`).Raw(strings.Join(by, " ")).Raw("))")
	}
	e.CRLF()
}

// special tells whether a role is one that IMAP announces (RFC 6154).
func special(r mail.Role) bool { return r != "" && r != mail.RoleInbox }

// useAttribute returns the special use of a mailbox as LIST shows it, or "".
func useAttribute(box *store.Mailbox) string {
	if box == nil || !special(box.Role) {
		return ""
	}
	return `\` + string(box.Role)
}
