package enginetest

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/martlet-mail/martlet/internal/engine"
)

// RunShared checks what an engine promises beyond the contract of Run when several
// processes work on its shards. open returns handles of one empty engine, at least two, as
// two processes would have them; the test closes them. A Close of one leaves the others be.
func RunShared(t *testing.T, open func(t *testing.T) []engine.Shared) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, []engine.Shared)
	}{
		{"ForeignBeforeSeen", testForeignBefore},
		{"ForeignByItself", testForeignByItself},
		{"ForeignStops", testForeignStops},
		{"ForeignRace", testForeignRace},
		{"SharedShards", testSharedShards},
	} {
		t.Run(test.name, func(t *testing.T) {
			all := open(t)
			for _, e := range all {
				closing(t, e)
			}
			test.run(t, all)
		})
	}
}

// testForeignBefore: Foreign is called before a View or an Update can see what another
// process has done, and not for what this one does.
func testForeignBefore(t *testing.T, all []engine.Shared) {
	a, b := all[0], all[1]
	var told atomic.Int64
	defer b.Foreign(1, func() { told.Add(1) })()
	for i := range 20 {
		n := strconv.Itoa(i)
		before := told.Load()
		put(t, a, 1, "n", n)
		var seen string // by the run of the function that counts
		var untold bool
		look := func(r engine.Reader) error {
			v, _, err := r.Get([]byte("n"))
			seen = string(v)
			untold = seen == n && told.Load() == before
			return err
		}
		if i%2 == 0 {
			if err := b.View(t.Context(), 1, look); err != nil {
				t.Fatal(err)
			}
		} else {
			update(t, b, 1, func(w engine.Writer) error { return look(w) })
		}
		if untold {
			t.Errorf("change %d was seen before it was told of", i)
		}
		if seen != n {
			t.Errorf("change %d is not seen: %q", i, seen)
		}
	}
	if told.Load() == 0 {
		t.Error("nothing was told of")
	}
	put(t, a, 2, "another", "shard")
	settled := told.Load()
	for range 10 {
		put(t, b, 1, "own", "change")
		_ = all1(t, b)
	}
	if now := told.Load(); now > settled+1 { // one may have been on its way
		t.Errorf("own changes were told of %d times", now-settled)
	}
}

func all1(t *testing.T, e engine.Engine) []string { return all(t, e, 1) }

// testForeignByItself: both Foreign and Watch tell of a change without a call.
func testForeignByItself(t *testing.T, all []engine.Shared) {
	a, b := all[0], all[1]
	told := make(chan struct{}, 100)
	defer b.Foreign(1, func() { told <- struct{}{} })()
	ticks, stop := b.Watch(1)
	defer stop()
	for i := range 3 {
		put(t, a, 1, "n", strconv.Itoa(i))
		for what, c := range map[string]<-chan struct{}{"Foreign": told, "Watch": ticks} {
			t.Logf("waiting until %s tells of change %d", what, i)
			<-c
		}
		want(t, "after it was told", all1(t, b), "n="+strconv.Itoa(i))
		for len(told) > 0 {
			<-told
		}
		drain(ticks)
	}
}

func testForeignStops(t *testing.T, all []engine.Shared) {
	a, b := all[0], all[1]
	var first, second atomic.Int64
	stop := b.Foreign(1, func() { first.Add(1) })
	defer b.Foreign(1, func() { second.Add(1) })()
	stop()
	stop() // twice does no harm
	put(t, a, 1, "n", "1")
	_ = all1(t, b)
	if first.Load() != 0 || second.Load() == 0 {
		t.Errorf("told %d times after the end, and the other %d times", first.Load(), second.Load())
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	put(t, a, 1, "n", "2")
	want(t, "the one that is left", all1(t, a), "n=2")
}

// testForeignRace: a reader that keeps what it read until Foreign is called never shows
// an older value than one that anybody was told of before.
func testForeignRace(t *testing.T, all []engine.Shared) {
	a, b := all[0], all[1]
	var stale atomic.Uint64
	stale.Store(1)
	var calling atomic.Bool
	defer b.Foreign(1, func() {
		if calling.Swap(true) {
			t.Error("called twice at a time")
		}
		stale.Add(1)
		calling.Store(false)
	})()
	var wg sync.WaitGroup
	var ended atomic.Bool
	wg.Go(func() {
		defer ended.Store(true)
		for i := range 100 {
			put(t, a, 1, "n", fmt.Sprintf("%08d", i), "m", fmt.Sprintf("%08d", i))
		}
	})
	for range 2 {
		wg.Go(func() {
			kept, at := "", uint64(0)
			for last := false; !last; {
				last = ended.Load()
				at0 := stale.Load()
				if at0 == at && !last {
					continue
				}
				var seen string
				err := b.View(t.Context(), 1, func(r engine.Reader) error {
					n, _, err := r.Get([]byte("n"))
					if err != nil {
						return err
					}
					m, _, err := r.Get([]byte("m"))
					if err != nil {
						return err
					}
					if string(n) != string(m) {
						t.Errorf("%s and %s in one view", n, m)
					}
					if string(n) > kept && kept != "" && stale.Load() == at {
						t.Errorf("%s was seen, and what was kept is %s", n, kept)
					}
					seen = string(n)
					return nil
				})
				if err != nil {
					t.Error(err)
				}
				if seen < kept {
					t.Errorf("%s after %s", seen, kept)
				}
				kept, at = seen, at0
			}
			if kept != fmt.Sprintf("%08d", 99) {
				t.Errorf("at the end %s", kept)
			}
		})
	}
	wg.Wait()
}

// testSharedShards: an Update of one process is exclusive of those of others.
func testSharedShards(t *testing.T, all []engine.Shared) {
	const each = 40
	var wg sync.WaitGroup
	for _, e := range all {
		wg.Go(func() {
			for range each {
				update(t, e, 1, func(w engine.Writer) error {
					v, _, err := w.Get([]byte("n"))
					if err != nil {
						return err
					}
					n, _ := strconv.Atoi(string(v))
					return w.Put([]byte("n"), []byte(strconv.Itoa(n+1)))
				})
			}
		})
	}
	wg.Wait()
	for _, e := range all {
		want(t, "counted", all1(t, e), "n="+strconv.Itoa(each*len(all)))
	}
}
