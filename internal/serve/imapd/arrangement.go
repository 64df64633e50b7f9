package imapd

import (
	"container/list"
	"hash/maphash"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
	"github.com/martlet-mail/martlet/internal/turn"
)

// What SORT and THREAD make of a whole mailbox is kept in memory for all sessions, so that
// the next one hands it out. What has come or gone since is put in or taken out; nothing
// that it is made of ever changes of a message that stays.

const (
	defaultArrangementBytes = 96 << 20
	arrangeFrom             = 256 // messages in a mailbox for which this is done
	arrangementAge          = 10 * time.Minute
)

// arrangementKey says of what an arrangement is made, and how.
type arrangementKey struct {
	account mail.AccountID
	box     mail.MailboxID
	by      string // comparator and criteria
}

// arrangement is something that is kept of the messages of a mailbox. It is never changed.
type arrangement interface {
	of() *membership
	bytes() int64
}

// membership is which messages an arrangement is made of. Messages come with ever higher
// UIDs and go for good: two states of a mailbox that have as many messages and the same
// last one have the same messages, in one line of pictures.
type membership struct {
	n    int
	last mail.UID
	mod  mail.ModSeq // of the picture
	line uint64      // likewise
}

func membersOf(p *store.Picture) membership {
	return membership{n: p.Len(), last: p.UID(p.Len()), mod: p.ModSeq(), line: p.Line()}
}

func (m *membership) fits(p *store.Picture) bool {
	return m.line == p.Line() && m.n == p.Len() && m.last == p.UID(m.n)
}

// grown tells whether a picture has all the messages, and beyond them only new ones.
func (m *membership) grown(p *store.Picture) bool {
	seq, there := p.Seq(m.last)
	return m.n == 0 || there && seq == m.n
}

// arrangements is what is kept, in a limit of bytes; what was not used for longest goes,
// and what nobody has used for ten minutes.
type arrangements struct {
	limit int64
	least int // as arrangeFrom
	now   func() time.Time
	seeds [2]maphash.Seed

	mu     sync.Mutex
	size   int64
	kept   map[arrangementKey]*list.Element
	recent list.List   // of *keptArrangement, the one used last in front
	timer  *time.Timer // runs while anything is kept
	making map[arrangementKey]*making
}

// making is an arrangement that a session makes; others wait for it.
type making struct {
	done chan struct{} // closed at the end
	made arrangement   // nil if nothing came of it
}

type keptArrangement struct {
	key  arrangementKey
	used time.Time
	arrangement
}

func newArrangements(limit int64, now func() time.Time) *arrangements {
	if limit <= 0 {
		limit = defaultArrangementBytes
	}
	return &arrangements{
		limit: limit, least: arrangeFrom, now: now, kept: map[arrangementKey]*list.Element{}, making: map[arrangementKey]*making{},
		seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
	}
}

// get returns what is kept, nil if there is nothing.
func (c *arrangements) get(key arrangementKey) arrangement {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.kept[key]
	if e == nil {
		return nil
	}
	c.recent.MoveToFront(e)
	a := e.Value.(*keptArrangement)
	a.used = c.now()
	return a.arrangement
}

// put keeps an arrangement, unless a later one is there already or it is too large.
func (c *arrangements) put(key arrangementKey, a arrangement) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.kept[key]; e != nil {
		if had := e.Value.(*keptArrangement).of(); had.line == a.of().line && had.mod > a.of().mod {
			return
		}
		c.drop(e)
	}
	if a.bytes() > c.limit {
		return
	}
	c.kept[key] = c.recent.PushFront(&keptArrangement{key, c.now(), a})
	if c.timer == nil {
		c.timer = time.AfterFunc(arrangementAge, func() { c.expire(c.now().Add(-arrangementAge)) })
	}
	for c.size += a.bytes(); c.size > c.limit; {
		c.drop(c.recent.Back())
	}
}

// begin makes the caller the one who makes an arrangement, or returns what another makes.
func (c *arrangements) begin(key arrangementKey) (m *making, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m = c.making[key]; m == nil {
		m, mine = &making{done: make(chan struct{})}, true
		c.making[key] = m
	}
	return m, mine
}

// end lets go of those who wait.
func (c *arrangements) end(key arrangementKey, m *making) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.making, key)
	close(m.done)
}

// arrange returns an arrangement of the selected mailbox as it is: one that is kept, or that
// another session makes just now, or else what do makes of an older one, nil if there is
// none.
func (s *session) arrange(key arrangementKey, do func(old arrangement) (arrangement, error)) (arrangement, error) {
	all := s.srv.arranged
	old, m, err := s.awaitArranged(key)
	if m != nil {
		defer all.end(key, m)
	}
	if err != nil || old != nil && old.of().fits(s.view.pic) {
		return old, err
	}
	if old != nil && old.of().line != s.view.pic.Line() { // it may be of other messages
		old = nil
	}
	now, err := do(old)
	if err != nil {
		return nil, err
	}
	if m != nil {
		m.made = now
	}
	all.put(key, now)
	return now, nil
}

// awaitArranged returns what there is of a key, once no other session is making it, and
// what others wait for if they are to wait for the caller. It waits for something made once
// and not for long: a slow client, or one whose mailbox looks different, keeps nobody.
func (s *session) awaitArranged(key arrangementKey) (arrangement, *making, error) {
	var patience <-chan time.Time
	for {
		old := s.srv.arranged.get(key)
		if old != nil && old.of().fits(s.view.pic) {
			return old, nil, nil
		}
		m, mine := s.srv.arranged.begin(key)
		if mine {
			return s.srv.arranged.get(key), m, nil // made meanwhile, perhaps
		}
		if patience == nil {
			patience = s.srv.opt.After(progressEvery)
		}
		if late, err := s.awaitMade(m, patience); late || err != nil {
			return old, nil, err
		}
		if m.made != nil {
			return m.made, nil, nil
		}
	}
}

