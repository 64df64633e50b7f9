package imapsource

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sort"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/imapc"
)

// Mailboxes lists the account's mailboxes: INBOX first, Junk and Trash last.
func (s *Source) Mailboxes(ctx context.Context) (out []move.Mailbox, err error) {
	err = s.once(ctx, func(c *imapc.Client) error {
		out, err = s.list(ctx, c)
		return err
	})
	return out, err
}

func (s *Source) list(ctx context.Context, c *imapc.Client) ([]move.Mailbox, error) {
	all, err := c.List(ctx)
	if err != nil {
		return nil, err
	}
	ns, err := c.Namespaces(ctx)
	if err != nil {
		return nil, err
	}
	all = withMail(all)
	if err := counts(ctx, c, all); err != nil {
		return nil, err
	}
	if len(ns.Personal) > 0 {
		s.prefix, s.sep = ns.Personal[0].Prefix, ns.Personal[0].Separator
	}
	if s.sep == 0 && len(all) > 0 {
		s.sep = all[0].Separator
	}
	guessRoles(all, s.prefix)
	n := naming{used: map[string]bool{}, personal: ns.Personal, foreign: append(ns.Others, ns.Shared...)}
	s.boxes = map[string]imapc.Mailbox{}
	var out []move.Mailbox
	order(all)
	for _, m := range all {
		b := move.Mailbox{Name: n.name(&m), Source: shorten(m.Wire), Role: m.Role, Subscribed: m.Subscribed, Messages: -1, Bytes: -1}
		if utf8Source := strings.ToValidUTF8(b.Source, "?"); utf8Source != b.Source { // bytes that no text can hold
			b.Source = utf8Source + digest(m.Wire)
		}
		if st := m.Status; st != nil {
			b.Messages, b.Bytes = int64(st.Messages), st.Size
			if st.Messages == 0 {
				b.Bytes = 0
			}
			if s.opt.KeepUIDs && !s.gmail {
				b.UIDValidity = st.UIDValidity
			}
		}
		if n.isForeign(m.Wire) {
			b.Skip = "it belongs to somebody else, who shares it"
		}
		s.boxes[b.Source] = m
		out = append(out, b)
	}
	if s.gmail {
		s.labels(out)
	}
	return out, nil
}

// withMail returns the mailboxes that can hold messages.
func withMail(all []imapc.Mailbox) (out []imapc.Mailbox) {
	for _, m := range all {
		if !m.NoSelect && m.Wire != "" {
			out = append(out, m)
		}
	}
	return out
}

// counts asks for the status of those that LIST did not tell.
func counts(ctx context.Context, c *imapc.Client, all []imapc.Mailbox) error {
	var wires []string
	var at []int
	for i := range all {
		if all[i].Status == nil {
			wires, at = append(wires, all[i].Wire), append(at, i)
		}
	}
	list, err := c.Status(ctx, wires...)
	if err != nil {
		return err
	}
	for k, st := range list {
		all[at[k]].Status = st
	}
	return nil
}

// order sorts: INBOX, then as the server has them, Junk and Trash last.
func order(all []imapc.Mailbox) {
	weight := func(m *imapc.Mailbox) int {
		switch m.Role {
		case mail.RoleInbox, mail.RoleAll:
			return 0
		case mail.RoleJunk:
			return 2
		case mail.RoleTrash:
			return 3
		}
		return 1
	}
	sort.SliceStable(all, func(i, j int) bool { return weight(&all[i]) < weight(&all[j]) })
}

// naming gives mailboxes the names they are to have here.
type naming struct {
	used              map[string]bool
	personal, foreign []imapc.Namespace
}

// name returns a name with levels by "/", without the prefix of the server's namespace,
// which is its own affair: "INBOX.Work" is "Work". No two are the same.
func (n *naming) name(m *imapc.Mailbox) string {
	name := text(m.Name)
	if m.Role != mail.RoleInbox {
		for _, p := range n.personal {
			if p.Prefix != "" && len(name) > len(p.Prefix) && strings.EqualFold(m.Wire[:min(len(p.Prefix), len(m.Wire))], p.Prefix) {
				name = text(imapName(m.Wire[len(p.Prefix):]))
				break
			}
		}
	}
	var levels []string
	if m.Separator == 0 {
		levels = []string{name}
	} else {
		levels = strings.Split(name, string(rune(m.Separator)))
	}
	for i, l := range levels {
		// A slash within a level is no border between two: it is shown as one that looks alike.
		levels[i] = strings.ReplaceAll(l, "/", "\u2215")
	}
	whole := norm.NFC.String(strings.Join(levels, "/"))
	unique := whole
	for i := 2; n.used[unique]; i++ {
		unique = fmt.Sprintf("%s (%d)", whole, i)
	}
	n.used[unique] = true
	return unique
}

// isForeign tells whether a mailbox is in a namespace of other people.
func (n *naming) isForeign(wire string) bool {
	for _, p := range n.foreign {
		if p.Prefix != "" && strings.HasPrefix(wire, p.Prefix) {
			return true
		}
	}
	return false
}

// text returns a name as UTF-8: bytes that are not are taken for Latin-1, as old servers
// and clients had them.
func text(name string) string {
	if utf8.ValidString(name) {
		return name
	}
	r := make([]rune, len(name))
	for i := range len(name) {
		r[i] = rune(name[i])
	}
	return string(r)
}

// shorten returns a name of at most 400 bytes that is no other's.
func shorten(name string) string {
	if len(name) <= 400 {
		return name
	}
	return strings.ToValidUTF8(name[:380], "") + digest(name)
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "~" + hex.EncodeToString(sum[:8])
}

// box returns what the server calls a mailbox.
func (s *Source) box(ctx context.Context, source string) (imapc.Mailbox, error) {
	if s.boxes == nil {
		if _, err := s.Mailboxes(ctx); err != nil {
			return imapc.Mailbox{}, err
		}
	}
	m, ok := s.boxes[source]
	if !ok {
		return m, fault.Newf(fault.NotFound, "%s has no mailbox %q", s.opt.IMAP.Host, source)
	}
	return m, nil
}
