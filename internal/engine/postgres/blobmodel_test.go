package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
	"github.com/martlet-mail/martlet/internal/engine/s3"
	"github.com/martlet-mail/martlet/internal/engine/s3/s3test"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// The model: two nodes with one database and one bucket deliver, forget and sweep. Each request
// to either is a step, and the steps of all that is under way are mixed as rapid draws them; what is
// under way may die before or after any of them. What a delivery has referred to must be there,
// always; when all is quiet and old, nothing else is.

// labour is something under way on a node.
type labour struct {
	w      *modelWorld
	what   string
	began  time.Time
	goes   chan doom
	parked chan bool // true: before a step; false: at an end
	next   string    // the step it is before
	dead   bool
	err    error
}

// doom is what becomes of a step.
type doom int

const (
	lives doom = iota
	diesBefore
	diesAfter
)

var errDied = errors.New("the node has died")

type labourKey struct{}

// stepOf carries out a request, when it is its turn.
func stepOf(ctx context.Context, what string, fn func() error) error {
	l, _ := ctx.Value(labourKey{}).(*labour)
	if l == nil {
		return fn()
	}
	if l.dead {
		return errDied
	}
	l.next = what
	l.parked <- true
	switch f := <-l.goes; f {
	case diesBefore:
		l.dead = true
		return errDied
	case diesAfter:
		_ = fn()
		l.dead = true
		return errDied
	}
	return fn()
}

// stepShelf and stepObjects make a step of each request.
type stepShelf struct {
	shelf
	w *modelWorld
}

func (s stepShelf) ask(ctx context.Context, rows func([][]byte) error, st *statement, args ...any) error {
	return stepOf(ctx, st.name, func() error { return s.shelf.ask(ctx, rows, st, args...) })
}

func (s stepShelf) change(ctx context.Context, rows func([][]byte) error, st *statement, args ...any) error {
	s.w.changed = true
	return stepOf(ctx, st.name, func() error { return s.shelf.change(ctx, rows, st, args...) })
}

// stepObjects also dates objects by the model's time.
type stepObjects struct {
	Objects
	w *modelWorld
}

func (o stepObjects) Put(ctx context.Context, key string, size int64, r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return stepOf(ctx, "put", func() error {
		o.w.mu.Lock()
		o.w.dated[key] = o.w.now
		o.w.mu.Unlock()
		return o.Objects.Put(ctx, key, size, bytes.NewReader(data))
	})
}

func (o stepObjects) Open(ctx context.Context, key string, off, n int64) (r io.ReadCloser, err error) {
	err = stepOf(ctx, "open", func() error { r, err = o.Objects.Open(ctx, key, off, n); return err })
	return r, err
}

func (o stepObjects) Remove(ctx context.Context, key string) error {
	o.w.changed = true
	return stepOf(ctx, "remove", func() error { return o.Objects.Remove(ctx, key) })
}

func (o stepObjects) List(ctx context.Context, prefix string, fn func(string, time.Time, int64) bool) error {
	type object struct {
		key  string
		size int64
	}
	var all []object
	err := stepOf(ctx, "list", func() error {
		return o.Objects.List(ctx, prefix, func(key string, _ time.Time, size int64) bool {
			all = append(all, object{key, size})
			return true
		})
	})
	for _, x := range all {
		o.w.mu.Lock()
		at := o.w.dated[x.key]
		o.w.mu.Unlock()
		if !fn(x.key, at, x.size) {
			break
		}
	}
	return err
}

const modelNames = 5

type modelWorld struct {
	nodes [2]*blobs
	under []*labour

	mu    sync.Mutex
	now   time.Time
	dated map[string]time.Time // objects
	refs  map[int]int          // what messages refer to

	changed bool // something that can harm has begun since holds looked
}

func modelName(i int) mail.BlobRef { return mail.BlobRef{byte(37 * i), 31: byte(i)} }

// modelBody is small for the first name.
func modelBody(i int) []byte { return bytes.Repeat([]byte{byte(i), 'x'}, 20+200*i) }

