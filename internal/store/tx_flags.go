package store

import (
	"fmt"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// FlagOp says how SetFlags changes.
type FlagOp uint8

const (
	AddFlags FlagOp = iota
	RemoveFlags
	ReplaceFlags
)

// FlagChange is a change of flags and keywords.
type FlagChange struct {
	Op       FlagOp
	Flags    mail.Flags
	Keywords []string
	// UnchangedSince, if not nil, leaves messages alone that changed later
	// (RFC 7162, 3.1.3).
	UnchangedSince *mail.ModSeq
}

// FlagResult says what SetFlags did.
type FlagResult struct {
	Changed mail.UIDSet // have new flags and a new modseq
	Failed  mail.UIDSet // changed after UnchangedSince
}

// SetFlags changes flags of the messages in the set. One whose flags are already so
// keeps its modseq. Flags that the user has no right to change stay as they are. Faults:
// NotFound, Denied if that is so of all that are named, Invalid keyword, Limited at
// MaxKeywords.
func (tx *Tx) SetFlags(box mail.MailboxID, set mail.UIDSet, c FlagChange) (FlagResult, error) {
	b, err := tx.open(box)
	if err != nil {
		return FlagResult{}, err
	}
	may, mayKeywords := tx.account.Rights(&b.Mailbox).FlagRights()
	if !c.isAllowed(may, mayKeywords) {
		return FlagResult{}, Refusal(mail.RightRead)
	}
	guest := tx.account.guest() != 0
	if !mayKeywords {
		c.Keywords = nil
	}
	keywords, out, err := tx.keywordsOf(b, &c)
	if err != nil {
		return FlagResult{}, err
	}
	var changed, failed []mail.UID
	err = tx.each(b, set, func(p *page, m Message) error {
		if c.UnchangedSince != nil && m.ModSeq > *c.UnchangedSince {
			failed = append(failed, m.UID)
			return nil
		}
		after := m
		after.Flags, after.Keywords = c.apply(m, keywords)
		if c.Op != ReplaceFlags {
			after.Keywords = after.Keywords.with(out, false)
		}
		after.Flags = m.Flags&^may | after.Flags&may
		if !mayKeywords {
			after.Keywords = m.Keywords
		}
		news := false
		if guest {
			if news, err = tx.setGuestSeen(b, m.UID, &c, may); err != nil {
				return err
			}
			after.Flags = after.Flags&^mail.Seen | m.Flags&mail.Seen
		}
		if !news && after.Flags == m.Flags && after.Keywords == m.Keywords {
			return nil
		}
		row, _ := p.row(m.UID)
		p.set(row, after.Flags, after.Keywords, tx.mod)
		b.stale[pageOf(m.UID)] = true
		b.count(m, -1)
		b.count(after, +1)
		changed = append(changed, m.UID)
		return nil
	})
	if err != nil {
		return FlagResult{}, err
	}
	return tx.changedRows(b, changed, failed), nil
}

// changedRows logs messages whose rows have changed, and returns them with those that
// were left as they are.
func (tx *Tx) changedRows(b *txBox, changed, failed []mail.UID) FlagResult {
	res := FlagResult{Changed: mail.SetOf(changed...), Failed: mail.SetOf(failed...)}
	if len(changed) > 0 {
		for _, r := range res.Changed {
			b.log.Changed.AddRange(r.From, r.To)
		}
		tx.touch(b)
	}
	return res
}

// keywordsOf returns the keywords of a change as sets of the mailbox's: those that it
// names, and those that it takes away without a word (RFC 9979, 3.2). New names enter
// the mailbox's list. Keywords that others of the change exclude leave it.
func (tx *Tx) keywordsOf(b *txBox, c *FlagChange) (named, out KeywordSet, err error) {
	c.Keywords = mail.Compatible(c.Keywords)
	if c.Op == RemoveFlags {
		named = b.knownKeywords(c.Keywords)
		if c.Flags.Has(mail.Flagged) {
			out = b.knownKeywords(mail.FlagColours())
		}
		return named, out, nil
	}
	if named, err = tx.keywordSet(b, c.Keywords); err != nil {
		return named, out, err
	}
	return named, b.knownKeywords(mail.Excluded(c.Keywords)), nil
}

// isAllowed tells whether one at least of the flags that a change names may be changed;
// to replace them all names all.
func (c *FlagChange) isAllowed(may mail.Flags, keywords bool) bool {
	switch {
	case c.Op == ReplaceFlags || c.Flags == 0 && len(c.Keywords) == 0:
		return may != 0
	case len(c.Keywords) > 0 && keywords:
		return true
	}
	return c.Flags&may != 0
}

// setGuestSeen is the part of a change that is about \Seen, by a guest.
func (tx *Tx) setGuestSeen(b *txBox, uid mail.UID, c *FlagChange, may mail.Flags) (bool, error) {
	named := c.Flags.Has(mail.Seen)
	if !may.Has(mail.Seen) || !named && c.Op != ReplaceFlags {
		return false, nil
	}
	return tx.setSeen(b, uid, named && c.Op != RemoveFlags)
}

func (c *FlagChange) apply(m Message, keywords KeywordSet) (mail.Flags, KeywordSet) {
	switch c.Op {
	case AddFlags:
		return m.Flags | c.Flags, m.Keywords.with(keywords, true)
	case RemoveFlags:
		return m.Flags &^ c.Flags, m.Keywords.with(keywords, false)
	default:
		return c.Flags, keywords
	}
}

// keywordSet returns the set of the names in a mailbox, entering new ones into its
// list.
func (tx *Tx) keywordSet(b *txBox, names []string) (KeywordSet, error) {
	var set KeywordSet
	for _, name := range names {
		i := slices.IndexFunc(b.Keywords, func(k string) bool { return strings.EqualFold(k, name) })
		if i < 0 {
			if err := checkKeyword(name); err != nil {
				return "", err
			}
			if len(b.Keywords) >= MaxKeywords {
				return "", fault.Newf(fault.Limited, "the mailbox has %d keywords, the most it may have", MaxKeywords)
			}
			i = len(b.Keywords)
			b.Keywords = append(slices.Clip(b.Keywords), mail.Keyword(name))
			tx.touch(b)
		}
		set = set.with(keywordBit(i), true)
	}
	return set, nil
}

// checkKeyword accepts what IMAP calls a flag-keyword: an atom (RFC 9051, 9).
func checkKeyword(name string) error {
	if name == "" || len(name) > MaxKeyword {
		return fault.Newf(fault.Invalid, "a keyword is empty or longer than %d bytes", MaxKeyword)
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`(){%*"\]`, c) >= 0 {
			return fault.New(fault.Invalid, fmt.Sprintf("a keyword has the character %q", c))
		}
	}
	return nil
}

// knownKeywords returns the set of those names that the mailbox knows.
func (m *Mailbox) knownKeywords(names []string) KeywordSet {
	var set KeywordSet
	for i, k := range m.Keywords {
		if slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(k, n) }) {
			set = set.with(keywordBit(i), true)
		}
	}
	return set
}

// keywordNames returns the names of a set.
func (m *Mailbox) keywordNames(set KeywordSet) []string {
	var names []string
	for i, k := range m.Keywords {
		if set.Has(i) {
			names = append(names, k)
		}
	}
	return names
}
