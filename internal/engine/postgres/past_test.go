package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
)

// past is what callers have been told of a shard: its number of changes was at least so many.
type past struct{ told, made atomic.Int64 }

func (p *past) tell(n int64) {
	for was := p.told.Load(); was < n && !p.told.CompareAndSwap(was, n); was = p.told.Load() {
	}
}

// seen is what one call has found in a shard, which holds its number of changes twice, and some
// records and how many they are.
type seen struct{ n, again, count, records int64 }

// read finds it in any order, by keys and by scans.
func (s *seen) read(r engine.Reader) error {
	*s = seen{}
	get := func(key string, to *int64) func() error {
		return func() error {
			v, _, err := r.Get([]byte(key))
			*to, _ = strconv.ParseInt(string(v), 10, 64)
			return err
		}
	}
	steps := []func() error{get("n", &s.n), get("again", &s.again), get("count", &s.count), func() error {
		beside := get("n", new(int64)) // within a scan
		var inner error
		err := r.Scan([]byte("r/"), []byte("r0"), rand.N(2) == 0, func(_, _ []byte) bool {
			if s.records++; s.records == 1 {
				inner = beside()
			}
			return inner == nil
		})
		return errors.Join(inner, err)
	}}
	rand.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// write makes one change on top of it.
func (s *seen) write(w engine.Writer, key []byte) error {
	count := s.count
	if rand.N(6) == 0 {
		from, to := []byte("r/3"), []byte("r/7")
		if err := w.Scan(from, to, false, func(_, _ []byte) bool { count--; return true }); err != nil {
			return err
		}
		if err := w.DeleteRange(from, to); err != nil {
			return err
		}
	} else {
		_, there, err := w.Get(key)
		switch {
		case err != nil:
			return err
		case there:
			count, err = count-1, w.Delete(key)
		default:
			count, err = count+1, w.Put(key, make([]byte, 200))
		}
		if err != nil {
			return err
		}
	}
	n := strconv.AppendInt(nil, s.n+1, 10)
	return errors.Join(w.Put([]byte("n"), n), w.Put([]byte("again"), n), w.Put([]byte("count"), strconv.AppendInt(nil, count, 10)))
}

// stepIn makes a call at random and holds what it found against what was told before it began.
func (p *past) stepIn(ctx context.Context, e *Engine, id engine.Shard) error {
	var s seen
	key := fmt.Appendf(nil, "r/%d", rand.N(10))
	if rand.N(2) == 0 {
		ctx = engine.Foresee(ctx, [][]byte{[]byte("n"), []byte("again"), []byte("count"), key})
	}
	floor, found := p.told.Load(), errors.New("what the function found")
	var err error
	what := []string{"a View", "an Update that finds", "an Update"}[rand.N(3)]
	switch what {
	case "a View":
		err = e.View(ctx, id, s.read)
	case "an Update that finds":
		err = e.Update(ctx, id, func(w engine.Writer) error {
			if err := s.read(w); err != nil {
				return err
			}
			return found
		})
		if errors.Is(err, found) {
			err = nil
		}
	default:
		err = e.Update(ctx, id, func(w engine.Writer) error {
			if err := s.read(w); err != nil {
				return err
			}
			return s.write(w, key)
		})
	}
	switch {
	case err != nil:
		return err
	case s.n < floor:
		return fmt.Errorf("%s found %d changes when %d had been told of", what, s.n, floor)
	case s.n != s.again || s.count != s.records:
		return fmt.Errorf("%s found %+v, which never was", what, s)
	case what == "an Update":
		p.made.Add(1)
		p.tell(s.n + 1)
	default:
		p.tell(s.n)
	}
	return nil
}

// TestNothingOnThePast: whatever two nodes with little memory and slow wires do, no call ends with
// what was over when it began, or with what never was, and no change is lost. More steps than
// usual are made with MARTLET_PAST_STEPS: what is rare takes some hundreds.
func TestNothingOnThePast(t *testing.T) {
	steps := 25
	if n, err := strconv.Atoi(os.Getenv("MARTLET_PAST_STEPS")); err == nil {
		steps = n
	}
	for _, err := range onThePast(t, steps, func(*without) {}) {
		t.Error(err)
	}
	t.Run("control", func(t *testing.T) {
		if len(onThePast(t, 25, func(w *without) { w.guard = true })) == 0 {
			t.Error("without the guard nothing goes wrong: the test proves nothing")
		}
	})
}

// onThePast has two nodes do what they like, and returns what was wrong.
func onThePast(t *testing.T, steps int, off func(*without)) (wrong []error) {
	url := pgtest.Shared(t)
	var nodes [2]*Engine
	for i := range nodes {
		wire := pgtest.NewProxy(t, pgtest.SharedServer(t).Address())
		opt := options(pgtest.By(url, wire.Address()))
		opt.CacheBytes, opt.Connections, opt.poll = 1500, 16, 50*time.Millisecond
		off(&opt.without)
		nodes[i] = open(t, opt)
		warm(t, nodes[i], 10)
		wire.Shake(func() (time.Duration, bool) {
			if rand.N(4) > 0 {
				return 0, false
			}
			return rand.N(20 * time.Millisecond), false
		})
	}
	var all [2]past
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			for range steps {
				id := rand.N(len(all))
				if err := all[id].stepIn(t.Context(), nodes[i%2], engine.Shard(id)); err != nil {
					mu.Lock()
					wrong = append(wrong, err)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	for id := range all {
		var s seen
		if err := nodes[0].View(t.Context(), engine.Shard(id), s.read); err != nil || s.n != all[id].made.Load() {
			wrong = append(wrong, fmt.Errorf("%d changes of %d are there: %w", s.n, all[id].made.Load(), err))
		}
	}
	return wrong
}