func (w *modelWorld) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// deliver stores a body and refers to it, as a delivery does.
func (w *modelWorld) deliver(ctx context.Context, node, i int) error {
	data := modelBody(i)
	if err := w.nodes[node].Put(ctx, modelName(i), int64(len(data)), bytes.NewReader(data)); err != nil {
		return err
	}
	return stepOf(ctx, "refer", func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.refs[i]++
		w.changed = true
		return nil
	})
}

// sweep does what the store's Sweep does with bodies.
func (w *modelWorld) sweep(ctx context.Context, node int) error {
	before := w.clock().Add(-32 * time.Hour)
	used := map[mail.BlobRef]bool{}
	err := stepOf(ctx, "look", func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		for i, n := range w.refs {
			used[modelName(i)] = n > 0
		}
		return nil
	})
	var victims []mail.BlobRef
	if err == nil {
		err = w.nodes[node].List(ctx, func(name mail.BlobRef, at time.Time, _ int64) bool {
			if !used[name] && at.Before(before) {
				victims = append(victims, name)
			}
			return true
		})
	}
	for _, name := range victims {
		if err == nil {
			_, err = w.nodes[node].Delete(ctx, name, before)
		}
	}
	return err
}

func (w *modelWorld) orphans(ctx context.Context, node int) error {
	_, err := w.nodes[node].orphans(ctx)
	if fault.Is(err, fault.Unavailable) {
		return nil // another one that is mad has removed what tells the time
	}
	return err
}

// begin sets something under way, up to its first step.
func (w *modelWorld) begin(what string, fn func(ctx context.Context) error) *labour {
	l := &labour{w: w, what: what, began: w.clock(), goes: make(chan doom), parked: make(chan bool)}
	go func() {
		l.err = fn(context.WithValue(context.Background(), labourKey{}, l))
		l.parked <- false
	}()
	w.await(l)
	return l
}

// await waits for the next step of a labour, or its end.
func (w *modelWorld) await(l *labour) {
	if <-l.parked {
		if !slices.Contains(w.under, l) {
			w.under = append(w.under, l)
		}
		return
	}
	w.under = slices.DeleteFunc(w.under, func(o *labour) bool { return o == l })
}

// let carries out a step. A delivery that has taken long enough is dead.
func (w *modelWorld) let(l *labour, f doom) error {
	if l.what == "deliver" && w.clock().Sub(l.began) > 20*time.Hour {
		f = diesBefore
	}
	l.goes <- f
	w.await(l)
	if l.err != nil && !errors.Is(l.err, errDied) {
		return l.err
	}
	return w.holds()
}

var errBlobLost = errors.New("lost what a message refers to")

// holds tells whether all that is referred to can be read on both nodes.
func (w *modelWorld) holds() error {
	if !w.changed {
		return nil
	}
	w.changed = slices.ContainsFunc(w.under, func(l *labour) bool { return l.what != "deliver" })
	for i, n := range w.refs {
		for node := range w.nodes {
			if n <= 0 {
				continue
			}
			r, err := w.nodes[node].Open(context.Background(), modelName(i), 0, -1)
			var got []byte
			if err == nil {
				got, err = io.ReadAll(r)
				r.Close()
			}
			if err == nil && !bytes.Equal(got, modelBody(i)) {
				err = errors.New("other bytes")
			}
			if err != nil {
				return fmt.Errorf("%w: %d on node %d: %w", errBlobLost, i, node, err)
			}
		}
	}
	return nil
}

