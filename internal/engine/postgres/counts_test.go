package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
)

// trips is how many round trips calls have waited for.
func trips(e *Engine) [4]int64 {
	s := e.Stats()
	return [4]int64{s.Reads.Load(), s.Proofs.Load() - s.Looks.Load(), s.Snapshots.Load(), s.Loads.Load()}
}

// counted runs a call and holds its reads, proofs, snapshots and commits against what it may
// cost.
func counted(t *testing.T, e *Engine, what string, want [4]int64, call func() error) {
	t.Helper()
	before := trips(e)
	if err := call(); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	got := trips(e)
	for i := range got {
		got[i] -= before[i]
	}
	if got != want {
		t.Errorf("%s: %v reads, proofs, snapshots and commits, not %v", what, got, want)
	}
}

// TestRoundTrips counts what calls wait for.
func TestRoundTrips(t *testing.T) {
	url := pgtest.Shared(t)
	ctx := context.Background()
	opt := options(url)
	opt.poll = 1 << 40
	a, b := open(t, opt), open(t, opt)
	deliver := func(e *Engine, n uint64) func() error {
		return func() error {
			return e.Update(ctx, 1, func(w engine.Writer) error { return delivery(w, n) })
		}
	}
	read := func(e *Engine) func() error {
		return func() error {
			return e.View(ctx, 1, func(r engine.Reader) error {
				for _, k := range [][]byte{{1}, engine.Key(2, 1)} {
					if _, _, err := r.Get(k); err != nil {
						return err
					}
				}
				return nil
			})
		}
	}
	flag := func(w engine.Writer) error {
		if _, _, err := w.Get([]byte{1}); err != nil {
			return err
		}
		return errors.Join(w.Put([]byte{1}, []byte("x")), w.Put(engine.Key(4, 1, 0), []byte("marks")), w.Delete(engine.Key(5, 1, 1)))
	}
	counted(t, a, "a first delivery", [4]int64{4, 0, 0, 1}, deliver(a, 1))
	counted(t, a, "a warm delivery", [4]int64{0, 0, 0, 1}, deliver(a, 2))
	counted(t, a, "a warm change", [4]int64{0, 0, 0, 1}, func() error { return a.Update(ctx, 1, flag) })
	counted(t, a, "a warm view", [4]int64{0, 1, 0, 0}, read(a))
	counted(t, a, "a change that comes to nothing", [4]int64{0, 1, 0, 0}, func() error {
		return a.Update(ctx, 1, func(w engine.Writer) error { _, _, err := w.Get([]byte{1}); return err })
	})
	counted(t, a, "a blind change", [4]int64{0, 1, 0, 1}, func() error {
		return a.Update(ctx, 2, func(w engine.Writer) error { return w.Put([]byte("k"), nil) })
	})
	counted(t, b, "a cold view of one record", [4]int64{1, 0, 0, 0}, func() error {
		return b.View(ctx, 1, func(r engine.Reader) error { _, _, err := r.Get([]byte{1}); return err })
	})
	counted(t, b, "a view of nothing", [4]int64{0, 1, 0, 0}, func() error { return b.View(ctx, 1, func(engine.Reader) error { return nil }) })
	counted(t, b, "a delivery that knows some", [4]int64{3, 0, 0, 1}, deliver(b, 3))
	counted(t, a, "a delivery after another node's", [4]int64{1, 1, 0, 2}, deliver(a, 4))
	counted(t, b, "a view after another node's", [4]int64{1, 1, 0, 0}, read(b))
	counted(t, b, "and a second one", [4]int64{0, 1, 0, 0}, read(b))

	opt.without.recent = true
	c := open(t, opt)
	counted(t, c, "without trails, cold", [4]int64{2, 0, 1, 0}, read(c))
	if err := deliver(a, 5)(); err != nil {
		t.Fatal(err)
	}
	counted(t, c, "without trails, all is read again", [4]int64{2, 1, 1, 0}, read(c))
}

