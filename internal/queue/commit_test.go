package queue

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// faulty is an engine whose changes end as a test wants.
type faulty struct {
	engine.Engine
	ends func(n int) (before, after error) // of the n-th change, from 1 on: it is not made, or it is

	mu       sync.Mutex
	patience []time.Duration // that the changes had; negative: the engine's own
}

func (f *faulty) Update(ctx context.Context, sh engine.Shard, fn func(engine.Writer) error) error {
	f.mu.Lock()
	f.patience = append(f.patience, engine.Patience(ctx, -1))
	n := len(f.patience)
	f.mu.Unlock()
	before, after := f.ends(n)
	if before != nil {
		return before
	}
	if err := f.Engine.Update(ctx, sh, fn); err != nil {
		return err
	}
	return after
}

var (
	errAway  = fault.New(fault.Unavailable, "away")
	errDoubt = fault.New(fault.Unknown, "nobody knows")
)

// crowd has changes wait while one is under way. The engine then ends all as ends says.
type crowd struct {
	*bench
	eng  *faulty
	wg   sync.WaitGroup
	errs []error
	goOn chan struct{}
}

func newCrowd(t *testing.T, ends func(n int) (before, after error)) *crowd {
	c := &crowd{bench: newBench(t, nil), goOn: make(chan struct{})}
	c.eng = &faulty{Engine: c.q.eng, ends: func(n int) (before, after error) {
		if n == 1 {
			<-c.goOn
		}
		return ends(n)
	}}
	c.q.eng = c.eng
	c.join(t.Context(), func(tx) error { return nil })
	return c
}

// join adds somebody who waits for a change.
func (c *crowd) join(ctx context.Context, fn func(tx) error) {
	n := len(c.errs)
	c.errs = append(c.errs, nil)
	c.wg.Go(func() { c.errs[n] = c.q.outcomes.do(ctx, 1, fn) })
	synctest.Wait()
}

func (c *crowd) run() { close(c.goOn); c.wg.Wait() }

func put(n int) func(tx) error {
	return func(t tx) error { return t.Put(engine.Key('z', uint64(n)), nil) }
}

// An engine that cannot be had is waited for once by all who wait together, as long as the most
// patient of them does.
func TestPatienceTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, func(int) (before, after error) { return errAway, nil })
		for n := range 10 {
			c.join(engine.Patient(t.Context(), time.Duration(n)*time.Second), put(n))
		}
		c.run()
		if want := []time.Duration{-1, 9 * time.Second}; !slices.Equal(c.eng.patience, want) {
			t.Errorf("the engine was waited for %v, want %v", c.eng.patience, want)
		}
		for i, err := range c.errs {
			if !fault.Is(err, fault.Unavailable) {
				t.Errorf("%d: %v", i, err)
			}
		}
	})
}

// A message that is queued for a client waits no longer than the client.
func TestPatienceOfEnqueue(t *testing.T) {
	b := newBench(t, nil)
	eng := &faulty{Engine: b.q.eng, ends: func(int) (before, after error) { return nil, nil }}
	b.q.eng = eng
	ctx := engine.Patient(t.Context(), 5*time.Second)
	if _, err := b.q.Enqueue(ctx, Entry{Envelope: envelope("a@martlet.test", "b@example.org"), Parcel: b.parcel(sample)}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(eng.patience, []time.Duration{5 * time.Second}) {
		t.Errorf("%v", eng.patience)
	}
}

// What the queue takes in for a client waits neither with nor behind what it takes in for itself,
// which is as patient as the engine.
func TestPatienceBesideOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, func(int) (before, after error) { return nil, nil })
		enqueue := func(ctx context.Context, to string) (done chan error) {
			done = make(chan error, 1)
			go func() {
				_, err := c.q.Enqueue(ctx, Entry{Envelope: envelope("a@martlet.test", to), Parcel: c.parcel(sample)})
				done <- err
			}()
			synctest.Wait()
			return done
		}
		c.eng.ends = func(n int) (before, after error) {
			if n == 2 { // the queue's own
				<-c.goOn
			}
			return nil, nil
		}
		own, other := enqueue(t.Context(), "b@example.org"), enqueue(t.Context(), "c@example.org")
		client := enqueue(engine.Patient(t.Context(), 5*time.Second), "d@example.org")
		select {
		case err := <-client:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("the client waits for others")
		}
		c.run()
		if err := errors.Join(<-own, <-other); err != nil {
			t.Error(err)
		}
		if want := []time.Duration{-1, -1, 5 * time.Second, -1}; !slices.Equal(c.eng.patience, want) {
			t.Errorf("the engine was waited for %v, want %v", c.eng.patience, want)
		}
	})
}

// One that fails by itself costs the others a change, not one each.
func TestFailureCostsOneChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, func(int) (before, after error) { return nil, nil })
		bad := fault.New(fault.Corrupt, "no good")
		for n := range 10 {
			fn := put(n)
			if n == 3 {
				fn = func(tx) error { return bad }
			}
			c.join(t.Context(), fn)
		}
		c.run()
		for i, err := range c.errs {
			if (err != nil) != (i == 4) {
				t.Errorf("%d: %v", i, err)
			}
		}
		// The first, all, all but one, and that one.
		if n := len(c.eng.patience); n != 4 || c.keys("z") != 9 {
			t.Errorf("%d changes, %d records", n, c.keys("z"))
		}
	})
}

// What is to be tried alone is not, once the engine is away or nobody waits any more; that
// another's outcome is not known is no reason.
func TestAlone(t *testing.T) {
	bad := fault.New(fault.Corrupt, "no good")
	for _, c := range []struct {
		second  error // the end of the second try together
		changes int
		kinds   []fault.Kind // of the two that are bad, and the one that is good
	}{
		{errAway, 4, []fault.Kind{fault.Unavailable, fault.Closed, fault.Unavailable}},
		{errDoubt, 5, []fault.Kind{fault.Corrupt, fault.Closed, fault.Unknown}},
		{nil, 5, []fault.Kind{fault.Corrupt, fault.Closed, fault.Internal}},
	} {
		synctest.Test(t, func(t *testing.T) {
			crowd := newCrowd(t, func(n int) (before, after error) {
				if n == 4 {
					return c.second, nil
				}
				return nil, nil
			})
			gone, leave := context.WithCancel(t.Context())
			crowd.join(t.Context(), func(tx) error { return bad })
			crowd.join(gone, func(tx) error { leave(); return bad })
			crowd.join(t.Context(), put(1))
			crowd.run()
			for i, want := range c.kinds {
				if err := crowd.errs[i+1]; fault.Of(err) != want || (err == nil) != (want == fault.Internal) {
					t.Errorf("%v: %d: %v, want %v", c.second, i, err, want)
				}
			}
			if n := len(crowd.eng.patience); n != c.changes {
				t.Errorf("%v: %d changes, want %d", c.second, n, c.changes)
			}
		})
	}
}