// run draws what happens, and then lets all of it come to rest.
func (w *modelWorld) run(t *rapid.T) error {
	for range rapid.IntRange(60, 150).Draw(t, "events") {
		node, i := rapid.IntRange(0, 1).Draw(t, "node"), rapid.IntRange(0, modelNames-1).Draw(t, "name")
		switch event := rapid.IntRange(0, 16).Draw(t, "event"); {
		case event < 4:
			w.begin("deliver", func(ctx context.Context) error { return w.deliver(ctx, node, i) })
		case event < 6:
			w.mu.Lock()
			w.refs[i] = 0
			w.mu.Unlock()
		case event == 6:
			w.begin("sweep", func(ctx context.Context) error { return w.sweep(ctx, node) })
		case event == 7:
			w.begin("orphans", func(ctx context.Context) error { return w.orphans(ctx, node) })
		case event < 10:
			w.pass(time.Duration(rapid.SampledFrom([]int{1, 9, 40}).Draw(t, "hours")) * time.Hour)
		default:
			// One goes on for a while, as it does where nobody is as fast.
			if len(w.under) == 0 {
				break
			}
			l := w.under[rapid.IntRange(0, len(w.under)-1).Draw(t, "whose")]
			for range rapid.SampledFrom([]int{1, 1, 2, 3, 20}).Draw(t, "steps") {
				if !slices.Contains(w.under, l) {
					break
				}
				d := doom(max(0, rapid.IntRange(-20, 2).Draw(t, "doom")))
				t.Logf("%s: step, %d", l.what, d)
				if err := w.let(l, d); err != nil {
					return err
				}
			}
		}
	}
	return w.rest()
}

func (w *modelWorld) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *modelWorld) finish() error {
	for len(w.under) > 0 {
		if err := w.let(w.under[0], lives); err != nil {
			return err
		}
	}
	return nil
}

// rest lets everything end, and two sweeps run days later: then there is what is referred to, and
// nothing else.
func (w *modelWorld) rest() error {
	if err := w.finish(); err != nil {
		return err
	}
	ctx := context.Background()
	w.pass(72 * time.Hour)
	if err := errors.Join(w.sweep(ctx, 0), w.orphans(ctx, 1)); err != nil {
		return err
	}
	w.changed = true
	if err := w.holds(); err != nil {
		return err
	}
	rows, objects := map[mail.BlobRef]bool{}, map[mail.BlobRef]int{}
	err := w.nodes[0].List(ctx, func(name mail.BlobRef, _ time.Time, _ int64) bool { rows[name] = true; return true })
	if err != nil {
		return err
	}
	for i := range modelNames {
		if rows[modelName(i)] != (w.refs[i] > 0) {
			return fault.Newf(fault.Internal, "%d references to %d, a row: %v", w.refs[i], i, rows[modelName(i)])
		}
	}
	err = w.nodes[0].opt.Objects.List(ctx, "", func(key string, _ time.Time, _ int64) bool {
		name, _, _ := parseKey(key)
		objects[name]++
		return true
	})
	delete(rows, modelName(0)) // small
	if err == nil && (len(objects) != len(rows) || slices.ContainsFunc(slices.Collect(maps.Values(objects)), func(n int) bool { return n != 1 })) {
		err = fault.Newf(fault.Internal, "%d blobs have objects, and there are %v", len(rows), objects)
	}
	return err
}

// newModel opens two nodes on an empty database and an empty part of the bucket; the second has a
// cache.
func newModel(t *testing.T, engines [2]*Engine, bucket Objects, without without) *modelWorld {
	w := &modelWorld{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), dated: map[string]time.Time{}, refs: map[int]int{}}
	cache, err := s3.Cached(bucket, vfs.NewMem(), "cache", 1<<20, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cache.Close() })
	for i, o := range []Objects{bucket, cache} {
		opt := Options{Now: w.clock, Over: 100, Objects: stepObjects{o, w}, without: without}.withDefaults()
		shelves := []shelf{stepShelf{poolShelf{engines[i].member(0).pool}, w}}
		w.nodes[i] = &blobs{&opt, new(gate), rand.Int64, func() []shelf { return shelves }, func(context.Context) error { return nil }}
	}
	return w
}

