package store

import (
	"context"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Where several processes share the store, those who hold bodies are on record, and a Sweep
// looks for them once it knows what is referred to and before it removes anything: whoever
// began later sees no message whose body the Sweep would remove, for nothing refers to that
// any more. While there are any, what goes from one account to another is on record, too.
const (
	holdShard engine.Shard = 9

	famHoldNext = 'n' // the number of the next hold or crossing
	famHold     = 'h' // number -> who holds bodies
	famCrossing = 'c' // number -> from which account to which

	longestHold = 7 * 24 * time.Hour // one that is older was left by a process that died
)

func (s *Store) noteHold(ctx context.Context) (release func(), err error) {
	var number uint64
	now := s.opt.Now().Unix()
	err = s.eng.Update(ctx, holdShard, func(w engine.Writer) (err error) {
		if number, err = nextHold(w); err != nil {
			return err
		}
		var e enc
		e.I(now)
		return w.Put(engine.Key(famHold, number), seal(recHold, e))
	})
	if err != nil {
		return nil, err
	}
	return func() {
		ctx, end := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer end()
		if err := s.dropHold(ctx, number); err != nil {
			s.opt.Log.Warn("bodies are held for some days more", "err", err)
		}
	}, nil
}

// nextHold gives out a number.
func nextHold(w engine.Writer) (n uint64, err error) {
	v, ok, err := w.Get([]byte{famHoldNext})
	if err == nil && ok {
		var p []byte
		if p, err = unseal(recHold, v); err == nil {
			d := dec{Rest: p}
			n = d.U()
			err = d.End("number of a hold")
		}
	}
	if err != nil {
		return 0, err
	}
	var e enc
	e.U(n + 1)
	return n, w.Put([]byte{famHoldNext}, seal(recHold, e))
}

// dropHold removes a hold, and with the last the crossings that were noted.
func (s *Store) dropHold(ctx context.Context, number uint64) error {
	return s.eng.Update(ctx, holdShard, func(w engine.Writer) error {
		if err := w.Delete(engine.Key(famHold, number)); err != nil {
			return err
		}
		list, err := s.holders(w)
		if err != nil || len(list) > 0 {
			return err
		}
		if err := w.DeleteRange([]byte{famHold}, []byte{famHold + 1}); err != nil {
			return err
		}
		return w.DeleteRange([]byte{famCrossing}, []byte{famCrossing + 1})
	})
}

// holders returns the holds that count.
func (s *Store) holders(r engine.Reader) (numbers []uint64, err error) {
	now := s.opt.Now()
	var bad error
	err = r.Scan([]byte{famHold}, []byte{famHold + 1}, false, func(k, v []byte) bool {
		p, err := unseal(recHold, v)
		if err != nil {
			bad = err
			return false
		}
		d := dec{Rest: p}
		if now.Sub(time.Unix(d.I(), 0)).Abs() < longestHold {
			numbers = append(numbers, engine.Num(k, 0))
		}
		bad = d.End("hold")
		return bad == nil
	})
	if err == nil {
		err = bad
	}
	return numbers, err
}

// heldElsewhere fails with Busy if another process holds bodies.
func (s *Store) heldElsewhere(ctx context.Context) error {
	if s.shared == nil {
		return nil
	}
	var list []uint64
	err := s.eng.View(ctx, holdShard, func(r engine.Reader) (err error) { list, err = s.holders(r); return err })
	if err == nil && len(list) > 0 {
		err = fault.New(fault.Busy, "a backup, restore or verify runs on another node; no body is removed before it ends")
	}
	return err
}

// noteCrossing notes that messages have come from one account to another, if anybody on any
// node has to know.
func (s *Store) noteCrossing(ctx context.Context, from, to mail.AccountID) error {
	s.crossings.note(from, to)
	if s.shared == nil {
		return nil
	}
	err := s.heldElsewhere(ctx)
	if !fault.Is(err, fault.Busy) {
		return err
	}
	return s.eng.Update(ctx, holdShard, func(w engine.Writer) error {
		n, err := nextHold(w)
		if err != nil {
			return err
		}
		var e enc
		e.U(uint64(from))
		e.U(uint64(to))
		return w.Put(engine.Key(famCrossing, n), seal(recCrossing, e))
	})
}

// crossedSince returns the crossings from a number on.
func (s *Store) crossedSince(ctx context.Context, begin uint64) (list []Crossing, err error) {
	var bad error
	err = s.eng.View(ctx, holdShard, func(r engine.Reader) error {
		list = nil
		return r.Scan(engine.Key(famCrossing, begin), []byte{famCrossing + 1}, false, func(_, v []byte) bool {
			p, err := unseal(recCrossing, v)
			if bad = err; bad != nil {
				return false
			}
			d := dec{Rest: p}
			list = append(list, Crossing{mail.AccountID(d.U()), mail.AccountID(d.U())})
			bad = d.End("crossing")
			return bad == nil
		})
	})
	if err == nil {
		err = bad
	}
	return list, err
}
