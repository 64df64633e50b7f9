package enginetest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

func testPutGetDelete(t *testing.T, h Harness) {
	e := open(t, h)
	put(t, e, 1, "a", "1", "empty", "", "\x00", "zero", "\xff\xff", "high")
	get := func(key, value string, there bool) {
		t.Helper()
		err := e.View(t.Context(), 1, func(r engine.Reader) error {
			v, ok, err := r.Get([]byte(key))
			if err != nil {
				return err
			}
			if ok != there || string(v) != value {
				t.Errorf("%q: got %q %v", key, v, ok)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	get("a", "1", true)
	get("empty", "", true)
	get("\x00", "zero", true)
	get("\xff\xff", "high", true)
	get("b", "", false)
	get("A", "", false)
	put(t, e, 1, "a", "2")
	get("a", "2", true)
	update(t, e, 1, func(w engine.Writer) error {
		return errors.Join(w.Delete([]byte("a")), w.Delete([]byte("never there")))
	})
	get("a", "", false)
	want(t, "the rest", all(t, e, 1), "\x00=zero", "empty=", "\xff\xff=high")
}

func testScan(t *testing.T, h Harness) {
	e := open(t, h)
	put(t, e, 5, "a", "1", "b", "2", "ba", "3", "c", "4", "\xff", "5")
	put(t, e, 4, "x", "other")
	put(t, e, 6, "x", "other")
	for _, test := range []struct {
		from, to string // "-" is nil
		want     string
	}{
		{"-", "-", "a=1 b=2 ba=3 c=4 \xff=5"},
		{"", "-", "a=1 b=2 ba=3 c=4 \xff=5"},
		{"b", "-", "b=2 ba=3 c=4 \xff=5"},
		{"b", "c", "b=2 ba=3"},
		{"b\x00", "c\x00", "ba=3 c=4"},
		{"b", "b", ""},
		{"c", "b", ""},
		{"-", "b", "a=1"},
		{"-", "", ""},
		{"d", "e", ""},
		{"\xff\xff", "-", ""},
	} {
		for _, reverse := range []bool{false, true} {
			var got []string
			err := e.View(t.Context(), 5, func(r engine.Reader) (err error) {
				got, err = scan(r, bound(test.from), bound(test.to), reverse)
				return err
			})
			if err != nil {
				t.Error(err)
			}
			expect := strings.Fields(test.want)
			if reverse {
				for i, j := 0, len(expect)-1; i < j; i, j = i+1, j-1 {
					expect[i], expect[j] = expect[j], expect[i]
				}
			}
			want(t, strconv.Quote(test.from+" to "+test.to), got, expect...)
		}
	}
	testScanEnds(t, e)
}

// testScanEnds checks that a scan ends when its function says so.
func testScanEnds(t *testing.T, e engine.Engine) {
	for _, reverse := range []bool{false, true} {
		n := 0
		err := e.View(t.Context(), 5, func(r engine.Reader) error {
			return r.Scan(nil, nil, reverse, func(_, _ []byte) bool {
				n++
				return n < 2
			})
		})
		if err != nil || n != 2 {
			t.Errorf("%d keys, %v", n, err)
		}
	}
}

func bound(s string) []byte {
	if s == "-" {
		return nil
	}
	return []byte(s)
}

func testDeleteRange(t *testing.T, h Harness) {
	e := open(t, h)
	put(t, e, 1, "a", "1", "b", "2", "c", "3", "d", "4", "\xff\xff\xff", "5")
	put(t, e, 2, "a", "other")
	cut := func(from, to string) {
		t.Helper()
		update(t, e, 1, func(w engine.Writer) error { return w.DeleteRange(bound(from), bound(to)) })
	}
	cut("b", "d")
	want(t, "b to d", all(t, e, 1), "a=1", "d=4", "\xff\xff\xff=5")
	cut("d", "d")
	cut("e", "b")
	want(t, "empty ranges", all(t, e, 1), "a=1", "d=4", "\xff\xff\xff=5")
	cut("b", "-")
	want(t, "b to the end", all(t, e, 1), "a=1")
	put(t, e, 1, "c", "again")
	want(t, "written after", all(t, e, 1), "a=1", "c=again")
	cut("-", "-")
	want(t, "everything", all(t, e, 1))
	want(t, "the next shard", all(t, e, 2), "a=other")
}

func testOwnWrites(t *testing.T, h Harness) {
	e := open(t, h)
	put(t, e, 1, "a", "old", "b", "old", "c", "old", "d", "old")
	update(t, e, 1, func(w engine.Writer) error {
		err := errors.Join(
			w.Put([]byte("a"), []byte("new")),
			w.Delete([]byte("b")),
			w.DeleteRange([]byte("c"), []byte("d")),
			w.Put([]byte("e"), []byte("new")),
			w.Put([]byte("bb"), []byte("gone")),
			w.DeleteRange([]byte("bb"), []byte("bc")),
			w.Put([]byte("cc"), []byte("after the range")),
		)
		for key, value := range map[string]string{"a": "new", "b": "", "c": "", "d": "old", "e": "new", "bb": ""} {
			v, ok, getting := w.Get([]byte(key))
			if getting != nil || ok != (value != "") || string(v) != value {
				t.Errorf("%s: got %q %v %v", key, v, ok, getting)
			}
		}
		got, scanning := scan(w, nil, nil, false)
		want(t, "own writes", got, "a=new", "cc=after the range", "d=old", "e=new")
		got, reverse := scan(w, []byte("c"), []byte("e"), true)
		want(t, "own writes reversed", got, "d=old", "cc=after the range")
		return errors.Join(err, scanning, reverse)
	})
	want(t, "after", all(t, e, 1), "a=new", "cc=after the range", "d=old", "e=new")
}

func testLimits(t *testing.T, h Harness) {
	e := open(t, h)
	key := bytes.Repeat([]byte("k"), engine.MaxKey)
	value := bytes.Repeat([]byte("v"), engine.MaxValue)
	update(t, e, 1, func(w engine.Writer) error { return w.Put(key, value) })
	if got := all(t, e, 1); len(got) != 1 || len(got[0]) != engine.MaxKey+1+engine.MaxValue {
		t.Errorf("the largest record is not there")
	}
	long := append(bytes.Clone(key), 'k')
	for what, fn := range map[string]func(w engine.Writer) error{
		"long key":       func(w engine.Writer) error { return w.Put(long, nil) },
		"empty key":      func(w engine.Writer) error { return w.Put(nil, nil) },
		"long value":     func(w engine.Writer) error { return w.Put([]byte("a"), append(bytes.Clone(value), 'v')) },
		"delete long":    func(w engine.Writer) error { return w.Delete(long) },
		"large update":   func(w engine.Writer) error { return fillUpdate(w, value, engine.MaxUpdate) },
		"error ignored":  func(w engine.Writer) error { _ = w.Put(long, nil); return nil },
		"written beside": func(w engine.Writer) error { _ = w.Put([]byte("b"), nil); return w.Put(long, nil) },
	} {
		wantKind(t, what, e.Update(t.Context(), 1, fn), fault.TooLarge)
	}
	if got := all(t, e, 1); len(got) != 1 {
		t.Errorf("a change over a limit was committed in part: %d records", len(got))
	}
	update(t, e, 2, func(w engine.Writer) error { return fillUpdate(w, value, engine.MaxUpdate*9/10) })
}

// fillUpdate writes at least size bytes.
func fillUpdate(w engine.Writer, value []byte, size int) error {
	for i := 0; i*len(value) < size; i++ {
		if err := w.Put(engine.Key('f', uint64(i)), value); err != nil {
			return err
		}
	}
	return nil
}

func testAtomic(t *testing.T, h Harness) {
	e := open(t, h)
	put(t, e, 1, "a", "1", "b", "1")
	sorry := errors.New("sorry")
	err := e.Update(t.Context(), 1, func(w engine.Writer) error {
		return errors.Join(w.Put([]byte("a"), []byte("2")), w.Delete([]byte("b")),
			w.DeleteRange(nil, nil), w.Put([]byte("c"), []byte("2")), sorry)
	})
	if !errors.Is(err, sorry) {
		t.Errorf("got %v", err)
	}
	want(t, "after an error", all(t, e, 1), "a=1", "b=1")
	err = e.View(t.Context(), 1, func(engine.Reader) error { return sorry })
	if !errors.Is(err, sorry) {
		t.Errorf("view: got %v", err)
	}
	func() {
		defer func() { _ = recover() }()
		_ = e.Update(t.Context(), 1, func(w engine.Writer) error {
			_ = w.Put([]byte("a"), []byte("2"))
			panic("a mistake above")
		})
	}()
	put(t, e, 1, "d", "1") // the shard is free again
	want(t, "after a panic", all(t, e, 1), "a=1", "b=1", "d=1")
}

func testExclusive(t *testing.T, h Harness) {
	e := open(t, h)
	const goroutines, rounds = 50, 4
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for range rounds {
				shard := engine.Shard(g % 2)
				if err := e.Update(t.Context(), shard, increment); err != nil {
					t.Errorf("update: %v", err)
				}
			}
		})
	}
	wg.Wait()
	for shard := range engine.Shard(2) {
		want(t, "counter", all(t, e, shard), "n="+strconv.Itoa(goroutines*rounds/2))
	}
}

func increment(w engine.Writer) error {
	v, _, err := w.Get([]byte("n"))
	if err != nil {
		return err
	}
	n, _ := strconv.Atoi(string(v))
	return w.Put([]byte("n"), strconv.AppendInt(nil, int64(n+1), 10))
}

// testSnapshot writes two records together while many Views compare them.
func testSnapshot(t *testing.T, h Harness) {
	e := open(t, h)
	const rounds = 100
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			last := 0
			for {
				select {
				case <-done:
					return
				default:
				}
				last = compare(t, e, last)
			}
		})
	}
	for i := range rounds {
		n := strconv.Itoa(i)
		put(t, e, 3, "x", n, "y", n)
	}
	close(done)
	wg.Wait()
	runs, got := 0, ""
	var scanned []string
	err := e.View(t.Context(), 3, func(r engine.Reader) error {
		got, scanned = "", nil // an earlier run counts for nothing
		if runs++; runs == 1 {
			put(t, e, 3, "x", "beside")
		}
		v, _, err := r.Get([]byte("x"))
		if err != nil {
			return err
		}
		got = string(v)
		scanned, err = scan(r, nil, []byte("y"), false)
		return err
	})
	if err != nil {
		t.Error(err) // and there is nothing to compare
		return
	}
	expect := strconv.Itoa(rounds - 1)
	if runs > 1 {
		expect = "beside" // it began again, after that
	}
	if got != expect {
		t.Errorf("a View that ran %d times saw %q, not %q", runs, got, expect)
	}
	want(t, "scan", scanned, "x="+expect)
}

