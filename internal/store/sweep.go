package store

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// SweepAge is how old a body must be before Sweep may remove it: time enough for
// every delivery under way to commit, with a day in reserve.
//
// It is counted by a time of its own, which goes on from one sweep to the next by what the clock
// says if that is no more than sweepStep, and else not at all; a clock that has gone so for
// sweepHold is believed. So what was put less than
// two hours before the last sweep, or later, is never old, whatever the clock does.
const (
	SweepAge  = 32 * time.Hour
	sweepStep = 30 * time.Hour
)

// onceAge is how long idempotency keys are kept.
const onceAge = 30 * 24 * time.Hour

// Swept says what a Sweep did.
type Swept struct {
	Accounts int
	Blobs    int // looked at
	Removed  int // bodies that nobody refers to
	Bytes    int64
}

// Sweep removes bodies that no account and no referrer holds and that are older
// than SweepAge, releases what deleted mailboxes left, purges deleted mail that was kept
// long enough, and forgets old log lines,
// idempotency keys, and what was shared with accounts that are no more. It may run at
// any time beside anything. Memory: about 50 bytes for each body. Faults: Busy while another
// process holds bodies; all but their removal is done then.
func (s *Store) Sweep(ctx context.Context) (Swept, error) {
	var done Swept
	release, err := s.bodies.take(ctx, true)
	if err != nil {
		return done, err
	}
	defer release()
	trusted, err := s.sweepTime(ctx)
	if err != nil {
		return done, err
	}
	before := time.Unix(trusted, 0).Add(-SweepAge)
	used := map[mail.BlobRef]struct{}{}
	keep := func(b mail.BlobRef) {
		if !b.IsZero() {
			used[b] = struct{}{}
		}
	}
	// Referrers first: what waits in the queue goes into an account without being put
	// again, and never the other way.
	s.mu.Lock()
	referrers := s.referrers
	s.mu.Unlock()
	for _, fn := range referrers {
		if err := fn(ctx, keep); err != nil {
			return done, err
		}
	}
	ids, err := s.everyAccount(ctx)
	if err != nil {
		return done, err
	}
	due, err := s.keptUntil(ctx)
	if err != nil {
		return done, err
	}
	var damaged error
	for _, id := range ids {
		err := s.Account(id).sweep(ctx, trusted, due, keep)
		if fault.Is(err, fault.NotFound) {
			err = s.Account(id).headless(ctx)
		}
		if fault.Is(err, fault.Corrupt) { // what it holds is not known; the others are tidied up all the same
			s.opt.Log.Error("no body is removed, for the records of an account are damaged; run martlet verify", "account", id, "err", err)
			damaged = cmp.Or(damaged, err)
		} else if err != nil {
			return done, err
		}
		done.Accounts++
	}
	if damaged != nil {
		return done, damaged
	}
	if err := s.heldElsewhere(ctx); err != nil {
		return done, err
	}
	sw := sweeper{s.eng.Blobs(), used, map[mail.BlobRef]victim{}, before, mail.BlobRef{}, &done}
	if s.shared != nil {
		if sw.clock, err = s.putClock(ctx); err != nil {
			return done, err
		}
	}
	return done, sw.run(ctx)
}

// putClock puts a body whose age is none, by whatever clock the engine dates bodies with: those
// of processes may differ from it and from each other.
func (s *Store) putClock(ctx context.Context) (mail.BlobRef, error) {
	p, err := s.Receive(ctx, strings.NewReader("\r\nThis body tells a sweep what time it is.\r\n"))
	if err == nil {
		p, err = p.Shared(ctx)
	}
	if err != nil {
		return mail.BlobRef{}, err
	}
	return p.sum, nil
}

// everyAccount returns all accounts that are listed or have a record. A body that only one of
// them holds, which the list has lost, must not go.
func (s *Store) everyAccount(ctx context.Context) ([]mail.AccountID, error) {
	holders, err := s.Holders(ctx)
	if err != nil {
		return nil, err
	}
	listed, err := s.Accounts(ctx)
	ids := append(holders, listed...)
	slices.Sort(ids)
	return slices.Compact(ids), err
}

// headless fails with Corrupt if the account has records but not its own, without which the
// others are not found.
func (a *Account) headless(ctx context.Context) error {
	return a.store.eng.View(ctx, a.shard, func(r engine.Reader) error {
		_, ok, err := r.Get([]byte{famAccount})
		if err != nil || ok {
			return err
		}
		some, err := hasRecords(r)
		if err == nil && some {
			err = fault.Newf(fault.Corrupt, "account %d has records, but not its own: that is lost, or a restore of the account was cut short and is to be run again", a.id)
		}
		return err
	})
}

// hasRecords tells whether an account has any but its birth, which says nothing of mail.
func hasRecords(r engine.Reader) (some bool, err error) {
	err = r.Scan(nil, nil, false, func(k, _ []byte) bool { some = k[0] != famBirth; return !some })
	return some, err
}

// sweeper removes blobs that are old and not in use.
type sweeper struct {
	blobs   engine.Blobs
	used    map[mail.BlobRef]struct{}
	victims map[mail.BlobRef]victim
	before  time.Time
	clock   mail.BlobRef // a body that is as old as nothing; zero: there is none
	done    *Swept
}

// victim is a blob that is to go.
type victim struct {
	at   int64 // second of its last Put
	size int64
}

