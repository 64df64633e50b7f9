package crash

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

var boxes = [...]string{"INBOX", "Archive", "Trash"}

// tokenField carries the name under which the ledger knows a message.
const tokenField = "X-Ledger: "

// plug is a store that is plugged in.
type plug struct {
	engine *pebble.Engine
	store  *store.Store
}

func plugIn(disk vfs.FS, now func() time.Time) (*plug, error) {
	eng, err := pebble.Open("data", pebble.Options{
		FS: disk, Now: now, MemTableBytes: 128 << 10, CacheBytes: 1 << 20, ReserveBytes: -1,
	})
	if err != nil {
		return nil, fmt.Errorf("open the engine: %w", err)
	}
	s, err := store.Open(eng, store.Options{Now: now})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the store: %w", err), eng.Close())
	}
	return &plug{eng, s}, nil
}

func (p *plug) close() error {
	p.store.Close()
	return p.engine.Close()
}

// user changes mail in one account, as one session would.
type user struct {
	name    string
	rng     *rand.Rand
	store   *store.Store
	account *store.Account
	ids     map[string]mail.MailboxID
	ledger  *ledger
	mine    []letter
	where   map[letter]state
}

func newUser(s *store.Store, l *ledger, account mail.AccountID, name string, rng *rand.Rand) (*user, error) {
	u := &user{
		name: name, rng: rng, store: s, account: s.Account(account), ledger: l,
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
		step := u.append
		switch r := u.rng.IntN(10); {
		case len(u.mine) == 0 || r < 5:
		case r < 7:
			step = u.setFlags
		case r < 8:
			step = u.move
		case r < 9:
			step = u.expunge
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
	ctx := context.Background()
	id := letter{u.account.ID(), fmt.Sprintf("%s-%d", u.name, i)}
	text := compose(u.rng, id.token)
	s := state{box: boxes[u.rng.IntN(len(boxes))], flags: mail.Flags(u.rng.IntN(32))}
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
		rng.IntN(10), tokenField, token, token)
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

func (u *user) move(int) error {
	id, s := u.pick()
	to := state{box: boxes[u.rng.IntN(len(boxes))], flags: s.flags}
	if to.box == s.box {
		return nil
	}
	u.ledger.tries(id, to)
	moved, err := u.account.Move(context.Background(), u.ids[s.box], mail.SetOf(s.uid), u.ids[to.box])
	if err != nil {
		return err
	}
	if len(moved) != 1 {
		return fmt.Errorf("%v moved %d times", id, len(moved))
	}
	to.uid = moved[0].To
	u.ledger.acks(id, to.uid)
	u.where[id] = to
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

// workAll runs two users on each of two accounts.
func workAll(s *store.Store, l *ledger, seed uint64, name string, n int) error {
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		u, err := newUser(s, l, mail.AccountID(1+i%2), fmt.Sprintf("%s%d", name, i), rng)
		if err != nil {
			return err
		}
		wg.Go(func() { errs[i] = u.work(n) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// powerCuts runs users, cuts the power a few times, and checks each time.
func powerCuts(seed uint64, wrap func(vfs.FS) vfs.FS) error {
	rng := rand.New(rand.NewPCG(seed, 99))
	l := newLedger()
	disk := vfs.NewCrashableMem()
	c := newCutter(rng, l, disk)
	now := func() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }
	p, err := plugIn(wrap(errorfs.Wrap(disk, c)), now)
	if err != nil {
		return err
	}
	if err := createAccounts(p.store); err != nil {
		return err
	}
	if err := workAll(p.store, l, seed, "first", 12); err != nil {
		return err
	}
	cuts := c.all()
	if err := p.close(); err != nil {
		return err
	}
	for i, cut := range cuts {
		if err := afterwards(l, cut); err != nil {
			return fmt.Errorf("cut %d of %d: %w", i, len(cuts), err)
		}
	}
	return nil
}

func createAccounts(s *store.Store) error {
	ctx := context.Background()
	return errors.Join(s.CreateAccount(ctx, 1, store.Quota{}), s.CreateAccount(ctx, 2, store.Quota{}))
}

// afterwards plugs in what a cut left, two days later, and checks it: as it is, after
// a sweep, and after some more work.
func afterwards(l *ledger, c cut) error {
	p, err := plugIn(c.disk, func() time.Time { return time.Date(2026, 1, 3, 0, 0, 0, 0, time.UTC) })
	if err != nil {
		return err
	}
	if err := check(p.store, l, c.then); err != nil {
		return err
	}
	if _, err := p.store.Sweep(context.Background()); err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	if err := check(p.store, l, c.then); err != nil {
		return fmt.Errorf("after a sweep: %w", err)
	}
	if err := createAccounts(p.store); err != nil { // whoever made them would try again
		return err
	}
	if err := check(p.store, l, c.then); err != nil {
		return fmt.Errorf("after the accounts were made again: %w", err)
	}
	more := newLedger()
	if err := workAll(p.store, more, 1<<40, "second", 3); err != nil {
		return fmt.Errorf("more work: %w", err)
	}
	if err := verify(p.store); err != nil {
		return fmt.Errorf("after more work: %w", err)
	}
	return p.close()
}

func check(s *store.Store, l *ledger, then moment) error {
	if err := verify(s); err != nil {
		return err
	}
	f, err := find(s)
	if err != nil {
		return err
	}
	return l.compare(f, then)
}

func verify(s *store.Store) error {
	var errs []error
	_, err := s.Verify(context.Background(), func(p store.Problem) { errs = append(errs, fmt.Errorf("verify: %+v", p)) }, nil)
	return errors.Join(append(errs, err)...)
}

// find reads everything in the store.
func find(s *store.Store) (found, error) {
	ctx := context.Background()
	f := found{map[letter][]state{}, map[letter]string{}, map[place]store.Mailbox{}}
	ids, err := s.Accounts(ctx)
	if err != nil {
		return f, err
	}
	for _, id := range ids {
		a := s.Account(id)
		var all []store.Mailbox
		err := a.View(ctx, func(s *store.Snapshot) (err error) { all, err = s.Mailboxes(); return err })
		if fault.Is(err, fault.NotFound) {
			continue // cut off while it was made
		}
		if err != nil {
			return f, err
		}
		for _, m := range all {
			p, err := a.Picture(ctx, m.ID)
			if err != nil {
				return f, err
			}
			f.boxes[place{id, m.Name}] = p.Mailbox()
			if err := f.read(a, m.Name, p); err != nil {
				return f, err
			}
		}
	}
	return f, nil
}

func (f *found) read(a *store.Account, box string, p *store.Picture) error {
	for _, m := range p.Messages(store.All()) {
		r, err := a.Open(context.Background(), m.ID, 0, -1)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil {
			return err
		}
		_, rest, _ := strings.Cut(string(text), tokenField)
		token, _, _ := strings.Cut(rest, "\r\n")
		id := letter{a.ID(), token}
		f.letters[id] = append(f.letters[id], state{box, m.UID, m.Flags})
		f.texts[id] = string(text)
	}
	return nil
}

func TestPowerCut(t *testing.T) {
	for seed := range number(t, "MARTLET_CRASH_SEEDS", 60/effort) {
		if err := powerCuts(uint64(seed), func(fs vfs.FS) vfs.FS { return fs }); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

// TestPowerCutNoticesLoss runs the same without syncs of the log: if nothing is
// lost then, the test above proves nothing.
func TestPowerCutNoticesLoss(t *testing.T) {
	lost := 0
	for seed := range 10 / min(effort, 2) {
		if powerCuts(uint64(seed), func(fs vfs.FS) vfs.FS { return lazyDisk{fs} }) != nil {
			lost++
		}
	}
	if lost == 0 {
		t.Error("a log that is never synced lost nothing")
	}
	t.Logf("%d runs without syncs lost something", lost)
}
