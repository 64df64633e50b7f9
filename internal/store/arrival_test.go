package store

import (
	"cmp"
	"errors"
	"testing"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// copying is who copies out of the INBOX of account 1, into that of account 2 or the archive of
// his own, over an engine that the test has in its hands; others work on the same store.
type copying struct {
	*world
	engine *doubtful
	other  *world
	target *Account // as others have it
	box    mail.MailboxID
}

func newCopying(t *testing.T, across bool) *copying {
	t.Helper()
	all, nodes := worlds(t, 2)
	c := &copying{engine: &doubtful{Shared: nodes[0]}, other: all[1]}
	c.world = worldOn(t, c.engine, all[0].clock)
	c.target, c.box = c.other.a, c.other.box(t, "Archive").ID
	if across {
		if err := c.CreateAccount(ctx, 2, Quota{}); err != nil {
			t.Fatal(err)
		}
		c.target = c.other.Account(2)
	}
	return c
}

// run copies all.
func (c *copying) run(t *testing.T, across bool) ([]Moved, error) {
	inbox := c.world.box(t, "INBOX").ID
	if across {
		return c.a.CopyTo(foreground, inbox, All(), c.Account(2), c.box)
	}
	return c.a.Copy(foreground, inbox, All(), c.box)
}

// arrives puts another message where the copies go.
func (c *copying) arrives(t *testing.T) {
	t.Helper()
	p := c.other.receive(t, otherText)
	err := c.target.Update(ctx, func(tx *Tx) error {
		_, err := tx.Append(c.box, NewMessage{Parcel: p})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A copy of which the outcome is unknown is not there once it has failed, whether it came to be
// or not; other mail that has come is.
func TestCopyInDoubt(t *testing.T) {
	for _, across := range []bool{false, true} {
		for _, made := range []bool{false, true} {
			for _, form := range []uint64{1, stampsForm} {
				c := newCopying(t, across)
				c.opt.Format = func() uint64 { return form }
				c.deliver(t, "INBOX", hello)
				n, settled := 0, false
				c.engine.update = func(shard engine.Shard, change changing) error {
					if n++; shard != c.target.shard || n > 1 {
						err := change(nil)
						settled = settled || n == 2 && err == nil
						return err
					}
					if !made {
						err := change(errLost)
						c.arrives(t)
						return err
					}
					return cmp.Or(change(nil), errLost)
				}
				_, err := c.run(t, across)
				if !fault.Is(err, fault.Unknown) {
					t.Errorf("across %v, made %v: %v", across, made, err)
				}
				if form >= stampsForm && !settled { // one that is on its way would come after the look
					t.Errorf("across %v, made %v: it was looked for, and nothing was changed before", across, made)
				}
				want := 1 // of others, or a copy that nothing tells of
				if made && form >= stampsForm {
					want = 0
				}
				if got := len(uidsIn(t, c.target, c.box)); got != want {
					t.Errorf("across %v, made %v, form %d: %d messages are there, not %d", across, made, form, got, want)
				}
			}
		}
	}
}

// While a copy of several changes is on its way the first are lost, and others have their UIDs:
// nobody is told of the copies, and what is in their place stays.
func TestCopySetBackInTheMidst(t *testing.T) {
	for _, across := range []bool{false, true} {
		for _, then := range []error{nil, errAway, errLost} {
			c := newCopying(t, across)
			inbox, n := c.world.box(t, "INBOX").ID, bulkPages+10
			if across {
				n = acrossMessages + 10
			}
			c.scattered(t, inbox, n)
			before := recordsOf(t, c.engine.Shared, c.target.shard)
			changes := 0
			c.engine.update = func(shard engine.Shard, change changing) error {
				if shard != c.target.shard {
					return change(nil)
				}
				if changes++; changes != 2 {
					return change(nil)
				}
				setBack(t, before, c.engine.Shared, shard)
				c.arrives(t)
				if then != nil {
					return then
				}
				return change(nil)
			}
			moved, err := c.run(t, across)
			if err == nil || len(moved) > 0 || then == nil && !errors.Is(err, ErrSetBack) || then != nil && !errors.Is(err, then) {
				t.Errorf("across %v, then %v: %d are told of, %v", across, then, len(moved), err)
			}
			if changes < 2 {
				t.Fatalf("%d changes: nothing is tried", changes)
			}
			if got := uidsIn(t, c.target, c.box); len(got) != 1 {
				t.Errorf("across %v, then %v: %d messages are there, and one has come", across, then, len(got))
			}
		}
	}
}

// A move of several changes tells of nothing that was lost in the midst.
func TestMoveSetBackInTheMidst(t *testing.T) {
	c := newCopying(t, false)
	inbox := c.world.box(t, "INBOX").ID
	c.scattered(t, inbox, bulkPages+10)
	before := recordsOf(t, c.engine.Shared, c.target.shard)
	changes := 0
	c.engine.update = func(shard engine.Shard, change changing) error {
		if changes++; changes == 2 {
			setBack(t, before, c.engine.Shared, shard)
			c.arrives(t)
		}
		return change(nil)
	}
	if moved, err := c.a.Move(foreground, inbox, All(), c.box); len(moved) > 0 || !errors.Is(err, ErrSetBack) || changes < 2 {
		t.Errorf("%d are told of, %v", len(moved), err)
	}
	if here, there := c.other.picture(t, inbox).Len(), len(uidsIn(t, c.target, c.box)); here != bulkPages+10 || there != 1 {
		t.Errorf("%d are here and %d there", here, there)
	}
}
