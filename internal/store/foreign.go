package store

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
)

// An engine may be shared with other processes, which change accounts too. What is kept in
// memory of an account is then true as of the last View or Update that has looked, if the
// engine tells of what others have done before it shows it (engine.Shared). It is asked to
// for the accounts that somebody here attends to, and for no others: of those a Picture is
// proved by reading. docs/decisions/0048.
//
// On an engine that is this process's alone nothing of this is done.

// Moment returns a number that orders what happens in this process: a View that began after
// it shows all that anybody was told of, anywhere, before it. Where no other process changes
// anything it is 0.
func (s *Store) Moment() uint64 {
	if s.shared == nil {
		return 0
	}
	return s.moments.Add(1)
}

// IsShared tells whether other processes may change accounts.
func (s *Store) IsShared() bool { return s.shared != nil }

// attendance is who of this process attends to an account that others may change, and what
// is known of it.
type attendance struct {
	mu   sync.Mutex // never held by who is told of foreign changes
	n    int
	stop func()

	on     atomic.Bool
	proved atomic.Uint64 // moment at which the last look began
	seen   atomic.Uint64 // highest modseq that anybody here has seen

	setBacks atomic.Uint64 // how often it had to be forgotten
}

// Attend has the engine tell of what other processes change until leave is called, so that
// what is in memory of the account serves without a look at the engine. Who watches, wakes or
// follows attends anyway.
func (a *Account) Attend() (leave func()) {
	if a.store.shared == nil {
		return func() {}
	}
	a.attend()
	return sync.OnceFunc(a.leave)
}

func (a *accountState) attend() {
	if a.store.shared == nil {
		return
	}
	at := &a.attendance
	at.mu.Lock()
	defer at.mu.Unlock()
	if at.n++; at.n > 1 {
		return
	}
	at.stop = a.store.shared.Foreign(a.shard, a.foreign)
	a.generation.Add(1) // nobody has told of what happened before
	at.on.Store(true)
}

func (a *accountState) leave() {
	if a.store.shared == nil {
		return
	}
	at := &a.attendance
	at.mu.Lock()
	defer at.mu.Unlock()
	if at.n--; at.n == 0 {
		at.on.Store(false)
		at.stop()
		at.stop = nil
	}
}

// foreign is told that another process has changed the account.
func (a *accountState) foreign() {
	a.generation.Add(1)
	a.lose(mail.ModSeq(a.attendance.seen.Load()) + 1)
}

// lose notes that any mailbox may have changed since a modseq.
func (f *Follower) lose(since mail.ModSeq) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.touched.Lost = lower(f.touched.Lost, since)
}

// isProved tells whether what is in memory and of the present generation is true as of a
// moment. The generation is to be read after it.
func (a *accountState) isProved(since uint64) bool {
	at := &a.attendance
	return a.store.shared == nil || at.on.Load() && at.proved.Load() > since
}

// look is View, noted as what it proves.
func (a *Account) look(ctx context.Context, fn func(*Snapshot) error) error {
	began, seen := a.begin(), mail.ModSeq(0)
	err := a.view(ctx, func(s *Snapshot) error {
		seen = s.acct.modSeq
		return fn(s)
	})
	if err == nil {
		if seen < began.seen {
			a.setBack()
		}
		a.looked(began, seen)
	}
	return err
}

// beginning is where a View or Update began.
type beginning struct {
	moment   uint64
	seen     mail.ModSeq // highest that had been seen
	setBacks uint64
}

func (a *accountState) begin() (b beginning) {
	if a.store.shared == nil {
		return b
	}
	at := &a.attendance
	b.setBacks = at.setBacks.Load()
	b.moment, b.seen = a.store.Moment(), mail.ModSeq(at.seen.Load())
	return b
}

// looked notes that a View or Update has seen the account. What it saw before the account was set
// back counts no more.
func (a *accountState) looked(began beginning, seen mail.ModSeq) {
	if a.store.shared == nil {
		return
	}
	at := &a.attendance
	raise(&at.proved, began.moment)
	if at.setBacks.Load() == began.setBacks || seen < began.seen {
		raise(&at.seen, uint64(seen))
	}
}

func raise(n *atomic.Uint64, to uint64) {
	for now := n.Load(); now < to && !n.CompareAndSwap(now, to); now = n.Load() {
	}
}

// Prove looks at the account, unless somebody has since a moment: Generation then tells of
// all changes before it. Faults: as View.
func (a *Account) Prove(ctx context.Context, since uint64) error {
	if a.isProved(since) {
		return nil
	}
	return a.View(ctx, func(*Snapshot) error { return nil })
}

// Patient returns a context whose calls wait no longer than d for a store that cannot be
// reached, before they fail with kind Unavailable.
func (s *Store) Patient(ctx context.Context, d time.Duration) context.Context {
	return engine.Patient(ctx, d)
}

// asShared returns the engine as one that others work on too, or nil.
func asShared(e engine.Engine) engine.Shared {
	shared, _ := e.(engine.Shared)
	return shared
}