// awaitMade waits for an arrangement that another session makes. The processor is left to
// those who work meanwhile.
func (s *session) awaitMade(m *making, patience <-chan time.Time) (late bool, err error) {
	work := turn.Of(s.ctx)
	work.Rest()
	defer work.Resume()
	select {
	case <-m.done:
		return false, nil
	case <-patience:
		return true, nil
	case <-s.ctx.Done():
		return false, fault.Wrap(fault.Closed, "the session has ended", s.ctx.Err())
	}
}

// expire drops what was not used since a time, and comes back later if anything is left.
func (c *arrangements) expire(since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.recent.Back(); e != nil && e.Value.(*keptArrangement).used.Before(since); e = c.recent.Back() {
		c.drop(e)
	}
	if c.recent.Len() > 0 {
		c.timer.Reset(arrangementAge)
	} else {
		c.timer = nil
	}
}

func (c *arrangements) drop(e *list.Element) {
	a := c.recent.Remove(e).(*keptArrangement)
	c.size -= a.bytes()
	delete(c.kept, a.key)
}

// arrangementKey names an arrangement of the selected mailbox.
func (s *session) arrangementKey(by string) arrangementKey {
	return arrangementKey{s.view.acct.ID(), s.view.box, string(rune('0'+s.comparator)) + by}
}

// isWhole tells whether all messages of the selected mailbox were found.
func (s *session) isWhole(found mail.UIDSet) bool { return found.Len() == s.view.pic.Len() }

// arranges tells whether a command on the messages found had better look at an arrangement
// of the whole mailbox: if they are most of it, or it is there anyway.
func (s *session) arranges(found mail.UIDSet, key arrangementKey) bool {
	n := s.view.pic.Len()
	return n >= s.srv.arranged.least && (2*found.Len() >= n || 16*found.Len() >= n && s.srv.arranged.get(key) != nil)
}

// members tests membership in a set quickly.
func members(set mail.UIDSet, of int) func(mail.UID) bool {
	if len(set) < 8 {
		return set.Contains
	}
	from, span := set[0].From, uint64(set[len(set)-1].To)-uint64(set[0].From)+1
	if span > 64*uint64(of) {
		return set.Contains
	}
	bits := make([]uint64, span/64+1)
	for uid := range set.All() {
		bits[(uid-from)/64] |= 1 << ((uid - from) % 64)
	}
	return func(uid mail.UID) bool {
		at := uint64(uid) - uint64(from)
		return uid >= from && at < span && bits[at/64]&(1<<(at%64)) != 0
	}
}

// wholeOrder is all messages of a mailbox in an order of SORT.
type wholeOrder struct {
	membership
	uids []mail.UID
}

func (o *wholeOrder) of() *membership { return &o.membership }
func (o *wholeOrder) bytes() int64    { return 200 + 4*int64(cap(o.uids)) }

// orderName names an order, "" for one that is not only of what never changes of a message.
func orderName(by []imap.SortBy) string {
	name := make([]byte, 0, 2*len(by))
	for _, b := range by {
		if b.Key == imap.SortRelevancy || b.Key == imap.SortAnnotation {
			return ""
		}
		sign := byte('+')
		if b.Reverse {
			sign = '-'
		}
		name = append(name, sign, 'A'+byte(b.Key))
	}
	return string(name)
}

// wholeOrder returns all messages of the selected mailbox in order. It is not to be changed.
func (s *session) wholeOrder(key arrangementKey, by []imap.SortBy) ([]mail.UID, error) {
	now, err := s.arrange(key, func(old arrangement) (arrangement, error) {
		now := &wholeOrder{membership: membersOf(s.view.pic)}
		var err error
		if old != nil {
			now.uids, err = s.rollOrder(old.(*wholeOrder), by)
		}
		if now.uids == nil && err == nil {
			now.uids, err = s.sort(store.All(), nil, by)
		}
		return now, err
	})
	if err != nil {
		return nil, err
	}
	return now.(*wholeOrder).uids, nil
}

// rollOrder brings an order forward to the picture of the view. It returns nil where that
// would not be less than sorting.
func (s *session) rollOrder(old *wholeOrder, by []imap.SortBy) ([]mail.UID, error) {
	pic := s.view.pic
	uids := old.uids
	if !old.grown(pic) {
		uids = make([]mail.UID, 0, len(old.uids))
		for _, uid := range old.uids {
			if _, there := pic.Seq(uid); there {
				uids = append(uids, uid)
			}
		}
	}
	last, _ := pic.Seq(old.last + 1) // one more than there are up to it
	if last-1 != len(uids) || pic.Len()-len(uids) > 64+pic.Len()/32 {
		return nil, nil // the picture is an earlier one, or much has come
	}
	if pic.Len() == len(uids) {
		return uids, nil
	}
	p := s.placer(by, s.comparator)
	added, places, err := p.places(uids, mail.UIDSet{{From: old.last + 1, To: 1<<32 - 1}})
	if err != nil {
		return nil, err
	}
	now := make([]mail.UID, 0, len(uids)+len(added))
	from := 0
	for i, uid := range added {
		now = append(append(now, uids[from:places[i]]...), uid)
		from = places[i]
	}
	return append(now, uids[from:]...), nil
}
