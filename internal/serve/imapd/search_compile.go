package imapd

import (
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// compile makes a condition of a key, with sets resolved and texts folded.
func (q *search) compile(k *imap.SearchKey) (c cond, err error) {
	c = cond{op: k.Op, loose: q.loose}
	switch k.Op {
	case imap.SearchAnd, imap.SearchOr, imap.SearchNot, imap.SearchFuzzy:
		err = q.compileKids(k, &c)
	case imap.SearchSeq, imap.SearchUID:
		c.uids, err = q.uidsOf(k)
		c.row = among(c.uids)
	case imap.SearchUIDAfter, imap.SearchUIDBefore:
		c.op, c.uids = imap.SearchUID, beside(k)
		c.row = among(c.uids)
	case imap.SearchFlag, imap.SearchKeyword:
		c.row, c.marks = q.rowTest(k), true
	case imap.SearchRecent, imap.SearchLarger, imap.SearchSmaller, imap.SearchModSeq,
		imap.SearchBefore, imap.SearchOn, imap.SearchSince,
		imap.SearchSavedBefore, imap.SearchSavedOn, imap.SearchSavedSince,
		imap.SearchOlder, imap.SearchYounger:
		c.row = q.rowTest(k)
	case imap.SearchEmailID, imap.SearchThreadID, imap.SearchGmailID, imap.SearchGmailThread, imap.SearchLabel,
		imap.SearchLabelLike, imap.SearchFromSecond, imap.SearchUntilSecond, imap.SearchAnnotation:
		c.row, err = q.preparedTest(k)
	case imap.SearchHeader, imap.SearchAddress, imap.SearchBody, imap.SearchText:
		q.compileText(k, &c)
	case imap.SearchAttachment:
		q.attach = true
	case imap.SearchFilename:
		c.text, c.loose, q.files = q.s.comparator.Fold(k.Text), false, true
	default:
		c.from, q.keyed, q.dated = k.Date, true, true
	}
	if err == nil && c.loose {
		q.loosen(&c)
	}
	return c, err
}

// compileKids makes a condition of a key that is made of others. What is not wanted is not
// wanted exactly.
func (q *search) compileKids(k *imap.SearchKey, c *cond) (err error) {
	was := q.loose
	switch k.Op {
	case imap.SearchFuzzy, imap.SearchNot:
		q.loose = k.Op == imap.SearchFuzzy
	}
	defer func() { q.loose = was }()
	c.kids, c.marks = make([]cond, len(k.Keys)), len(k.Keys) > 0
	for i := range k.Keys {
		if c.kids[i], err = q.compile(&k.Keys[i]); err != nil {
			return err
		}
		c.marks = c.marks && c.kids[i].marks
	}
	return nil
}

// rowTest tests what a message's row says by itself.
func (q *search) rowTest(k *imap.SearchKey) func(*store.Message) bool {
	switch k.Op {
	case imap.SearchFlag:
		return func(m *store.Message) bool { return m.Flags.Has(k.Flag) }
	case imap.SearchKeyword:
		has := q.v.pic.HasKeyword(k.Text)
		return func(m *store.Message) bool { return has(*m) }
	case imap.SearchRecent:
		if q.s.rev2 {
			return among(nil)
		}
		return among(q.v.recent)
	case imap.SearchLarger:
		return func(m *store.Message) bool { return uint64(m.Size) > k.Number }
	case imap.SearchSmaller:
		return func(m *store.Message) bool { return uint64(m.Size) < k.Number }
	case imap.SearchModSeq:
		return func(m *store.Message) bool { return uint64(m.ModSeq) >= k.Number }
	case imap.SearchOlder, imap.SearchYounger:
		return withinTest(k, q.s.srv.opt.Store.Now())
	}
	return dayTest(k)
}

// among tests whether a message is one of some.
func among(uids mail.UIDSet) func(*store.Message) bool {
	return func(m *store.Message) bool { return uids.Contains(m.UID) }
}

// uidsOf returns the messages that a set of a search names. A number without a message
// finds nothing.
func (q *search) uidsOf(k *imap.SearchKey) (mail.UIDSet, error) {
	byNumber := k.Op == imap.SearchSeq && !k.Set.Saved
	if q.s.uidOnly && byNumber {
		return nil, uidRequired()
	}
	uids, _, err := q.s.resolveIn(q.v, k.Set, true)
	if err == nil && byNumber {
		uids = q.v.numbered(k.Set)
	}
	return uids, err
}

// beside returns the UIDs above or below one (RFC 9738, 3.2).
func beside(k *imap.SearchKey) mail.UIDSet {
	from, to := uint64(1), k.Number-1
	if k.Op == imap.SearchUIDAfter {
		from, to = k.Number+1, 1<<32-1
	}
	if from > to {
		return nil
	}
	return mail.UIDSet{{From: mail.UID(from), To: mail.UID(to)}}
}

// compileText makes a condition of a key that looks for a text.
func (q *search) compileText(k *imap.SearchKey, c *cond) {
	c.field, c.text = k.Field, q.s.comparator.Fold(k.Text)
	if c.isTitle() {
		c.titled, c.sought, q.keyed = true, []byte(c.text), true
	}
	if k.Op == imap.SearchBody || k.Op == imap.SearchText {
		c.needle = q.need(c.text)
	}
	if q.s.comparator == imap.UnicodeCasemap && !c.loose {
		c.grams = gramsOf(c.text)
		q.sifts = q.sifts || len(c.grams) > 0
	}
}

// need returns the place of a text among the needles.
func (q *search) need(text string) int {
	for i, n := range q.needles {
		if n == text {
			return i
		}
	}
	q.needles, q.sought = append(q.needles, text), append(q.sought, []byte(text))
	q.longest = max(q.longest, len(text))
	return len(q.needles) - 1
}

// dayTest tests the internal date or the date of saving, whose days are those of
// UTC: the zone in which a message came in is not kept (RFC 9051, 6.4.4 and RFC 8514,
// 4.3 disregard it).
func dayTest(k *imap.SearchKey) func(*store.Message) bool {
	from, until := k.Date.Unix(), k.Date.AddDate(0, 0, 1).Unix()
	at := func(m *store.Message) int64 { return m.Internal }
	switch k.Op {
	case imap.SearchSavedBefore, imap.SearchSavedOn, imap.SearchSavedSince:
		at = func(m *store.Message) int64 { return m.Saved }
	}
	switch k.Op {
	case imap.SearchBefore, imap.SearchSavedBefore:
		return func(m *store.Message) bool { return at(m) < from }
	case imap.SearchOn, imap.SearchSavedOn:
		return func(m *store.Message) bool { return at(m) >= from && at(m) < until }
	}
	return func(m *store.Message) bool { return at(m) >= from }
}

// withinTest tests the age of the internal date (RFC 5032, 2). An interval longer
// than there has been time means the beginning of time.
func withinTest(k *imap.SearchKey, now time.Time) func(*store.Message) bool {
	target := now.Unix() - int64(min(k.Number, 1<<62))
	if k.Op == imap.SearchOlder {
		return func(m *store.Message) bool { return m.Internal <= target }
	}
	return func(m *store.Message) bool { return m.Internal >= target }
}