// compare reads both records in one View and checks that they agree and never go
// back.
func compare(t *testing.T, e engine.Engine, last int) int {
	n := last
	err := e.View(t.Context(), 3, func(r engine.Reader) error {
		x, there, err := r.Get([]byte("x"))
		if err != nil || !there {
			return err
		}
		y, _, err := r.Get([]byte("y"))
		if err != nil {
			return err
		}
		if string(x) != string(y) {
			t.Errorf("half a change: %q %q", x, y)
		}
		n, _ = strconv.Atoi(string(x))
		return err
	})
	if err != nil {
		t.Errorf("view: %v", err)
	}
	if n < last {
		t.Errorf("time ran backwards: %d after %d", n, last)
	}
	return n
}

func testShardsApart(t *testing.T, h Harness) {
	e := open(t, h)
	shards := []engine.Shard{0, 1, 255, 256, 1 << 32, 1<<64 - 2, 1<<64 - 1}
	for i, shard := range shards {
		put(t, e, shard, "k", strconv.Itoa(i), "\xff\xff\xff\xff\xff\xff\xff\xff", "top")
	}
	update(t, e, 255, func(w engine.Writer) error { return w.DeleteRange(nil, nil) })
	for i, shard := range shards {
		if shard == 255 {
			want(t, "emptied", all(t, e, shard))
			continue
		}
		want(t, "shard", all(t, e, shard), "k="+strconv.Itoa(i), "\xff\xff\xff\xff\xff\xff\xff\xff=top")
	}
	// An Update of one shard goes ahead while another is busy.
	update(t, e, 1, func(w engine.Writer) error {
		put(t, e, 256, "beside", "1")
		return w.Put([]byte("outer"), []byte("1"))
	})
}

