package move

import (
	"context"
	"slices"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// Renaming is a message that its source calls something else now: it was moved there.
type Renaming struct {
	Box    Box
	Key    string // so far
	To     Box
	NewKey string
	// MoveTo is the mailbox here that the message goes into, too, if it lies still where it was
	// put; 0: where it lies now is its place.
	MoveTo mail.MailboxID
	// Over: if it is nowhere here any more, its tie leads to no message from now on.
	Over bool
	// Stays: the source could not take it out of where it was. What is called Key is passed over
	// from now on: a tie that leads to no message is left for it.
	Stays bool
}

// Rename ties messages to what their source calls them now. A message that is tied under the
// new key already keeps that tie. Keys that have no tie are passed over.
func (l *Local) Rename(ctx context.Context, list []Renaming) error {
	for part := range slices.Chunk(list, changesAtOnce) {
		err := l.account.Update(ctx, func(tx *store.Tx) error {
			for i := range part {
				if err := renameOne(tx, &part[i]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func renameOne(tx *store.Tx, r *Renaming) error {
	from, to := tied(r.Box), tied(r.To)
	t, ok, err := tx.Tie(from, r.Key)
	if err != nil || !ok || r.Box == r.To && r.Key == r.NewKey {
		return err
	}
	if _, taken, err := tx.Tie(to, r.NewKey); err != nil || taken {
		return err
	}
	if t.Message != 0 {
		spots, err := livePlaces(&tx.Snapshot, t.Message)
		if err != nil {
			return err
		}
		if err := settleTie(tx, &t, spots, r.MoveTo); err != nil {
			return err
		}
		if r.Over && len(spots) == 0 {
			t.Message = 0
		}
	}
	if err := leaveTie(tx, from, t, r.Stays); err != nil {
		return err
	}
	t.Key = r.NewKey
	return tx.PutTie(to, t)
}

// settleTie moves a message that lies where it was put, and notes where it lies.
func settleTie(tx *store.Tx, t *store.Tie, spots []spot, to mail.MailboxID) error {
	i := place(t, spots)
	switch {
	case i < 0 && len(spots) > 0: // moved here, too: that counts
		t.Mailbox, t.UID = spots[0].box, spots[0].uid
	case i >= 0 && to != 0 && to != t.Mailbox:
		moved, err := tx.Move(t.Mailbox, mail.SetOf(spots[i].uid), to)
		if err != nil || len(moved) == 0 {
			return err
		}
		t.Mailbox, t.UID = to, moved[0].To
	}
	return nil
}

// leaveTie forgets a tie, or has it lead to no message.
func leaveTie(tx *store.Tx, box store.TiedBox, t store.Tie, stays bool) error {
	if !stays {
		return tx.DropTie(box, t.Key)
	}
	t.Message = 0
	return tx.PutTie(box, t)
}

// Leaving is a message that is no more at the source, or no more here. Stays: as in Renaming.
type Leaving struct {
	Key, NewKey string
	Stays       bool
}

// Release takes ties out of a box and keeps them in another under new keys, with where their
// messages lie now, so that one that comes back is known. throw has the messages go into
// Trash before, or be expunged if they lie there, in the same commit, unless somebody moved
// them away from where they were put; copies elsewhere stay. If the new key is
// taken, the tie stays, and leads to no message any more.
func (l *Local) Release(ctx context.Context, box, to Box, list []Leaving, throw bool) error {
	for part := range slices.Chunk(list, changesAtOnce) {
		err := l.account.Update(ctx, func(tx *store.Tx) error {
			for _, one := range part {
				if err := releaseOne(tx, tied(box), tied(to), one, throw); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func releaseOne(tx *store.Tx, box, to store.TiedBox, one Leaving, throw bool) error {
	t, ok, err := tx.Tie(box, one.Key)
	if err != nil || !ok || t.Message == 0 {
		return err
	}
	spots, err := livePlaces(&tx.Snapshot, t.Message)
	if err == nil && throw && len(spots) > 0 {
		if err = throwAway(tx, &t, spots); err == nil {
			spots, err = livePlaces(&tx.Snapshot, t.Message)
		}
	}
	if err != nil {
		return err
	}
	_, taken, err := tx.Tie(to, one.NewKey)
	if err != nil {
		return err
	}
	if taken {
		t.Message = 0
		return tx.PutTie(box, t)
	}
	if len(spots) > 0 && !slices.ContainsFunc(spots, func(s spot) bool { return s.box == t.Mailbox }) {
		t.Mailbox, t.UID = spots[0].box, spots[0].uid
	}
	if err := leaveTie(tx, box, t, one.Stays); err != nil {
		return err
	}
	t.Key = one.NewKey
	return tx.PutTie(to, t)
}
