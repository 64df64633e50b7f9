package imapd

import (
	"slices"
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// ownChange is what the command under way did to flags itself.
type ownChange struct {
	set    mail.UIDSet
	change store.FlagChange
	// silent: the client knows the outcome unless somebody else changed more.
	// Otherwise every message of the set is told, changed or not (RFC 9051, 6.4.6).
	silent bool
	// modseqs: even so the modseq of every message of the set is told (RFC 7162, 3.1.3).
	modseqs bool
	notes   []imap.NoteValue // annotations that the client set
}

// tellChanged tells the flags of messages that changed, and of those the command
// has to answer for. Without others, what others changed is kept for later.
func (s *session) tellChanged(cmd *command, old *store.Picture, diff *store.Difference, tell telling) error {
	v, own := s.view, cmd.own
	set := diff.Changed
	if !v.unsaid.IsEmpty() {
		set = union(set, v.unsaid)
	}
	changed := set
	unsaid := v.unsaid
	if v.unsaid = nil; !tell.flags {
		set, v.unsaid = nil, set
		if own != nil {
			set, v.unsaid = intersect(v.unsaid, own.set), without(v.unsaid, own.set)
		}
	}
	if own != nil && (!own.silent || own.modseqs) {
		set = union(set, v.pic.Existing(own.set))
	}
	var err error
	if v.news, err = s.noteNews(cmd, changed, tell); err != nil {
		return err
	}
	defer func() { v.news = nil }()
	if !tell.flags { // nothing else is told of these
		for uid := range v.news {
			set.Add(uid)
		}
	}
	return s.tellMessages(cmd.uid || s.notify != nil, set, s.known(cmd, old, set, unsaid, tell))
}

// known is of messages to tell of what the client knows already.
type known struct {
	all   mail.UIDSet // to tell nothing of, but for new annotations
	flags mail.UIDSet // to tell no flags of
}

// known finds out what the client knows of a set. What is unsaid others changed before.
func (s *session) known(cmd *command, old *store.Picture, set, unsaid mail.UIDSet, tell telling) (k known) {
	v, own := s.view, cmd.own
	others := set
	if own != nil {
		others = without(set, own.set)
	}
	if !tell.flags {
		k.flags = others
	}
	if own != nil && own.silent {
		mine := without(intersect(v.pic.Existing(set), own.set), unsaid)
		k.flags = union(k.flags, without(mine, store.Differing(old, v.pic, mine, expectation(v.pic, own.change))))
		if !s.condstore {
			k.all = intersect(k.flags, own.set)
		}
	}
	was, is := old.Mailbox(), v.pic.Mailbox()
	if !s.condstore && len(was.Grants)+len(is.Grants) > 0 { // somebody else may have seen it, which is no news here
		others = v.pic.Existing(others)
		k.all = union(k.all, without(others, store.Differing(old, v.pic, others, sameFlags)))
	}
	return k
}

// sameFlags tells whether a message that there was has the flags that it had.
func sameFlags(before, now store.Message) bool {
	return before.UID != 0 && before.Flags == now.Flags && before.Keywords == now.Keywords
}

// tellMessages writes an unsolicited FETCH for each message of a set, unless the client
// knows what it would tell.
func (s *session) tellMessages(uid bool, set mail.UIDSet, k known) error {
	if !k.all.IsEmpty() {
		set = without(set, k.all)
		for uid := range s.view.news {
			set.Add(uid)
		}
	}
	var last flagsText
	return s.answerRows(s.view.pic.Marks(set), func(b []byte, m *store.Message) []byte {
		flags := len(k.flags) == 0 || !k.flags.Contains(m.UID)
		return s.appendNews(b, uid, flags, m, &last)
	})
}

// flagsText is the FLAGS item of some marks: of many messages one after the other it is
// the same.
type flagsText struct {
	flags    mail.Flags
	keywords store.KeywordSet
	text     []byte
}

// appendNews appends the rest of an unsolicited FETCH (RFC 9051, 7.5.2; RFC 7162, 3.1.3
// for one without FLAGS). A client of IMAP4rev2 and one that knows modseqs always get the
// UID (RFC 7162, 3.2.4).
func (s *session) appendNews(b []byte, uid, flags bool, m *store.Message, last *flagsText) []byte {
	if !s.uidOnly && (uid || s.rev2 || s.condstore) {
		b = append(strconv.AppendUint(append(b, "UID "...), uint64(m.UID), 10), ' ')
	}
	names := s.view.news[m.UID]
	if s.condstore {
		b = append(strconv.AppendUint(append(b, "MODSEQ ("...), uint64(m.ModSeq), 10), ')')
		if flags || names != nil {
			b = append(b, ' ')
		}
	}
	if flags {
		if len(s.view.recent) > 0 || last.text == nil || last.flags != m.Flags || last.keywords != m.Keywords {
			last.flags, last.keywords, last.text = m.Flags, m.Keywords, s.appendFlags(last.text[:0], m)
		}
		if b = append(b, last.text...); names != nil {
			b = append(b, ' ')
		}
	}
	if names != nil {
		s.enc.SetBuffer(b)
		s.writeNews(names)
		b = s.enc.Buffer()
	}
	return append(b, ")\r\n"...)
}

// writeFlags writes the FLAGS item of a message.
func (s *session) writeFlags(m store.Message) {
	s.enc.SetBuffer(s.appendFlags(s.enc.Buffer(), &m))
}

// expectation returns a test whether a message now has just the flags that a client
// who knows the change would expect.
func expectation(pic *store.Picture, c store.FlagChange) func(before, now store.Message) bool {
	return func(before, now store.Message) bool {
		want := c.Flags
		switch c.Op {
		case store.AddFlags:
			want |= before.Flags
		case store.RemoveFlags:
			want = before.Flags &^ c.Flags
		}
		if now.Flags != want {
			return false
		}
		if len(c.Keywords) == 0 && c.Op != store.ReplaceFlags {
			return now.Keywords == before.Keywords
		}
		return slices.Equal(folded(pic.Keywords(now)), expectedKeywords(pic.Keywords(before), c))
	}
}

func expectedKeywords(before []string, c store.FlagChange) []string {
	before, named := folded(before), folded(c.Keywords)
	switch c.Op {
	case store.AddFlags:
		named = append(named, before...)
		slices.Sort(named)
		named = slices.Compact(named)
	case store.RemoveFlags:
		named = slices.DeleteFunc(before, func(k string) bool { return slices.Contains(named, k) })
	}
	return named
}

// folded returns keywords as they compare: in one case, in order.
func folded(keywords []string) []string {
	out := make([]string, len(keywords))
	for i, k := range keywords {
		out[i] = strings.ToLower(k)
	}
	slices.Sort(out)
	return out
}
