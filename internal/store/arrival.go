package store

import (
	"context"
	"errors"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// arrival is one change of several that brought messages into a mailbox.
type arrival struct {
	moved []Moved
	at    *Picture // for Upon: the mailbox with them, and nothing of what is in it
	doubt bool     // nobody knows whether the change came to be
}

// movedOf returns where the messages went that have surely come.
func movedOf(all []arrival) (moved []Moved) {
	for _, in := range all {
		if !in.doubt {
			moved = append(moved, in.moved...)
		}
	}
	return moved
}

// arrive makes one change that brings messages into a mailbox. If it fails for certain it returns none.
func (a *Account) arrive(ctx context.Context, box mail.MailboxID, bring func(*Tx) ([]Moved, error)) (in arrival, err error) {
	err = a.Update(ctx, func(tx *Tx) error {
		in = arrival{}
		moved, err := bring(tx)
		if err != nil {
			return err
		}
		b, err := tx.open(box)
		if err == nil {
			in.moved, in.at = moved, newPicture(b.Mailbox, nil, nil)
		}
		return err
	})
	if in.doubt = fault.Is(err, fault.Unknown); err != nil && !in.doubt {
		in = arrival{}
	}
	return in, err
}

// after returns the account for the next change of those of which this is one: it fails if
// this one was lost.
func (in arrival) after(a *Account) *Account {
	if in.at == nil {
		return a
	}
	return a.Upon(in.at)
}

// takeBack removes copies after a failure, which it returns: of each change only if it is there
// still, for its UIDs are given to others once the store has lost it.
func (a *Account) takeBack(ctx context.Context, box mail.MailboxID, all []arrival, cause error) error {
	ctx = context.WithoutCancel(ctx)
	for _, in := range all {
		if err := a.takeOneBack(ctx, box, in); err != nil && !errors.Is(err, ErrSetBack) {
			a.store.opt.Log.Error("a failed copy could not be taken back", "err", err)
		}
	}
	return cause
}

func (a *Account) takeOneBack(ctx context.Context, box mail.MailboxID, in arrival) error {
	if len(in.moved) == 0 {
		return nil
	}
	if in.doubt {
		if a.store.shared == nil || in.at.box.stamp == 0 {
			return nil // nothing tells whether it is there
		}
		if err := a.settle(ctx); err != nil {
			return err
		}
	}
	var set mail.UIDSet
	for _, m := range in.moved {
		set.Add(m.To)
	}
	_, _, err := a.Upon(in.at).As(0).expunge(ctx, box, set, false, false)
	return err
}

// settle makes a change of nothing: one before it that is on its way still comes too late then.
func (a *Account) settle(ctx context.Context) error {
	return (&Account{accountState: a.accountState}).Update(ctx, func(tx *Tx) error {
		tx.acctDirty = true
		return nil
	})
}
