package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/test/traffic"
)

var boxes = [...]string{"INBOX", "Archive", "Trash"}

// pace is the time that passes with each step of a user: so little that a body is
// far from store.SweepAge when the message that needs it is appended, however the
// users' steps fall, and so much that bodies grow old during a run.
const pace = 30 * time.Minute

// clock is a time that only steps move.
type clock struct{ passed atomic.Int64 }

func (c *clock) now() time.Time {
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(c.passed.Load()))
}

func (c *clock) pass(d time.Duration) { c.passed.Add(int64(d)) }

// user changes mail in one account, as one session would.
type user struct {
	name    string
	clock   *clock
	rng     *rand.Rand
	store   *store.Store
	account *store.Account
	ids     map[string]mail.MailboxID
	ledger  *ledger
	mine    []letter
	where   map[letter]state
}

func newUser(p *plug, l *ledger, account mail.AccountID, name string, rng *rand.Rand) (*user, error) {
	u := &user{
		name: name, clock: p.clock, rng: rng, store: p.store, account: p.store.Account(account), ledger: l,
		ids: map[string]mail.MailboxID{}, where: map[letter]state{},
	}
	err := u.account.View(context.Background(), func(s *store.Snapshot) error {
		for _, name := range boxes {
			m, err := s.Mailbox(name)
			if err != nil {
				return err
			}
			u.ids[name] = m.ID
		}
		return nil
	})
	return u, err
}

// work does n random changes.
func (u *user) work(n int) error {
	for i := range n {
		u.clock.pass(pace)
		step := u.append
		switch r := u.rng.IntN(12); {
		case len(u.mine) == 0 || r < 5:
		case r < 7:
			step = u.setFlags
		case r < 9:
			step = u.move
		case r < 10:
			step = u.expunge
		case r < 11:
			step = u.burn
		default:
			step = u.look
		}
		if err := step(i); err != nil {
			return fmt.Errorf("%s, step %d: %w", u.name, i, err)
		}
	}
	return nil
}

func (u *user) append(i int) error {
	return u.appendTo(boxes[u.rng.IntN(len(boxes))], i)
}

func (u *user) appendTo(box string, i int) error {
	ctx := context.Background()
	id := letter{u.account.ID(), fmt.Sprintf("%s-%d-%d", u.name, i, u.rng.Uint32())}
	text := compose(u.rng, id.token)
	s := state{box: box, flags: mail.Flags(u.rng.IntN(32))}
	parcel, err := u.store.Receive(ctx, strings.NewReader(text))
	if err != nil {
		return err
	}
	u.ledger.arrives(id, text, s)
	err = u.account.Update(ctx, func(tx *store.Tx) (err error) {
		s.uid, err = tx.Append(u.ids[s.box], store.NewMessage{Parcel: parcel, Flags: s.flags})
		return err
	})
	if err != nil {
		return err
	}
	u.ledger.acks(id, s.uid)
	u.mine = append(u.mine, id)
	u.where[id] = s
	return nil
}

// compose writes a message. Some have the same body as others, some have none.
func compose(rng *rand.Rand, token string) string {
	head := fmt.Sprintf("From: a@example.org\r\nSubject: %d\r\n%s%s\r\nMessage-ID: <%s@example.org>\r\n\r\n",
		rng.IntN(10), traffic.TokenField, token, token)
	switch rng.IntN(10) {
	case 0:
		return head
	case 1, 2:
		return head + strings.Repeat("the same body for many\r\n", 100)
	}
	var b strings.Builder
	b.WriteString(head)
	for range rng.IntN(300) {
		fmt.Fprintf(&b, "%x\r\n", rng.Uint64())
	}
	return b.String()
}

// pick returns one of the user's messages.
func (u *user) pick() (letter, state) {
	id := u.mine[u.rng.IntN(len(u.mine))]
	return id, u.where[id]
}

func (u *user) setFlags(int) error {
	id, s := u.pick()
	s.flags = mail.Flags(u.rng.IntN(32))
	u.ledger.tries(id, s)
	r, err := u.account.SetFlags(context.Background(), u.ids[s.box], mail.SetOf(s.uid),
		store.FlagChange{Op: store.ReplaceFlags, Flags: s.flags})
	if err != nil {
		return err
	}
	if s.flags != u.where[id].flags && r.Changed.Len() != 1 {
		return fmt.Errorf("flags of %v did not change", id)
	}
	u.ledger.acks(id, s.uid)
	u.where[id] = s
	return nil
}

// move moves one of the user's messages, and all others beside it, as one change.
func (u *user) move(int) error {
	_, s := u.pick()
	to := boxes[u.rng.IntN(len(boxes))]
	if to == s.box {
		return nil
	}
	return u.moveAll(s.box, to)
}

func (u *user) moveAll(from, to string) error {
	var set mail.UIDSet
	movers := map[mail.UID]letter{}
	for _, id := range u.mine {
		if s := u.where[id]; s.box == from {
			set.Add(s.uid)
			movers[s.uid] = id
			u.ledger.tries(id, state{box: to, flags: s.flags})
		}
	}
	moved, err := u.account.Move(context.Background(), u.ids[from], set, u.ids[to])
	if err != nil {
		return err
	}
	if len(moved) != len(movers) {
		return fmt.Errorf("%d of %d messages moved", len(moved), len(movers))
	}
	for _, m := range moved {
		id := movers[m.From]
		u.ledger.acks(id, m.To)
		u.where[id] = state{to, m.To, u.where[id].flags}
	}
	return nil
}

// burn makes a mailbox, puts new and old messages into it and deletes it.
func (u *user) burn(i int) error {
	ctx := context.Background()
	box := "Burn/" + u.name
	err := u.account.Update(ctx, func(tx *store.Tx) error {
		m, err := tx.CreateMailbox(box, "")
		u.ids[box] = m.ID
		return err
	})
	if err != nil {
		return err
	}
	_, s := u.pick()
	if err := errors.Join(u.appendTo(box, i), u.moveAll(s.box, box)); err != nil {
		return err
	}
	gone := func(id letter) bool { return u.where[id].box == box }
	for _, id := range u.mine {
		if gone(id) {
			u.ledger.tries(id, state{})
		}
	}
	if _, err := u.account.DeleteMailbox(ctx, box); err != nil {
		return err
	}
	for _, id := range u.mine {
		if gone(id) {
			u.ledger.acks(id, 0)
		}
	}
	u.mine = slices.DeleteFunc(u.mine, gone)
	return nil
}

func (u *user) expunge(int) error {
	i := u.rng.IntN(len(u.mine))
	id := u.mine[i]
	s := u.where[id]
	u.ledger.tries(id, state{})
	if _, err := u.account.Expunge(context.Background(), u.ids[s.box], mail.SetOf(s.uid), false); err != nil {
		return err
	}
	u.ledger.acks(id, 0)
	u.mine = append(u.mine[:i], u.mine[i+1:]...)
	delete(u.where, id)
	return nil
}

// look opens a mailbox, as SELECT would.
func (u *user) look(int) error {
	box := boxes[u.rng.IntN(len(boxes))]
	p, err := u.account.Picture(context.Background(), u.ids[box])
	if err != nil {
		return err
	}
	u.ledger.tells(place{u.account.ID(), box}, p.Mailbox())
	return nil
}
