package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
	"github.com/martlet-mail/martlet/internal/fault"
)

// TestForesee: what is foreseen costs one question, however many keys it is, and Updates
// see the truth, also where another node has written in between.
func TestForesee(t *testing.T) {
	ctx, url := context.Background(), pgtest.Shared(t)
	for _, off := range []bool{false, true} {
		opt := options(url)
		opt.without.foresight = off
		a, b := open(t, opt), open(t, options(url))
		shard := engine.Shard(7000)
		if off {
			shard++
		}
		put := func(e *Engine, key, value string) {
			t.Helper()
			if err := e.Update(ctx, shard, func(w engine.Writer) error { return w.Put([]byte(key), []byte(value)) }); err != nil {
				t.Fatal(err)
			}
		}
		put(b, "there", "1")
		put(b, "k3", "old")
		put(a, "warm", "") // a knows the shard now, and nothing of the keys
		put(b, "k3", "new")
		var keys [][]byte
		for i := range 20 {
			keys = append(keys, fmt.Appendf(nil, "k%d", i))
		}
		before := a.Stats().Reads.Load()
		seen := map[string]string{}
		err := a.Update(engine.Foresee(ctx, keys), shard, func(w engine.Writer) error {
			clear(seen)
			for _, k := range keys {
				v, ok, err := w.Get(k)
				if err != nil {
					return err
				}
				if ok {
					seen[string(k)] = string(v)
				}
			}
			return w.Put([]byte("k5"), []byte("mine"))
		})
		if err != nil || len(seen) != 1 || seen["k3"] != "new" {
			t.Fatal(err, seen)
		}
		reads := a.Stats().Reads.Load() - before
		if !off && reads != 1 {
			t.Errorf("%d questions for keys that were foreseen", reads)
		}
		if off && reads < 20 {
			t.Errorf("the control asked %d questions only", reads)
		}
	}
}