// openModel returns what makes new models, each with an empty database and bucket.
func openModel(t *testing.T) func(without) *modelWorld {
	s := s3test.Start(t)
	url := pgtest.Shared(t)
	engines := [2]*Engine{openBlobs(t, Options{URL: url}), openBlobs(t, Options{URL: url})}
	n := 0
	return func(without without) *modelWorld {
		n++
		engines[0].sql(t, `DELETE FROM blobs`)
		return newModel(t, engines, testBucket(t, s.URL(), "run"+strconv.Itoa(n)+"/"), without)
	}
}

// kill ends all that is under way.
func (w *modelWorld) kill() {
	for len(w.under) > 0 {
		w.under[0].goes <- diesBefore
		w.await(w.under[0])
	}
}

// TestBlobModel: nothing that a message refers to is ever removed, and nothing else stays.
// MARTLET_BLOB_RUNS are more runs than those of every day.
func TestBlobModel(t *testing.T) {
	fresh := openModel(t)
	run, most := 0, 15
	if n, err := strconv.Atoi(os.Getenv("MARTLET_BLOB_RUNS")); err == nil {
		most = n
	}
	rapid.Check(t, func(rt *rapid.T) {
		if run++; run > most {
			return
		}
		w := fresh(without{})
		defer w.kill()
		if err := w.run(rt); err != nil {
			rt.Fatal(err)
		}
	})
}

// until lets a labour go on until its next step is one of a kind; "" is its end.
func (w *modelWorld) until(l *labour, what string) error {
	for l != nil && slices.Contains(w.under, l) && (what == "" || l.next != what) {
		if err := w.let(l, lives); err != nil {
			return err
		}
	}
	return nil
}

// TestBlobModelCanFail: what blobs rest on, each taken away, loses a body in a few steps; with it
// the same steps lose nothing. (The model's own runs lose it too, after 80, 30, 10 and 2 of them.)
func TestBlobModelCanFail(t *testing.T) {
	fresh := openModel(t)
	deliver := func(w *modelWorld, node int) *labour {
		return w.begin("deliver", func(ctx context.Context) error { return w.deliver(ctx, node, 1) })
	}
	sweep := func(w *modelWorld) *labour {
		return w.begin("sweep", func(ctx context.Context) error { return w.sweep(ctx, 1) })
	}
	for _, c := range []struct {
		name    string
		without without
		run     func(w *modelWorld) error
	}{
		{"names of their own for uploads", without{uploads: true}, func(w *modelWorld) error {
			if err := w.until(deliver(w, 0), ""); err != nil {
				return err
			}
			w.refs[1] = 0
			w.pass(40 * time.Hour)
			s := sweep(w)
			return errors.Join(w.until(s, "remove"), w.until(deliver(w, 0), ""), w.until(s, ""))
		}},
		{"an age below which no orphan goes", without{orphanAge: true}, func(w *modelWorld) error {
			d := deliver(w, 0)
			o := w.begin("orphans", func(ctx context.Context) error { return w.orphans(ctx, 1) })
			return errors.Join(w.until(d, "b_large"), w.until(o, ""), w.until(d, ""))
		}},
		{"the bytes before the row", without{rowFirst: true}, func(w *modelWorld) error {
			d := deliver(w, 0)
			if err := w.until(d, "put"); err != nil {
				return err
			}
			if w.let(d, diesBefore) != nil {
				w.kill()
			}
			return w.until(deliver(w, 1), "")
		}},
		{"a blob that is put again becoming young", without{young: true}, func(w *modelWorld) error {
			if err := w.until(deliver(w, 0), ""); err != nil {
				return err
			}
			w.refs[1] = 0
			w.pass(40 * time.Hour)
			d := deliver(w, 1)
			return errors.Join(w.until(d, "refer"), w.until(sweep(w), ""), w.until(d, ""))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, off := range []without{{}, c.without} {
				w := fresh(off)
				err := c.run(w)
				if err == nil {
					w.changed = true
					err = w.holds()
				}
				w.kill()
				if lost := errors.Is(err, errBlobLost); lost != (off != without{}) || err != nil && !lost {
					t.Errorf("%+v: %v", off, err)
				}
			}
		})
	}
}
