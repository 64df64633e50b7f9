package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/enginetest"
	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
)

// alternating sends each call to another node than the one before: what the contract says of
// one engine holds for two nodes together.
type alternating struct {
	*Engine // for what is not below
	other   *Engine
	n       atomic.Int64
}

func (a *alternating) node() *Engine {
	if a.n.Add(1)%2 == 0 {
		return a.Engine
	}
	return a.other
}

func (a *alternating) View(ctx context.Context, id engine.Shard, fn func(engine.Reader) error) error {
	return a.node().View(ctx, id, fn)
}

func (a *alternating) Update(ctx context.Context, id engine.Shard, fn func(engine.Writer) error) error {
	return a.node().Update(ctx, id, fn)
}

func (a *alternating) Close() error { return errors.Join(a.Engine.Close(), a.other.Close()) }

func TestContractOfTwoNodes(t *testing.T) {
	enginetest.Run(t, enginetest.Harness{
		Open: func(t *testing.T, now func() time.Time) engine.Engine {
			opt := options(pgtest.Shared(t))
			opt.Now = now
			opt.CacheBytes = 1 << 20
			return &alternating{Engine: open(t, opt), other: open(t, opt)}
		},
		Runs: runs(), Several: true,
	})
}

// TestForeignOnRandom: whatever two nodes do in turn, a listener was called before its node
// sees what the other has done, and what it sees is what was done last.
func TestForeignOnRandom(t *testing.T) {
	url := pgtest.Shared(t)
	var nodes [2]*Engine
	for i := range nodes {
		nodes[i] = open(t, options(url))
	}
	run := engine.Shard(0)
	rapid.Check(t, func(rt *rapid.T) {
		if run++; run > 40 {
			return
		}
		var told [2]int64
		var stops [2]func()
		var calls [2]atomic.Int64
		for i := range nodes {
			stops[i] = nodes[i].Foreign(run, func() { calls[i].Add(1) })
			defer stops[i]()
		}
		truth := map[string]string{}
		changed := [2]bool{} // by the other, and not yet seen here
		for step := range rapid.IntRange(5, 25).Draw(rt, "steps") {
			i := rapid.IntRange(0, 1).Draw(rt, "node")
			key := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "key")
			seen := map[string]string{}
			look := func(r engine.Reader) error {
				clear(seen)
				if err := r.Scan(nil, nil, false, func(k, v []byte) bool { seen[string(k)] = string(v); return true }); err != nil {
					return err
				}
				if changed[i] && maps.Equal(seen, truth) && calls[i].Load() == told[i] {
					return errors.New("seen before it was told of")
				}
				return nil
			}
			var err error
			if rapid.Bool().Draw(rt, "update") {
				next := maps.Clone(truth)
				next[key] = fmt.Sprint(step)
				before := calls[1-i].Load()
				err = nodes[i].Update(t.Context(), run, func(w engine.Writer) error {
					if err := look(w); err != nil {
						return err
					}
					return w.Put([]byte(key), []byte(next[key]))
				})
				if !maps.Equal(seen, truth) {
					rt.Fatalf("an update saw %v, not %v", seen, truth)
				}
				truth = next
				changed[1-i], told[1-i] = true, before
			} else {
				err = nodes[i].View(t.Context(), run, look)
				if !maps.Equal(seen, truth) {
					rt.Fatalf("a view saw %v, not %v", seen, truth)
				}
			}
			changed[i] = false
			if err != nil {
				rt.Fatal(err)
			}
		}
	})
}

// count is what contend did.
type count struct {
	wrong atomic.Int64 // views that cannot be
	total int64
	stats *Stats
}

// contend has two nodes count on a few shards, all at a time, and look at what they have.
func contend(t *testing.T, url string, writers, each, shards int, switchOff func(*without)) *count {
	t.Helper()
	opt := options(url)
	switchOff(&opt.without)
	nodes := []*Engine{open(t, opt), open(t, opt)}
	var c count
	var writing, reading sync.WaitGroup
	var done atomic.Bool
	for i := range writers {
		writing.Go(func() {
			for n := range each {
				err := nodes[i%2].Update(t.Context(), engine.Shard(i/2%shards), func(w engine.Writer) error {
					v, _, err := w.Get([]byte("sum"))
					if err != nil {
						return err
					}
					sum, _ := strconv.Atoi(string(v))
					next := []byte(strconv.Itoa(sum + 1))
					return errors.Join(w.Put([]byte("sum"), next), w.Put([]byte("same"), next), w.Put(fmt.Appendf(nil, "by/%d/%d", i, n), nil))
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range nodes {
		reading.Go(func() {
			last := make([]int, shards)
			for n := 0; !done.Load(); n++ {
				id := n % shards
				_ = nodes[i].View(t.Context(), engine.Shard(id), func(r engine.Reader) error {
					v, _, err := r.Get([]byte("sum"))
					if err != nil {
						return err
					}
					same, _, err := r.Get([]byte("same"))
					if err != nil {
						return err
					}
					if sum, _ := strconv.Atoi(string(v)); string(same) != string(v) || sum < last[id] {
						c.wrong.Add(1)
					} else {
						last[id] = sum
					}
					return nil
				})
			}
		})
	}
	writing.Wait()
	done.Store(true)
	reading.Wait()
	for id := range shards {
		err := nodes[0].View(t.Context(), engine.Shard(id), func(r engine.Reader) error {
			v, _, err := r.Get([]byte("sum"))
			sum, _ := strconv.Atoi(string(v))
			c.total += int64(sum)
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	c.stats = nodes[0].Stats()
	return &c
}

// TestManyOnTwoNodes: none of the changes of two nodes is lost, and no view is of two moments.
func TestManyOnTwoNodes(t *testing.T) {
	const writers, each, shards = 16, 25, 2
	c := contend(t, pgtest.Shared(t), writers, each, shards, func(*without) {})
	if c.total != writers*each || c.wrong.Load() > 0 {
		t.Errorf("%d changes of %d, %d wrong views", c.total, writers*each, c.wrong.Load())
	}
	t.Logf("%d commits of %d updates in %d transactions; %d clashes, %d locks", c.stats.Commits.Load(), c.stats.Updates.Load(),
		c.stats.Loads.Load(), c.stats.Clashes.Load(), c.stats.RowLocks.Load())
	t.Run("control", func(t *testing.T) {
		url := pgtest.Shared(t)
		if c := contend(t, url, writers, each, shards, func(w *without) { w.guard = true }); c.total == writers*each {
			t.Error("without the guard nothing is lost: the test proves nothing")
		}
	})
}

// TestBothGetOn: of two nodes that write to one shard all the time neither starves.
func TestBothGetOn(t *testing.T) {
	url := pgtest.Shared(t)
	nodes := []*Engine{open(t, options(url)), open(t, options(url))}
	var counts [2]atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				err := nodes[i%2].Update(ctx, 1, func(w engine.Writer) error { return w.Put([]byte{byte(i)}, nil) })
				if err == nil {
					counts[i%2].Add(1)
				}
				if counts[0].Load() > 100 && counts[1].Load() > 100 {
					cancel()
				}
			}
		})
	}
	wg.Wait() // the test's time limit ends it
	a, b := counts[0].Load(), counts[1].Load()
	t.Logf("%d and %d", a, b)
	if a > 20*b || b > 20*a {
		t.Errorf("one node made %d changes, the other %d", a, b)
	}
}
