package store

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Account is the handle of one account: cheap, never closed. It is everybody's, or of
// one who has rights on some of its mailboxes (As).
type Account struct {
	*accountState
	as mail.AccountID // whose rights and \Seen count; 0: no rights are asked for

	upon *Picture // what the user acts upon; nil: nothing in particular
}

// accountState is what all handles of an account share.
type accountState struct {
	store *Store
	id    mail.AccountID
	shard engine.Shard

	// generation rises after each commit that has become durable; a Picture made
	// at the present generation is still true.
	generation atomic.Uint64

	mu       sync.Mutex
	watchers []*Watcher
	boxes    map[boxKey]*boxState
	named    map[string]mail.MailboxID // names that open mailboxes had, for Known
	sharing  sharing

	attendance attendance
	followers  map[*Follower]struct{}
}

// boxKey is a mailbox as its owner (guest 0) or a guest sees it.
type boxKey struct {
	box   mail.MailboxID
	guest mail.AccountID
}

// Watcher is woken after each durable change of an account.
type Watcher struct {
	account *accountState
	wake    func()
	at      int // its place among the watchers
}

// ID returns the account's id.
func (a *Account) ID() mail.AccountID { return a.id }

// As returns the account as a user meets it, its owner or another: changes need the
// user's rights on the mailbox, and \Seen is the user's own.
func (a *Account) As(user mail.AccountID) *Account {
	return &Account{accountState: a.accountState, as: user, upon: a.upon}
}

// guest returns the user of the handle if that is not the owner, else 0.
func (a *Account) guest() mail.AccountID {
	if a.as == a.id {
		return 0
	}
	return a.as
}

// Update runs fn alone on the account and commits what it did, atomically; nil
// means durable. Everything done in one Update has the same modseq. fn may run more
// than once and must have no effect but through the Tx. Faults: those of fn;
// NotFound if the account has no data; Unavailable if the disk is full or broken;
// Unknown if the commit may or may not come to be.
func (a *Account) Update(ctx context.Context, fn func(*Tx) error) error {
	return a.update(ctx, false, fn)
}

func (a *Account) update(ctx context.Context, create bool, fn func(*Tx) error) error {
	var tx *Tx // of the last run of fn, which is the one that counts
	began := a.begin()
	err := a.store.eng.Update(ctx, a.shard, func(w engine.Writer) (err error) {
		if tx, err = newTx(a, w, create); err != nil {
			return err
		}
		if err := fn(tx); err != nil {
			return err
		}
		if err := tx.flush(); err != nil {
			return err
		}
		return standing(ctx)
	})
	if err == nil || fault.Is(err, fault.Unknown) {
		generation := a.generation.Add(1) // pictures are stale, but those that advance
		if err == nil {
			a.looked(began, tx.acct.modSeq)
			a.advance(tx, generation)
		}
		a.changed(ctx, tx)
	}
	if err == nil {
		a.briefArrived(tx)
		if tx.keepsMore && tx.keepsTooMuch() {
			a.trimKept(ctx)
		}
	}
	return err
}

// View runs fn on a consistent snapshot of the account. All that fn saw is durable
// when View returns nil, so a caller tells it to the world after View, never
// inside: a Snapshot must not live across a socket.
func (a *Account) View(ctx context.Context, fn func(*Snapshot) error) error {
	if a.store.shared != nil {
		return a.look(ctx, fn)
	}
	return a.view(ctx, fn)
}

func (a *Account) view(ctx context.Context, fn func(*Snapshot) error) error {
	return a.store.eng.View(ctx, a.shard, func(r engine.Reader) error {
		s, err := newSnapshot(a, r)
		if err != nil {
			return err
		}
		return fn(s)
	})
}

// Watch returns a channel of capacity one that receives a tick after each durable
// change of the account; ticks coalesce and carry nothing. stop ends it.
//
// A tick comes after the change is visible to Picture and View, never before.
func (a *Account) Watch() (ticks <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	w := a.Wake(func() {
		select {
		case c <- struct{}{}:
		default:
		}
	})
	return c, w.Stop
}

// Wake has wake called where Watch would tick: by the goroutine of whoever made the
// change, before it is told that the change is durable. wake must return at once and not
// call the account. For a change by another process it is called some time after, or before
// this one can see it.
func (a *Account) Wake(wake func()) *Watcher {
	a.attend()
	a.mu.Lock()
	defer a.mu.Unlock()
	w := &Watcher{account: a.accountState, wake: wake, at: len(a.watchers)}
	a.watchers = append(a.watchers, w)
	return w
}

// Stop ends it; a call that is under way may still come.
func (w *Watcher) Stop() {
	if a := w.account; a.forgets(w) {
		a.leave()
	}
}

// forgets removes a watcher, if it is there.
func (a *accountState) forgets(w *Watcher) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if w.at < 0 {
		return false
	}
	last := len(a.watchers) - 1
	a.watchers[w.at] = a.watchers[last]
	a.watchers[w.at].at = w.at
	a.watchers[last], a.watchers = nil, a.watchers[:last]
	if w.at = -1; last == 0 {
		a.watchers = nil
	}
	return true
}

// Generation returns a number that differs from an earlier one if the account may
// have changed between: the cheapest question there is.
func (a *Account) Generation() uint64 { return a.generation.Load() }

// yieldFor is for how many who are woken the one who made a change lets them go first.
const yieldFor = 16

// changed wakes those who wait, when pictures are no longer what they were. If they are
// few they begin to tell of the change before the one who made it goes on; of many it would
// be a burden to him.
func (a *Account) changed(ctx context.Context, tx *Tx) {
	if n := a.wakeAll(ctx, tx); n > 0 && n <= yieldFor {
		runtime.Gosched()
	}
}

// wakeAll returns how many it has woken.
func (a *Account) wakeAll(ctx context.Context, tx *Tx) (woken int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for f := range a.followers {
		own := f.own != nil && ctx.Value(originKey{}) == f.own
		if tx != nil {
			f.note(tx, own)
		}
		if !own && f.wake != nil {
			f.wake()
			woken++
		}
	}
	for _, w := range a.watchers {
		w.wake()
	}
	return woken + len(a.watchers)
}