// TestScansAreBounded: what is over its share of the memory is read in pieces and not kept;
// what is smaller is kept.
func TestScansAreBounded(t *testing.T) {
	opt := options(pgtest.Shared(t))
	opt.CacheBytes = 1 << 20
	e := open(t, opt)
	ctx := context.Background()
	const shards, records, size = 12, 40, 9000
	for s := range engine.Shard(shards) {
		err := e.Update(ctx, s, func(w engine.Writer) error {
			for i := range uint64(records) {
				if err := w.Put(engine.Key(1, i), make([]byte, size)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	g := e.member(0).group
	look := func(limited bool) {
		t.Helper()
		var sum int64
		g.mu.Lock()
		n, most := len(g.shards), g.bytes
		for _, s := range g.shards {
			sum += s.size().sum()
		}
		g.mu.Unlock()
		if limited && (most > opt.CacheBytes || sum > opt.CacheBytes || n >= shards) {
			t.Errorf("%d shards with %d bytes, counted as %d, of %d", n, sum, most, opt.CacheBytes)
		}
		if !limited && sum < 2*opt.CacheBytes {
			t.Errorf("without a limit %d bytes are kept", sum)
		}
	}
	look(true)
	for s := range engine.Shard(shards) {
		for _, reverse := range []bool{false, true} {
			n := 0
			err := e.View(ctx, s, func(r engine.Reader) error {
				n = 0
				return r.Scan(nil, nil, reverse, func(_, v []byte) bool { n++; return len(v) == size })
			})
			if err != nil || n != records {
				t.Errorf("%d records, %v", n, err)
			}
		}
	}
	look(true)
	e.opt.without.limit = true
	for s := range engine.Shard(shards) {
		for i := range uint64(records) {
			err := e.View(ctx, s, func(r engine.Reader) error { _, _, err := r.Get(engine.Key(1, i)); return err })
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	look(false)
}

// TestHotStaysInMemory: where the memory is full of what was written once, what each change
// rewrites stays, also on a shard where something is always on its way.
func TestHotStaysInMemory(t *testing.T) {
	reads := func(t *testing.T, trim bool) int64 {
		opt := options(pgtest.Shared(t))
		opt.CacheBytes = 200 << 10
		opt.without.trim = !trim
		e := open(t, opt)
		const shards, each = 4, 160
		var wg sync.WaitGroup
		for i := range shards + 3 {
			wg.Go(func() {
				id := engine.Shard(min(i, shards-1)) // four of them on the last
				for n := range uint64(each) {
					err := e.Update(t.Context(), id, func(w engine.Writer) error {
						if err := add(w); err != nil {
							return err
						}
						return w.Put(engine.Key(1, uint64(i), n), make([]byte, 2000))
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		n := e.Stats().Reads.Load()
		for id := range engine.Shard(shards) {
			want := each
			if id == shards-1 {
				want = 4 * each
			}
			if got := contents(t, e, id); got["n"] != fmt.Sprint(want) || len(got) != want+1 {
				t.Errorf("%q, %d records", got["n"], len(got))
			}
		}
		g := e.member(0).group
		if g.bytes > opt.CacheBytes {
			t.Errorf("%d bytes of %d", g.bytes, opt.CacheBytes)
		}
		return n
	}
	hot, all := reads(t, true), reads(t, false)
	t.Logf("%d reads, and %d where shards are forgotten as a whole", hot, all)
	if hot*3 > all*2 {
		t.Errorf("%d reads, and %d where shards are forgotten as a whole", hot, all)
	}
}

// TestManyRecords: a scan over more than is kept is one moment, whatever happens meanwhile.
func TestManyRecords(t *testing.T) {
	opt := options(pgtest.Shared(t))
	opt.CacheBytes = 256 << 10
	a, b := open(t, opt), open(t, opt)
	ctx := context.Background()
	const records = 6000
	write := func(e *Engine, value string) {
		err := e.Update(ctx, 1, func(w engine.Writer) error {
			for i := range uint64(records) {
				if err := w.Put(engine.Key(1, i), []byte(value)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	write(a, "first")
	for _, reverse := range []bool{false, true} {
		runs, changed := 0, false
		var values map[string]int
		var keys int
		err := b.View(ctx, 1, func(r engine.Reader) error {
			runs++
			values, keys = map[string]int{}, 0
			return r.Scan(nil, nil, reverse, func(k, v []byte) bool {
				values[string(v)]++
				if keys++; keys == 1000 && !changed {
					changed = true
					write(a, fmt.Sprint("second ", reverse))
				}
				return true
			})
		})
		if err != nil || keys != records || len(values) != 1 {
			t.Errorf("%d records, values %v, %v", keys, values, err)
		}
		t.Logf("%d runs", runs)
	}
}