// TestForeseeBeside: many Updates of one shard on two nodes, each of which adds to counters
// that it has foreseen and new ones that it looks for; none is lost and none is seen twice.
func TestForeseeBeside(t *testing.T) {
	ctx, url := context.Background(), pgtest.Shared(t)
	const shard, workers, rounds = engine.Shard(7100), 8, 25
	nodes := []*Engine{open(t, options(url)), open(t, options(url))}
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			e := nodes[i%2]
			for n := range rounds {
				once, sum := fmt.Appendf(nil, "once-%d-%d", i, n), fmt.Appendf(nil, "sum-%d", n%3)
				err := e.Update(engine.Foresee(ctx, [][]byte{once, sum}), shard, func(w engine.Writer) error {
					if _, used, err := w.Get(once); err != nil || used {
						return fmt.Errorf("%s was there: %w", once, err)
					}
					v, _, err := w.Get(sum)
					if err != nil {
						return err
					}
					if err := w.Put(once, nil); err != nil {
						return err
					}
					return w.Put(sum, append(v[:len(v):len(v)], byte(i)))
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	total := 0
	err := nodes[0].View(ctx, shard, func(r engine.Reader) error {
		total = 0
		return r.Scan([]byte("sum-"), []byte("sum."), false, func(_, v []byte) bool { total += len(v); return true })
	})
	if err != nil || total != workers*rounds {
		t.Errorf("%d of %d are there, %v", total, workers*rounds, err)
	}
	var reads int64
	for _, e := range nodes {
		reads += e.Stats().Reads.Load()
	}
	t.Logf("%d reads for %d Updates", reads, workers*rounds)
}

// TestForesightStands: what was read in an older state counts in the present one only if nothing but
// this node's own commits, of which it knows everything, led from there to here.
func TestForesightStands(t *testing.T) {
	k := []byte("k")
	for _, c := range []struct {
		name          string
		from          int64 // version of the base before the read; 0: none was known
		line, emptied uint64
		read          identity
		want          what
	}{
		{"own commits", 4, 7, 3, identity{1, 4, 40}, absent},
		{"the present state", 4, 6, 3, identity{1, 5, 50}, absent},
		{"another's commit in between", 4, 6, 3, identity{1, 4, 40}, unknown},
		{"forgotten in between", 4, 7, 2, identity{1, 4, 40}, unknown},
		{"a state that never led here", 4, 7, 3, identity{1, 4, 41}, unknown},
		{"another epoch", 4, 7, 3, identity{2, 4, 40}, unknown},
		{"nothing was known", 0, 7, 3, identity{1, 4, 40}, unknown},
		{"from before what was known", 5, 7, 3, identity{1, 4, 40}, unknown},
	} {
		s := newShard(&group{opt: &Options{}, stats: &Stats{}}, 1)
		recent := trail(50, touched{keys: [][]byte{[]byte("other")}}, trail(40, touched{keys: [][]byte{k}}, nil))
		s.base = state{head: head{identity: identity{1, 5, 50}, recent: recent}, known: true, tree: newTree()}
		s.line, s.emptied, s.seq = 7, 3, 9
		f := &foresight{keys: [][]byte{k}, ok: true, at: c.read, known: c.from > 0, from: c.from, line: c.line, emptied: c.emptied}
		tr := s.base.tree.copy()
		if s.stands(f) {
			f.note(tr, f.keys)
		}
		if _, got := tr.get(k); got != c.want {
			t.Errorf("%s: %v, not %v", c.name, got, c.want)
		}
		if s.base.identity != (identity{1, 5, 50}) {
			t.Errorf("%s: the state is %v now", c.name, s.base.identity)
		}
	}
}

// TestForeseeIsPatientOnly: what is read ahead, also for others, is waited for as long as the
// caller is patient, or wants to.
func TestForeseeIsPatientOnly(t *testing.T) {
	a, b, wire := beside(t, func(o *Options) { o.statement = 2 * time.Second })
	putAll(t, a, 9, "x", "0")
	look(t, b, 9, "x")
	put := func(ctx context.Context, key string) error {
		ctx = engine.Foresee(ctx, [][]byte{[]byte(key)})
		return b.Update(ctx, 9, func(w engine.Writer) error { return w.Put([]byte(key), nil) })
	}
	caught, release := wire.Hold("m_some")
	defer release()
	if err := put(engine.Patient(t.Context(), 50*time.Millisecond), "k"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("without patience: %v", err)
	}
	<-caught
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := put(ctx, "l"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("whose caller has gone: %v", err)
	}
	release()
	if err := put(t.Context(), "m"); err != nil {
		t.Error(err)
	}
}

// TestForeseeWhatIsGone: what others have written is read together with what is foreseen, and
// then is known.
func TestForeseeWhatIsGone(t *testing.T) {
	a, b, _ := beside(t)
	keys := []string{"k1", "k2", "k3", "k4", "k5"}
	read := func(r engine.Reader) error {
		for _, k := range keys {
			if v, _, err := r.Get([]byte(k)); err != nil || len(v) == 0 {
				return fmt.Errorf("%s is %q: %w", k, v, err)
			}
		}
		return nil
	}
	write := func() {
		for _, k := range keys {
			putAll(t, a, 9, k, "v")
		}
	}
	write()
	if err := b.View(t.Context(), 9, read); err != nil {
		t.Fatal(err)
	}
	write()
	if err := b.View(t.Context(), 9, func(engine.Reader) error { return nil }); err != nil { // hears of it
		t.Fatal(err)
	}
	before := b.Stats().Reads.Load()
	err := b.Update(engine.Foresee(t.Context(), [][]byte{[]byte("new")}), 9, func(w engine.Writer) error {
		if err := read(w); err != nil {
			return err
		}
		return w.Put([]byte("new"), nil)
	})
	if reads := b.Stats().Reads.Load() - before; err != nil || reads != 1 {
		t.Errorf("%d reads, %v", reads, err)
	}
}
