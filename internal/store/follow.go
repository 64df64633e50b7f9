package store

import (
	"context"
	"sync"

	"github.com/martlet-mail/martlet/internal/mail"
)

// Origin stands for who makes changes, so that a Follower can tell its own from those
// of others. Changes made under a marked context are its own.
type Origin struct{ _ byte } // not of size zero: two must differ

type originKey struct{}

// Mark returns a context whose changes are of this origin.
func (o *Origin) Mark(ctx context.Context) context.Context {
	return context.WithValue(ctx, originKey{}, o)
}

// maxTouched is how many mailboxes a Follower remembers between two Takes.
const maxTouched = 4096

// Follower gathers which mailboxes of an account change, for who watches many of them
// and must not look at each. It holds at most maxTouched of them, whatever happens.
type Follower struct {
	account *Account
	own     *Origin
	wake    func()

	mu      sync.Mutex
	touched Touched
}

// Touched is what was changed since the last Take.
type Touched struct {
	Boxes map[mail.MailboxID]Touch // 0: subscriptions, or annotations of the account
	// Lost, if not 0, means that there were too many, or that another process made them:
	// any mailbox may have changed since this modseq.
	Lost mail.ModSeq
}

// IsEmpty tells whether nothing was changed.
func (t *Touched) IsEmpty() bool { return len(t.Boxes) == 0 && t.Lost == 0 }

// Touch is what is known of the changes of one mailbox.
type Touch struct {
	First   mail.ModSeq // of the first change that others made; 0 if they made none
	Brought mail.UIDSet // messages that came in by changes of the Follower's own origin
}

// Follow begins to gather. wake, if not nil, is called after each durable change by
// others, from their goroutine: it must return at once and not call the account.
func (a *Account) Follow(own *Origin, wake func()) *Follower {
	f := &Follower{account: a, own: own, wake: wake}
	a.attend()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.followers == nil {
		a.followers = map[*Follower]struct{}{}
	}
	a.followers[f] = struct{}{}
	return f
}

// Followers returns how many there are.
func (a *Account) Followers() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.followers)
}

// Stop ends it.
func (f *Follower) Stop() {
	a := f.account
	a.mu.Lock()
	_, there := a.followers[f]
	delete(a.followers, f)
	a.mu.Unlock()
	if there {
		a.leave()
	}
}

// Take returns what was gathered and forgets it. A Snapshot or Picture made after it
// shows all of it, and perhaps more, which a later Take names again.
func (f *Follower) Take() Touched {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.touched
	f.touched = Touched{}
	return t
}

// note adds what a commit did.
func (f *Follower) note(tx *Tx, own bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, b := range tx.boxes {
		if b.dirty || b.gone {
			f.add(id, tx.mod, own, b.log.Arrived)
		}
	}
	for _, set := range [...]mail.UIDSet{tx.account0.Arrived, tx.account0.Changed, tx.account0.Expunged} {
		for id := range set.All() {
			f.add(mail.MailboxID(id), tx.mod, own, nil)
		}
	}
}

func (f *Follower) add(id mail.MailboxID, mod mail.ModSeq, own bool, arrived mail.UIDSet) {
	all := &f.touched
	t, known := all.Boxes[id]
	if !known && len(all.Boxes) >= maxTouched {
		all.Lost = lower(all.Lost, mod)
		return
	}
	if own {
		for _, r := range arrived {
			t.Brought.AddRange(r.From, r.To)
		}
	} else {
		t.First = lower(t.First, mod)
	}
	if all.Boxes == nil {
		all.Boxes = map[mail.MailboxID]Touch{}
	}
	all.Boxes[id] = t
}

// lower returns the lower of two modseqs, of which a may be none.
func lower(a, b mail.ModSeq) mail.ModSeq {
	if a == 0 {
		return b
	}
	return min(a, b)
}
