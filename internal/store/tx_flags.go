package store

import (
	"context"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/engine"
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
	if !mayKeywords {
		c.Keywords = nil
	}
	keywords, out, err := tx.keywordsOf(b, &c)
	if err != nil {
		return FlagResult{}, err
	}
	change := markChange{FlagChange: c, keywords: keywords, out: out, may: may, mayKeywords: mayKeywords, guest: tx.account.guest() != 0}
	var res FlagResult
	err = tx.eachSheet(b, set, func(number uint64, d *marksDraft, want *sheetWords) error {
		return tx.markSheet(b, number, d, want, &change, &res)
	})
	if err != nil {
		return FlagResult{}, err
	}
	return tx.changedRows(b, res), nil
}

// markChange is a FlagChange in the terms of a mailbox, by a user.
type markChange struct {
	FlagChange
	keywords    KeywordSet // those named
	out         KeywordSet // those that go without being named
	may         mail.Flags // flags that the user may change
	mayKeywords bool
	guest       bool // \Seen is not a flag of the message
}

// of returns what becomes of a marking.
func (c *markChange) of(m marking) marking {
	var after marking
	after.flags, after.keywords = c.apply(Message{Flags: m.flags, Keywords: m.keywords}, c.keywords)
	if c.Op != ReplaceFlags {
		after.keywords = after.keywords.with(c.out, false)
	}
	after.flags = m.flags&^c.may | after.flags&c.may
	if !c.mayKeywords {
		after.keywords = m.keywords
	}
	if c.guest {
		after.flags = after.flags&^mail.Seen | m.flags&mail.Seen
	}
	return after
}

// markSheet makes a change on one sheet. What it makes of the markings is found once for
// each kind of them, not for each message.
func (tx *Tx) markSheet(b *txBox, number uint64, d *marksDraft, want *sheetWords, c *markChange, res *FlagResult) error {
	if len(d.kinds) > 2*sheetSize {
		d.tidy() // they are numbered by 16 bits
	}
	kinds := slices.Clone(d.kinds) // kindOf adds to them
	became := make([]int, len(kinds))
	for i, word := range want {
		var changed, failed uint64
		for ; word != 0; word &= word - 1 {
			slot := i*pageSize + bits.TrailingZeros64(word)
			if c.UnchangedSince != nil && d.mods[slot] > uint64(*c.UnchangedSince) {
				failed |= word & -word
				continue
			}
			was := d.kind[slot]
			if became[was] == 0 {
				became[was] = int(d.kindOf(c.of(kinds[was]))) + 1
			}
			is := uint16(became[was] - 1)
			news := is != was
			if c.guest {
				seen, err := tx.setGuestSeen(b, mail.UID(number*sheetSize)+mail.UID(slot), &c.FlagChange, c.may)
				if err != nil {
					return err
				}
				news = news || seen
			}
			if !news {
				continue
			}
			d.kind[slot], d.mods[slot], d.dirty = is, uint64(tx.mod), true
			b.count(Message{Flags: kinds[was].flags}, -1)
			b.count(Message{Flags: d.kinds[is].flags}, +1)
			changed |= word & -word
		}
		addWord(&res.Changed, number*sheetPages+uint64(i), changed)
		addWord(&res.Failed, number*sheetPages+uint64(i), failed)
	}
	return nil
}

// changedRows logs messages whose rows have changed.
func (tx *Tx) changedRows(b *txBox, res FlagResult) FlagResult {
	if len(res.Changed) > 0 {
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

// SetFlags is Tx.SetFlags for a set of any size: one Update, unless that would be too
// large for the engine.
func (a *Account) SetFlags(ctx context.Context, box mail.MailboxID, set mail.UIDSet, c FlagChange) (FlagResult, error) {
	set, err := a.clamp(ctx, box, set)
	if err != nil {
		return FlagResult{}, err
	}
	if c.Op == AddFlags && c.Flags.Has(mail.Deleted) { // as a client does before it expunges
		ctx = engine.Freeing(ctx)
	}
	var all FlagResult
	for parts := []mail.UIDSet{set}; len(parts) > 0 && len(parts[0]) > 0; {
		part := parts[0]
		var res FlagResult
		err := a.Update(ctx, func(tx *Tx) (err error) {
			res, err = tx.SetFlags(box, part, c)
			return err
		})
		if n := part.Len(); fault.Is(err, fault.TooLarge) && n > sheetSize {
			low, high := halves(part, n/2)
			parts = append([]mail.UIDSet{low, high}, parts[1:]...)
			continue
		}
		if err != nil {
			return all, err
		}
		dealtWith(ctx, part.Len())
		all.Changed = append(all.Changed, res.Changed...)
		all.Failed = append(all.Failed, res.Failed...)
		parts = parts[1:]
	}
	all.Changed, all.Failed = merged(all.Changed), merged(all.Failed)
	return all, nil
}

// halves cuts a set after its first n members.
func halves(set mail.UIDSet, n int) (low, high mail.UIDSet) {
	for i, r := range set {
		has := int(r.To-r.From) + 1
		if n < has {
			high = slices.Clone(set[i:])
			if n > 0 {
				last := r.From + mail.UID(n) - 1
				low, high[0].From = append(low, mail.Range{From: r.From, To: last}), last+1
			}
			return low, high
		}
		n -= has
		low = append(low, r)
	}
	return low, nil
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
