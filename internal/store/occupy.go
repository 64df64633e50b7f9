package store

import (
	"context"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/record"
)

// Who has an account to himself is noted in one of some shards that are for nothing else: a
// login must not wait for the account's own changes, nor make pictures of it stale.
const (
	occupyShards engine.Shard = 1 << 17 // the first of them
	occupyShared              = 64      // how many there are
)

// occupancy is on record of an account that somebody has, or had, to himself.
type occupancy struct {
	term   uint64 // rises whenever it changes hands
	beat   uint64 // rises when the one who has it says that he is still there
	taken  bool
	holder uint64 // of many who ever had it (newHolder); 0: not noted, as by earlier versions
}

// heldForm is the form of stored records from which on holders are noted.
const heldForm = 2

// sighting is an occupancy as this process saw it first.
type sighting struct {
	occupancy
	since time.Time
}

// Occupy has no two of all processes that share the store have the account to themselves, by
// this call alone: within a process callers see to that. Who has it calls renew more often
// than every still; then, or when leave is called, others can have it. One that died has it
// until another, which was refused, asks again and has seen it stand still for as long. A process
// knows its own: of one who has left, or did not learn that he had got it, others in his process
// have it at once, whatever is on record, and those in other processes soon after the database can
// be reached again. Where no other process changes accounts it does nothing. Faults: Busy (another
// has it; of renew: it was lost), those of the engine.
func (a *Account) Occupy(ctx context.Context, still time.Duration) (renew, leave func(context.Context) error, err error) {
	idle := func(context.Context) error { return nil }
	s := a.store
	if s.shared == nil {
		return idle, idle, nil
	}
	now, holder := s.opt.Now(), s.newHolder()
	t := &tenant{a: a, still: still, is: occupancy{holder: holder}}
	err = s.occupied(ctx, a.id, func(o *occupancy) error {
		if o.taken && !s.hasLeft(o.holder) && !s.stands(a.id, *o, now, still) {
			return fault.New(fault.Busy, "another session has the mailbox open")
		}
		o.term, o.beat, o.taken, o.holder = o.term+1, 0, true, holder
		t.is = *o
		return nil
	})
	if err != nil {
		t.left(fault.Is(err, fault.Unknown))
		return nil, nil, err
	}
	return t.renew, t.leave, nil
}

// tenant is one who has an account to himself.
type tenant struct {
	a     *Account
	still time.Duration
	is    occupancy // as it was when he got it
}

func (t *tenant) renew(ctx context.Context) error {
	return t.change(ctx, func(o *occupancy) { o.beat++ })
}

func (t *tenant) leave(ctx context.Context) error {
	err := t.giveUp(ctx)
	t.left(notDone(err))
	return err
}

func (t *tenant) giveUp(ctx context.Context) error {
	return t.change(ctx, func(o *occupancy) { o.taken = false })
}

func (t *tenant) change(ctx context.Context, fn func(*occupancy)) error {
	return t.a.store.occupied(ctx, t.a.id, func(o *occupancy) error {
		if o.term != t.is.term || o.holder != t.is.holder || !o.taken {
			return fault.New(fault.Busy, "another session has taken the mailbox over")
		}
		fn(o)
		return nil
	})
}

// left is told that he is none any more. If he may be on record still, it is tried to give the
// account up until it is known that he is not.
func (t *tenant) left(onRecord bool) {
	s := t.a.store
	s.mu.Lock()
	delete(s.tenants, t.is.holder)
	s.mu.Unlock()
	if onRecord && t.is.holder != 0 {
		s.background.Go(func() { t.giveUpLater(s.life) })
	}
}

// notDone tells whether a change that ended with an error may not have been made, and may be
// later.
func notDone(err error) bool {
	return fault.Is(err, fault.Unknown) || fault.Is(err, fault.Unavailable)
}

// How long the first pause is before an account is given up again, and the longest; each is twice
// the one before.
const (
	leavePause   = time.Second
	longestPause = time.Minute
)

// giveUpLater gives the account up, as soon as that can be done; after still others have it anyhow.
func (t *tenant) giveUpLater(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, t.still)
	defer cancel()
	for pause := leavePause; ; pause = min(2*pause, longestPause) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		if err := t.giveUp(ctx); !notDone(err) {
			return
		}
	}
}

// Holders of one process have the same upper bits, which are drawn at its start, and count the
// lower ones. So a process knows of a holder on record that he was one of its own.
const holderCount = 1<<24 - 1

// ownHolders are the upper bits of this process's holders.
func (s *Store) ownHolders() uint64 { return (s.stamps.first() | 1<<63) &^ holderCount }

// newHolder draws the name of a holder, and notes that he is one; 0 is none.
func (s *Store) newHolder() uint64 {
	if s.opt.Format != nil && s.opt.Format() < heldForm {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tenants == nil {
		s.tenants = map[uint64]struct{}{}
	}
	for {
		s.named++
		holder := s.ownHolders() | s.named&holderCount
		if _, there := s.tenants[holder]; !there {
			s.tenants[holder] = struct{}{}
			return holder
		}
	}
}

// hasLeft tells whether a holder was one of this process and is none any more.
func (s *Store) hasLeft(holder uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, there := s.tenants[holder]
	return holder&^holderCount == s.ownHolders() && !there
}

// occupied changes an account's occupancy.
func (s *Store) occupied(ctx context.Context, id mail.AccountID, fn func(*occupancy) error) error {
	key := engine.Key('o', uint64(id))
	return s.eng.Update(ctx, occupyShards+engine.Shard(id)%occupyShared, func(w engine.Writer) error {
		v, ok, err := w.Get(key)
		var o occupancy
		if err == nil && ok {
			o, err = decodeOccupancy(v)
		}
		if err == nil {
			err = fn(&o)
		}
		if err != nil {
			return err
		}
		return w.Put(key, o.encode())
	})
}

// maxSightings bounds what is remembered of accounts that others have to themselves.
const maxSightings = 10_000

// stands tells whether an occupancy has stood still for so long, as this process saw it.
func (s *Store) stands(id mail.AccountID, o occupancy, now time.Time, still time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if was, ok := s.sightings[id]; ok && was.occupancy == o {
		return now.Sub(was.since) >= still
	}
	if s.sightings == nil || len(s.sightings) >= maxSightings {
		s.sightings = map[mail.AccountID]sighting{}
	}
	s.sightings[id] = sighting{o, now}
	return false
}

func (o occupancy) encode() []byte {
	var e enc
	e.U(o.term)
	e.U(o.beat)
	e.Bool(o.taken)
	if o.holder == 0 {
		return seal(recOccupancy, e)
	}
	e.U(o.holder)
	return seal(recHeldOccupancy, e)
}

func decodeOccupancy(v []byte) (o occupancy, err error) {
	kind, p, err := record.Open(v)
	if err != nil {
		return o, err
	}
	held := kind == recHeldOccupancy
	if !held {
		if p, err = unseal(recOccupancy, v); err != nil {
			return o, err
		}
	}
	d := dec{Rest: p}
	o = occupancy{term: d.U(), beat: d.U(), taken: d.Bool()}
	if held {
		o.holder = d.U()
	}
	return o, d.End("occupancy of an account")
}