func (sw *sweeper) run(ctx context.Context) error {
	err := sw.blobs.List(ctx, func(name mail.BlobRef, at time.Time, size int64) bool {
		sw.done.Blobs++
		if name == sw.clock && !name.IsZero() {
			if latest := at.Add(-SweepAge); latest.Before(sw.before) {
				sw.before = latest
			}
		} else if _, ok := sw.used[name]; !ok && at.Before(sw.before) {
			sw.victims[name] = victim{at.Unix(), size}
		}
		return ctx.Err() == nil
	})
	maps.DeleteFunc(sw.victims, func(_ mail.BlobRef, v victim) bool { return v.at >= sw.before.Unix() })
	if err == nil {
		err = sw.spareNeeded(ctx)
	}
	for name := range sw.victims {
		if err != nil {
			return err
		}
		_, err = sw.remove(ctx, name)
	}
	return cmp.Or(err, ctx.Err())
}

// spareNeeded takes what blobs need off the victims, but for those blobs that are victims
// themselves and go. They go first: one that is put again meanwhile stays, and who puts
// it need not put what it needs. Blobs that are needed need none. Whoever puts one with what
// it needs after this makes all of it young.
func (sw *sweeper) spareNeeded(ctx context.Context) error {
	spare := func(needs []mail.BlobRef) {
		for _, need := range needs {
			delete(sw.victims, need)
		}
	}
	unused := map[mail.BlobRef][]mail.BlobRef{}
	err := sw.blobs.Needs(ctx, func(name mail.BlobRef, _ time.Time, needs []mail.BlobRef) bool {
		if _, ok := sw.victims[name]; ok {
			unused[name] = slices.Clone(needs)
		} else {
			spare(needs)
		}
		return ctx.Err() == nil
	})
	if err != nil {
		return err
	}
	for name, needs := range unused {
		gone, err := sw.remove(ctx, name)
		if err != nil {
			return err
		}
		if !gone {
			spare(needs)
		}
	}
	return nil
}

// remove removes a victim, unless it has become young or gone.
func (sw *sweeper) remove(ctx context.Context, name mail.BlobRef) (gone bool, err error) {
	size := sw.victims[name].size
	delete(sw.victims, name)
	if gone, err = sw.blobs.Delete(ctx, name, sw.before); gone {
		sw.done.Removed++
		sw.done.Bytes += size
	}
	return gone, err
}

// sweep yields the bodies an account refers to and tidies its records up.
func (a *Account) sweep(ctx context.Context, trusted, due int64, keep func(mail.BlobRef)) error {
	if err := a.Reap(ctx); err != nil {
		return err
	}
	if _, err := a.purgeKept(ctx, due, true); err != nil {
		return err
	}
	if err := a.Update(ctx, func(tx *Tx) error { return tx.forget(trusted) }); err != nil {
		return err
	}
	if err := a.forgetRemoved(ctx); err != nil {
		return err
	}
	return a.bodies(ctx, keep)
}

// bodies yields the name of each message's body, a batch of messages at a time so
// that no snapshot is held for long.
func (a *Account) bodies(ctx context.Context, yield func(mail.BlobRef)) error {
	const batch = 5000
	next := []byte{famFacts}
	for next != nil {
		from := next
		next = nil
		n := 0
		err := a.View(ctx, func(s *Snapshot) error {
			var bad error
			err := s.r.Scan(from, []byte{famFacts + 1}, false, func(k, v []byte) bool {
				if n++; n > batch {
					next = append([]byte(nil), k...)
					return false
				}
				var f Facts
				if len(v) > 0 && v[0] == recLong {
					v, _, bad = s.getLong(famFacts, engine.Num(k, 0))
				}
				if bad == nil {
					f, bad = decodeFacts(v)
				}
				yield(f.Body)
				return bad == nil
			})
			if err == nil {
				err = bad
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// forget drops old idempotency keys and log lines.
func (tx *Tx) forget(now int64) error {
	const most = 10_000 // of one kind in one Update; the rest waits for the next Sweep
	var old [][]byte
	floor := now - int64(onceAge/time.Second)
	err := tx.w.Scan([]byte{famOnce}, []byte{famOnce + 1}, false, func(k, v []byte) bool {
		if p, err := unseal(recOnce, v); err == nil {
			if d := (dec{Rest: p}); d.I() < floor {
				old = append(old, append([]byte(nil), k...))
			}
		}
		return len(old) < most
	})
	if err != nil {
		return err
	}
	for _, k := range old {
		if err := tx.w.Delete(k); err != nil {
			return err
		}
	}
	boxes, err := tx.mailboxes()
	if err != nil {
		return err
	}
	for _, m := range boxes {
		if err := tx.trimLog(m.ID, tx.account.store.opt.LogLines); err != nil {
			return err
		}
	}
	return nil
}

// trimLog keeps the newest lines of a mailbox's log and raises its floor.
func (tx *Tx) trimLog(box mail.MailboxID, lines int) error {
	id := uint64(box)
	var cut mail.ModSeq
	n := 0
	err := tx.w.Scan(engine.Key(famLog, id), engine.Key(famLog, id+1), true, func(k, _ []byte) bool {
		n++
		cut = mail.ModSeq(engine.Num(k, 1))
		return n <= lines
	})
	if err != nil || n <= lines {
		return err
	}
	b, err := tx.open(box)
	if err != nil {
		return err
	}
	b.LogFloor, b.dirty, tx.acctDirty = cut, true, true
	return tx.w.DeleteRange(engine.Key(famLog, id), engine.Key(famLog, id, uint64(cut)+1))
}
