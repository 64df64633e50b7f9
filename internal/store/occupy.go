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
	holder uint64 // of many who ever had it, by chance; 0: not noted, as by earlier versions
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
// until another, which was refused, asks again and has seen it stand still for as long. Of one
// who could not give it up, or did not learn that he had got it, as the database was away, others
// in his process have it at once. Where no other process changes accounts it does nothing. Faults:
// Busy (another has it; of renew: it was lost), those of the engine.
func (a *Account) Occupy(ctx context.Context, still time.Duration) (renew, leave func(context.Context) error, err error) {
	idle := func(context.Context) error { return nil }
	s := a.store
	if s.shared == nil {
		return idle, idle, nil
	}
	now, holder := s.opt.Now(), s.newHolder()
	var mine, before occupancy
	err = s.occupied(ctx, a.id, func(o *occupancy) error {
		if o.taken && !s.isOver(o.holder) && !s.stands(a.id, *o, now, still) {
			return fault.New(fault.Busy, "another session has the mailbox open")
		}
		before = *o
		o.term, o.beat, o.taken, o.holder = o.term+1, 0, true, holder
		mine = *o
		return nil
	})
	if err != nil {
		if !fault.Is(err, fault.Busy) {
			s.noteOver(holder) // it may be on record
		}
		return nil, nil, err
	}
	s.forgetOver(before.holder)
	change := func(ctx context.Context, fn func(*occupancy)) error {
		return s.occupied(ctx, a.id, func(o *occupancy) error {
			if o.term != mine.term || o.holder != mine.holder || !o.taken {
				return fault.New(fault.Busy, "another session has taken the mailbox over")
			}
			fn(o)
			return nil
		})
	}
	renew = func(ctx context.Context) error { return change(ctx, func(o *occupancy) { o.beat++ }) }
	leave = func(ctx context.Context) error {
		err := change(ctx, func(o *occupancy) { o.taken = false })
		if err != nil && !fault.Is(err, fault.Busy) {
			s.noteOver(holder)
		}
		return err
	}
	return renew, leave, nil
}

// newHolder draws the name of a holder; 0 is none.
func (s *Store) newHolder() uint64 {
	if s.opt.Format != nil && s.opt.Format() < heldForm {
		return 0
	}
	return max(s.stamps.number(), 1)
}

// maxOver bounds for how many holders it is remembered that they are none any more.
const maxOver = 10_000

// noteOver remembers that a holder of this process is none any more, whatever is on record.
func (s *Store) noteOver(holder uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over == nil || len(s.over) >= maxOver {
		s.over = map[uint64]struct{}{}
	}
	if holder != 0 {
		s.over[holder] = struct{}{}
	}
}

func (s *Store) isOver(holder uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, over := s.over[holder]
	return over
}

func (s *Store) forgetOver(holder uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.over, holder)
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
