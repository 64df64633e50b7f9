package store

import (
	"cmp"
	"context"
	"slices"
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
	used := map[mail.BlobRef]struct{}{}
	keep := func(b mail.BlobRef) {
		if !b.IsZero() {
			used[b] = struct{}{}
		}
	}
	// Referrers first: what waits in the queue goes into an account without being put
	// again, and never the other way.
	if err := s.referred(ctx, keep); err != nil {
		return done, err
	}
	if err := s.sweepAccounts(ctx, trusted, keep, &done); err != nil {
		return done, err
	}
	if err := s.heldElsewhere(ctx); err != nil {
		return done, err
	}
	before := time.Unix(trusted, 0).Add(-SweepAge)
	sw := sweeper{s.eng.Blobs(), used, map[mail.BlobRef]victim{}, before, mail.BlobRef{}, &done}
	if s.shared != nil {
		if sw.clock, err = s.putClock(ctx); err != nil {
			return done, err
		}
	}
	err = sw.run(ctx)
	return done, err
}

// referred yields the bodies that somebody besides the accounts refers to.
func (s *Store) referred(ctx context.Context, keep func(mail.BlobRef)) error {
	s.mu.Lock()
	referrers := s.referrers
	s.mu.Unlock()
	for _, fn := range referrers {
		if err := fn(ctx, keep); err != nil {
			return err
		}
	}
	return nil
}

// sweepAccounts yields the bodies of all accounts and tidies their records up. Faults: Corrupt
// if one of them is damaged; what that holds is not known, and the others are tidied up all the
// same.
func (s *Store) sweepAccounts(ctx context.Context, trusted int64, keep func(mail.BlobRef), done *Swept) error {
	ids, err := s.everyAccount(ctx)
	if err != nil {
		return err
	}
	due, err := s.keptUntil(ctx)
	if err != nil {
		return err
	}
	var damaged error
	for _, id := range ids {
		err := s.Account(id).sweep(ctx, trusted, due, keep)
		if fault.Is(err, fault.NotFound) {
			err = s.Account(id).headless(ctx)
		}
		if fault.Is(err, fault.Corrupt) {
			s.opt.Log.Error("no body is removed, for the records of an account are damaged; run martlet verify", "account", id, "err", err)
			damaged = cmp.Or(damaged, err)
		} else if err != nil {
			return err
		}
		done.Accounts++
	}
	return damaged
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