func testContext(t *testing.T, h Harness) {
	e := open(t, h)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	wantEnded := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	wantEnded("update", e.Update(ended, 1, func(w engine.Writer) error { return w.Put([]byte("a"), nil) }))
	wantEnded("view", e.View(ended, 1, func(engine.Reader) error { return nil }))
	want(t, "after", all(t, e, 1))
	// Waiting for the shard ends with the context, where it is one process that waits.
	if h.Several {
		return
	}
	update(t, e, 1, func(engine.Writer) error {
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan error)
		go func() {
			got <- e.Update(ctx, 1, func(w engine.Writer) error { return w.Put([]byte("a"), nil) })
		}()
		cancel()
		wantEnded("waiting", <-got)
		return nil
	})
	want(t, "after", all(t, e, 1))
}

func testShards(t *testing.T, h Harness) {
	e := open(t, h)
	holds := func(want ...engine.Shard) {
		t.Helper()
		if got, err := e.Shards(t.Context()); err != nil || !slices.Equal(got, want) {
			t.Errorf("%v, not %v; %v", got, want, err)
		}
	}
	holds()
	const last = ^engine.Shard(0)
	for _, id := range []engine.Shard{0, 1, 5, 1<<32 + 1, 1<<32 + 2, last - 1, last} {
		put(t, e, id, "a", "1", "b", "2", strings.Repeat("\xff", engine.MaxKey), "3")
	}
	holds(0, 1, 5, 1<<32+1, 1<<32+2, last-1, last)
	update(t, e, 5, func(w engine.Writer) error { return w.DeleteRange(nil, nil) })
	update(t, e, 1<<32+1, func(w engine.Writer) error { return errors.Join(w.Delete([]byte("a")), w.Delete([]byte("b"))) })
	holds(0, 1, 1<<32+1, 1<<32+2, last-1, last)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Shards(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}
