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
	"github.com/martlet-mail/martlet/test/traffic"
)

// plug is a store that is plugged in.
type plug struct {
	clock  *clock
	engine *pebble.Engine
	store  *store.Store
}

func plugIn(disk vfs.FS, c *clock) (*plug, error) {
	eng, err := pebble.Open("data", pebble.Options{
		FS: disk, Now: c.now, MemTableBytes: 128 << 10, CacheBytes: 1 << 20, ReserveBytes: -1,
	})
	if err != nil {
		return nil, fmt.Errorf("open the engine: %w", err)
	}
	s, err := store.Open(eng, store.Options{Now: c.now})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the store: %w", err), eng.Close())
	}
	return &plug{c, eng, s}, nil
}

func (p *plug) close() error {
	p.store.Close()
	return p.engine.Close()
}

// workAll runs two users on each of two accounts.
func workAll(p *plug, l *ledger, seed uint64, name string, n int) error {
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		u, err := newUser(p, l, mail.AccountID(1+i%2), fmt.Sprintf("%s%d", name, i), rng)
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
	p, err := plugIn(wrap(errorfs.Wrap(disk, c)), &clock{})
	if err != nil {
		return err
	}
	if err := createAccounts(p.store); err != nil {
		return err
	}
	if err := workAll(p, l, seed, "first", 8); err != nil {
		return err
	}
	p.clock.pass(store.SweepAge) // nobody is at work: now bodies may be swept
	swept := make(chan error)
	go func() { swept <- sweepAgain(p.store, 3) }()
	if err := errors.Join(workAll(p, l, seed+1<<20, "second", 8), <-swept); err != nil {
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

func sweepAgain(s *store.Store, times int) error {
	for range times {
		if _, err := s.Sweep(context.Background()); err != nil {
			return fmt.Errorf("sweep: %w", err)
		}
	}
	return nil
}

func createAccounts(s *store.Store) error {
	ctx := context.Background()
	return errors.Join(s.CreateAccount(ctx, 1, store.Quota{}), s.CreateAccount(ctx, 2, store.Quota{}))
}

// afterwards plugs in what a cut left, some days later, and checks it: as it is, after
// a sweep, and after some more work.
func afterwards(l *ledger, c cut) error {
	later := &clock{}
	later.pass(96 * time.Hour)
	p, err := plugIn(c.disk, later)
	if err != nil {
		return err
	}
	if err := check(p.store, l, c.then); err != nil {
		return err
	}
	if err := sweepAgain(p.store, 1); err != nil {
		return err
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
	if err := workAll(p, more, 1<<40, "third", 3); err != nil {
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
		_, rest, _ := strings.Cut(string(text), traffic.TokenField)
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
