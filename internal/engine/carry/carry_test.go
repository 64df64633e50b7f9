package carry

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

func now() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

func open(t *testing.T, fs vfs.FS) engine.Engine {
	t.Helper()
	e, err := pebble.Open("store", pebble.Options{FS: fs, Now: now, ReserveBytes: -1, MemTableBytes: 1 << 20, CacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func empty(t *testing.T) engine.Engine { return open(t, vfs.NewMem()) }

// filled returns an engine with some shards and blobs; several times what goes in one
// Update if it is to be big.
func filled(t *testing.T, random *rand.Rand, big bool) engine.Engine {
	t.Helper()
	e := empty(t)
	for i, s := range []engine.Shard{0, 1, 2, 1<<32 + 1, 1<<32 + 7, 1<<63 + 1, ^engine.Shard(0)} {
		n := random.IntN(20) + 1
		if big && i == 3 {
			n = chunkKeys + 500
		}
		change(t, e, s, func(w engine.Writer) error {
			var errs []error
			for range n {
				errs = append(errs, w.Put(text(random, 1+random.IntN(12)), text(random, random.IntN(50))))
			}
			errs = append(errs, w.Put(text(random, engine.MaxKey), text(random, 7)), w.Put(bytes.Repeat([]byte{0xff}, engine.MaxKey), nil))
			return errors.Join(errs...)
		})
	}
	for range 2 {
		if big {
			change(t, e, 1<<32+7, func(w engine.Writer) error {
				for range 50 {
					if err := w.Put(text(random, 9), text(random, engine.MaxValue)); err != nil {
						return err
					}
				}
				return nil
			})
		}
	}
	sizes := []int{0, 1, 3000, 70_000}
	if big {
		sizes = append(sizes, 1_500_000)
	}
	var names []mail.BlobRef
	for i, size := range sizes {
		name := mail.BlobRef(text(random, 32))
		if err := e.Blobs().Put(t.Context(), name, int64(size), bytes.NewReader(text(random, size)), names[:i/2]...); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return e
}

func text(random *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

func change(t *testing.T, e engine.Engine, s engine.Shard, fn func(w engine.Writer) error) {
	t.Helper()
	if err := e.Update(t.Context(), s, fn); err != nil {
		t.Fatal(err)
	}
}

// dump returns all that an engine holds, a line for each record and blob, by other means
// than the package's.
func dump(t *testing.T, e engine.Engine) (lines []string) {
	t.Helper()
	list, err := e.Shards(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		err := e.View(t.Context(), s, func(r engine.Reader) error {
			return r.Scan(nil, nil, false, func(k, v []byte) bool {
				lines = append(lines, fmt.Sprintf("%d %x=%x", s, k, v))
				return true
			})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	needs := map[mail.BlobRef]string{}
	err = e.Blobs().Needs(t.Context(), func(name mail.BlobRef, _ time.Time, n []mail.BlobRef) bool {
		needs[name] = fmt.Sprint(n)
		return true
	})
	var names []mail.BlobRef
	err = errors.Join(err, e.Blobs().List(t.Context(), func(name mail.BlobRef, _ time.Time, _ int64) bool {
		names = append(names, name)
		return true
	}))
	for _, name := range names {
		r, opening := e.Blobs().Open(t.Context(), name, 0, -1)
		if opening != nil {
			t.Fatal(opening)
		}
		data, reading := io.ReadAll(r)
		err = errors.Join(err, reading, r.Close())
		lines = append(lines, fmt.Sprintf("%v %s %x", name, needs[name], data))
	}
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func same(t *testing.T, from, to engine.Engine) {
	t.Helper()
	a, b := dump(t, from), dump(t, to)
	if !slices.Equal(a, b) {
		t.Fatalf("%d records and blobs on the source, %d on the target, or they differ", len(a), len(b))
	}
}

func chance(t *testing.T, seed uint64) *rand.Rand {
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

func TestCopy(t *testing.T) {
	random := chance(t, 1)
	from, to := filled(t, random, true), &watched{Engine: empty(t)}
	var busy atomic.Bool
	var seen []Progress
	at, err := Copy(t.Context(), from, to, Options{Source: "a", Progress: func(p Progress) {
		if !busy.CompareAndSwap(false, true) {
			t.Error("told twice at a time")
		}
		seen = append(seen, p)
		busy.Store(false)
	}})
	if err != nil {
		t.Fatal(err)
	}
	same(t, from, to)
	if at.Stage != Verifying || at.Round != 1 || at.Changed != 0 || at.Shards != 7 || at.ShardsTotal != 7 || at.Blobs != 5 || at.BlobsTotal != 5 || at.BlobBytes != at.BlobBytesTotal || at.Keys < chunkKeys || at.Bytes < 10<<20 {
		t.Errorf("%+v", at)
	}
	if _, unfinished, err := Unfinished(t.Context(), to); unfinished || err != nil {
		t.Errorf("still marked: %v", err)
	}
	for i, p := range seen[1:] {
		if p.Stage == seen[i].Stage && (p.Keys < seen[i].Keys || p.Bytes < seen[i].Bytes || p.Blobs < seen[i].Blobs || p.Shards < seen[i].Shards) {
			t.Errorf("went back: %+v after %+v", p, seen[i])
		}
	}
	if most := to.most.Load(); most > chunkBytes+engine.MaxValue+engine.MaxKey || most < chunkBytes/2 {
		t.Errorf("an update of %d bytes", most)
	}
	// And back.
	back := empty(t)
	if _, err := Copy(t.Context(), to.Engine, back, Options{Source: "b", Parallel: 1}); err != nil {
		t.Fatal(err)
	}
	same(t, from, back)
}

// watched knows the largest of its updates.
type watched struct {
	engine.Engine
	most atomic.Int64
}

func (e *watched) Update(ctx context.Context, s engine.Shard, fn func(engine.Writer) error) error {
	return e.Engine.Update(ctx, s, func(w engine.Writer) error {
		c := &counting{Writer: w}
		err := fn(c)
		for m := e.most.Load(); c.n > m && !e.most.CompareAndSwap(m, c.n); m = e.most.Load() {
		}
		return err
	})
}

type counting struct {
	engine.Writer
	n int64
}

func (c *counting) Put(k, v []byte) error {
	c.n += int64(len(k) + len(v))
	return c.Writer.Put(k, v)
}

var errKilled = errors.New("killed")

// mortal is an engine of a process that is killed at the n-th change it makes, before or
// after it.
type mortal struct {
	engine.Engine
	mu    sync.Mutex
	left  int
	after bool
	dead  bool
}

func (e *mortal) change(do func() error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.dead {
		return errKilled
	}
	if e.left--; e.left >= 0 {
		return do()
	}
	e.dead = true
	if e.after {
		_ = do()
	}
	return errKilled
}

func (e *mortal) Update(ctx context.Context, s engine.Shard, fn func(engine.Writer) error) error {
	return e.change(func() error { return e.Engine.Update(ctx, s, fn) })
}

func (e *mortal) Blobs() engine.Blobs { return mortalBlobs{e.Engine.Blobs(), e} }

type mortalBlobs struct {
	engine.Blobs
	e *mortal
}

func (b mortalBlobs) Put(ctx context.Context, name mail.BlobRef, size int64, r io.Reader, needs ...mail.BlobRef) error {
	return b.e.change(func() error { return b.Blobs.Put(ctx, name, size, r, needs...) })
}

func (b mortalBlobs) Delete(ctx context.Context, name mail.BlobRef, before time.Time) (gone bool, err error) {
	err = b.e.change(func() (err error) { gone, err = b.Blobs.Delete(ctx, name, before); return err })
	return gone, err
}

// TestKilledAtEachStep kills the copy, and the machine of the target with it, at each of its
// changes; the copy that goes on brings everything, and what changed on the source
// meanwhile, too.
func TestKilledAtEachStep(t *testing.T) {
	for seed := range uint64(8) {
		killedAtEachStep(t, chance(t, 20+seed))
	}
}

func killedAtEachStep(t *testing.T, random *rand.Rand) {
	t.Helper()
	steps := 0
	for done := false; !done; steps++ {
		from := filled(t, random, false)
		fs := vfs.NewCrashableMem()
		killed := &mortal{Engine: open(t, fs), left: steps, after: random.IntN(2) == 0}
		opt := Options{Source: "a", Parallel: 1 + random.IntN(3)}
		_, err := Copy(t.Context(), from, killed, opt)
		if done = err == nil; !done && !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		to := open(t, fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 25 * random.IntN(5), RNG: random}))
		of, unfinished, err := Unfinished(t.Context(), to)
		if err != nil || unfinished && of != "a" || done && unfinished {
			t.Fatalf("step %d: %q %v %v", steps, of, unfinished, err)
		}
		if done {
			same(t, from, to)
			break
		}
		if !unfinished && len(dump(t, to)) > 0 {
			same(t, from, to) // no mark: the copy is done, or has not begun
			continue
		}
		stir(t, random, from)
		if _, err := Copy(t.Context(), from, to, opt); err != nil {
			t.Fatalf("step %d, going on: %v", steps, err)
		}
		same(t, from, to)
	}
	if steps < 13 { // a mark, 4 blobs, 7 shards, the mark again
		t.Errorf("only %d steps", steps)
	}
}

// stir changes some of an engine.
func stir(t *testing.T, random *rand.Rand, e engine.Engine) {
	t.Helper()
	list, err := e.Shards(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	change(t, e, list[random.IntN(len(list))], func(w engine.Writer) error { return w.DeleteRange(nil, nil) })
	change(t, e, list[random.IntN(len(list))], func(w engine.Writer) error {
		return errors.Join(w.Put(text(random, 3), text(random, 5)), w.Put(bytes.Repeat([]byte{0xff}, engine.MaxKey), []byte("other")))
	})
	change(t, e, engine.Shard(random.Uint64()|1<<40), func(w engine.Writer) error { return w.Put([]byte("new"), nil) })
	var names []mail.BlobRef
	err = e.Blobs().List(t.Context(), func(name mail.BlobRef, _ time.Time, _ int64) bool {
		names = append(names, name)
		return true
	})
	gone := names[random.IntN(len(names))]
	_, deleting := e.Blobs().Delete(t.Context(), gone, endOfTime)
	if random.IntN(2) == 0 { // and comes back, needing another
		deleting = errors.Join(deleting, e.Blobs().Put(t.Context(), gone, 3, strings.NewReader("abc"), names[0]))
	}
	if err := errors.Join(err, deleting); err != nil {
		t.Fatal(err)
	}
}

func TestATargetThatHoldsSomethingIsRefused(t *testing.T) {
	random := chance(t, 3)
	from := filled(t, random, false)
	record := func(e engine.Engine) {
		change(t, e, 9, func(w engine.Writer) error { return w.Put([]byte("k"), nil) })
	}
	for name, fill := range map[string]func(engine.Engine){
		"a record": record,
		"a blob": func(e engine.Engine) {
			if err := e.Blobs().Put(t.Context(), mail.BlobRef{1}, 1, strings.NewReader("x")); err != nil {
				t.Fatal(err)
			}
		},
		"another copy": func(e engine.Engine) {
			other := &mortal{Engine: e, left: 5}
			if _, err := Copy(t.Context(), from, other, Options{Source: "other"}); !errors.Is(err, errKilled) {
				t.Fatal(err)
			}
		},
	} {
		to := empty(t)
		fill(to)
		before := dump(t, to)
		if _, err := Copy(t.Context(), from, to, Options{Source: "a"}); !fault.Is(err, fault.Exists) {
			t.Errorf("%s: %v", name, err)
		}
		if !slices.Equal(before, dump(t, to)) {
			t.Errorf("%s: the target was changed", name)
		}
	}
	// What is to be left alone does not count, and stays, on either side.
	to := empty(t)
	record(to)
	change(t, from, 9, func(w engine.Writer) error { return w.Put([]byte("own"), nil) })
	left := func(s engine.Shard) bool { return s == 9 }
	if _, err := Copy(t.Context(), from, to, Options{Source: "a", Leave: left}); err != nil {
		t.Fatal(err)
	}
	change(t, from, 9, func(w engine.Writer) error { return errors.Join(w.Delete([]byte("own")), w.Put([]byte("k"), nil)) })
	same(t, from, to)
	// A copy that is not finished is no source.
	half := empty(t)
	if _, err := Copy(t.Context(), from, &mortal{Engine: half, left: 5}, Options{Source: "a"}); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	if _, err := Copy(t.Context(), half, empty(t), Options{Source: "b"}); !fault.Is(err, fault.Invalid) {
		t.Errorf("from half a copy: %v", err)
	}
}

// faulty is an engine of which a shard and a blob cannot be read, or are not kept as they
// were written.
type faulty struct {
	engine.Engine
	shard   engine.Shard
	key     []byte       // in shard: cannot be read, or is not written
	blob    mail.BlobRef // likewise
	err     error        // of reading; nil: writing fails without a word
	torn    bool         // the blob can be opened
	list    bool         // the list of blobs breaks off at it,
	lists   int          // but for the first
	changes *int         // how often writing fails; nil: always
}

func (e *faulty) View(ctx context.Context, s engine.Shard, fn func(engine.Reader) error) error {
	return e.Engine.View(ctx, s, func(r engine.Reader) error {
		if s == e.shard && e.err != nil {
			r = faultyReader{r, e}
		}
		return fn(r)
	})
}

type faultyReader struct {
	engine.Reader
	e *faulty
}

func (r faultyReader) Scan(from, to []byte, reverse bool, fn func(k, v []byte) bool) error {
	hit := false
	err := r.Reader.Scan(from, to, reverse, func(k, v []byte) bool {
		hit = bytes.Equal(k, r.e.key)
		return !hit && fn(k, v)
	})
	if hit {
		return r.e.err
	}
	return err
}

func (e *faulty) lies() bool {
	if e.err != nil || e.changes != nil && *e.changes == 0 {
		return false
	}
	if e.changes != nil {
		*e.changes--
	}
	return true
}

func (e *faulty) Update(ctx context.Context, s engine.Shard, fn func(engine.Writer) error) error {
	return e.Engine.Update(ctx, s, func(w engine.Writer) error {
		if s == e.shard {
			w = faultyWriter{w, e}
		}
		return fn(w)
	})
}

type faultyWriter struct {
	engine.Writer
	e *faulty
}

func (w faultyWriter) Put(k, v []byte) error {
	if bytes.Equal(k, w.e.key) && w.e.lies() {
		return w.Writer.Put(k, append([]byte("x"), v...))
	}
	return w.Writer.Put(k, v)
}

func (e *faulty) Blobs() engine.Blobs { return faultyBlobs{e.Engine.Blobs(), e} }

type faultyBlobs struct {
	engine.Blobs
	e *faulty
}

func (b faultyBlobs) Open(ctx context.Context, name mail.BlobRef, off, n int64) (io.ReadCloser, error) {
	if b.e.err == nil || b.e.list || name != b.e.blob {
		return b.Blobs.Open(ctx, name, off, n)
	}
	if !b.e.torn {
		return nil, b.e.err
	}
	return io.NopCloser(io.MultiReader(strings.NewReader("some"), failing{b.e.err})), nil
}

func (b faultyBlobs) List(ctx context.Context, fn func(mail.BlobRef, time.Time, int64) bool) error {
	hit := false
	err := b.Blobs.List(ctx, func(name mail.BlobRef, at time.Time, size int64) bool {
		hit = b.e.list && name == b.e.blob && b.e.lists > 0 // the first is to count them
		return !hit && fn(name, at, size)
	})
	if b.e.lists++; hit {
		return b.e.err
	}
	return err
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func (b faultyBlobs) Put(ctx context.Context, name mail.BlobRef, size int64, r io.Reader, needs ...mail.BlobRef) error {
	if name == b.e.blob && b.e.lies() {
		r = io.MultiReader(bytes.NewReader(make([]byte, 1)), io.LimitReader(r, size-1))
	}
	return b.Blobs.Put(ctx, name, size, r, needs...)
}

// plant returns a key in the middle of a shard and a blob of more than a byte.
func plant(t *testing.T, e engine.Engine) (s engine.Shard, key []byte, name mail.BlobRef) {
	t.Helper()
	s, key, name = 1<<32+1, []byte("planted"), mail.BlobRef{0x70}
	change(t, e, s, func(w engine.Writer) error {
		err := w.Put(key, []byte("value"))
		for i := range uint64(chunkKeys + 1) { // behind it
			err = errors.Join(err, w.Put(engine.Key(0xf0, i), nil))
		}
		return err
	})
	if err := e.Blobs().Put(t.Context(), name, 70_000, bytes.NewReader(bytes.Repeat([]byte("ab"), 35_000))); err != nil {
		t.Fatal(err)
	}
	return s, key, name
}

// TestTheSourceIsDamaged: what cannot be read is named, and nothing of it is taken for gone;
// once it is mended the copy goes on.
func TestTheSourceIsDamaged(t *testing.T) {
	random := chance(t, 4)
	from := filled(t, random, false)
	s, key, name := plant(t, from)
	damaged := fault.New(fault.Corrupt, "a block fails its checksum")
	gone := fault.New(fault.Unavailable, "the database is away")
	for what, bad := range map[string]*faulty{
		fmt.Sprintf("shard %d", s):  {shard: s, key: key, err: damaged},
		fmt.Sprintf("shard %d ", s): {shard: s, key: key, err: gone},
		name.String():               {blob: name, err: damaged},
		"blob " + name.String():     {blob: name, err: damaged, torn: true},
		"the list of blobs":         {blob: name, err: damaged, list: true},
	} {
		bad.Engine = from
		to := empty(t)
		_, err := Copy(t.Context(), bad, to, Options{Source: "a"})
		if fault.Of(err) != fault.Of(bad.err) || !strings.Contains(fault.Say(err), "source") || !strings.Contains(fault.Say(err), what) || !errors.Is(err, bad.err) {
			t.Errorf("%s: %v", what, err)
		}
		if _, unfinished, err := Unfinished(t.Context(), to); !unfinished || err != nil {
			t.Errorf("%s: half a copy without a mark: %v", what, err)
		}
		if _, err := Copy(t.Context(), from, to, Options{Source: "a"}); err != nil {
			t.Fatal(err)
		}
		same(t, from, to)
		// The same where all is copied, and damage comes later: nothing is removed for it.
		change(t, to, Shard, func(w engine.Writer) error { return w.Put(markKey, encodeMark("a")) })
		bad.lists = 0
		if _, err := Copy(t.Context(), bad, to, Options{Source: "a"}); fault.Of(err) != fault.Of(bad.err) {
			t.Errorf("%s: %v", what, err)
		}
		change(t, to, Shard, func(w engine.Writer) error { return w.Delete(markKey) })
		same(t, from, to)
	}
}

// TestTheTargetFails: errors of the target are named as such.
func TestTheTargetFails(t *testing.T) {
	random := chance(t, 5)
	from, to := filled(t, random, false), empty(t)
	for n := 0; ; n++ {
		_, err := Copy(t.Context(), from, &mortal{Engine: to, left: n, after: n%2 == 0}, Options{Source: "a", Parallel: 1})
		if err == nil || fault.Is(err, fault.Exists) && n > 4 { // the last failed after it was done
			break
		}
		if !strings.Contains(fault.Say(err)+err.Error(), "target") || !errors.Is(err, errKilled) {
			t.Errorf("%d: %v", n, err)
		}
	}
	same(t, from, to)
}

// TestTheTargetLies: the proof finds what was not kept as it was written; it is written
// again, and given up when that does not help. Without the proof it would stay unseen.
func TestTheTargetLies(t *testing.T) {
	random := chance(t, 6)
	from := filled(t, random, false)
	s, key, name := plant(t, from)
	for what, bad := range map[string]faulty{
		fmt.Sprintf("key %x of shard %d", key, s): {shard: s, key: key},
		fmt.Sprintf("blob %v", name):              {blob: name},
	} {
		always := bad
		always.Engine = empty(t)
		if _, err := Copy(t.Context(), from, &always, Options{Source: "a"}); !fault.Is(err, fault.Corrupt) || !strings.Contains(fault.Say(err), what) {
			t.Errorf("%s: %v", what, err)
		}
		if at, first, err := Compare(t.Context(), from, always.Engine, Options{}); err != nil || at.Changed != 1 || first != what {
			t.Errorf("%s: %d differ, the first is %s: %v", what, at.Changed, first, err)
		}
		once := bad
		once.Engine, once.changes = empty(t), new(int)
		*once.changes = 1
		at, err := Copy(t.Context(), from, &once, Options{Source: "a"})
		if err != nil || at.Round != 2 {
			t.Errorf("%s: %+v, %v", what, at, err)
		}
		same(t, from, once.Engine)
	}
}

// TestCompare: it changes nothing, and what only the target has differs, too.
func TestCompare(t *testing.T) {
	random := chance(t, 7)
	from, to := filled(t, random, false), empty(t)
	if _, err := Copy(t.Context(), from, to, Options{Source: "a"}); err != nil {
		t.Fatal(err)
	}
	stir(t, random, to)
	a, b := dump(t, from), dump(t, to)
	at, what, err := Compare(t.Context(), from, to, Options{})
	if err != nil || what == "" {
		t.Fatal(what, err)
	}
	differ := map[string]bool{} // by what stands before the value
	for _, list := range [][2][]string{{a, b}, {b, a}} {
		for _, line := range list[0] {
			if !slices.Contains(list[1], line) {
				name, _, _ := strings.Cut(cmp.Or(strings.ReplaceAll(line, " [", "="), line), "=")
				name, _, _ = strings.Cut(name, "  ")
				differ[name] = true
			}
		}
	}
	if at.Changed != int64(len(differ)) {
		t.Errorf("%d differ, counted %d", len(differ), at.Changed)
	}
	if !slices.Equal(a, dump(t, from)) || !slices.Equal(b, dump(t, to)) {
		t.Error("something was changed")
	}
}

func TestCancelled(t *testing.T) {
	from, to := filled(t, chance(t, 8), false), empty(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Copy(ctx, from, to, Options{Source: "a", Progress: func(p Progress) {
		if p.Shards == 3 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := Copy(t.Context(), from, to, Options{Source: "a"}); err != nil {
		t.Fatal(err)
	}
	same(t, from, to)
}

// TestBegun: whoever is to keep others from the target is called once it is marked, and before
// anything is there.
func TestBegun(t *testing.T) {
	from, to, no := filled(t, rand.New(rand.NewPCG(1, 1)), false), empty(t), errors.New("not now")
	opt := Options{Source: "a", Begun: func(ctx context.Context) error {
		shards, err := to.Shards(ctx)
		if err != nil || !slices.Equal(shards, []engine.Shard{Shard}) {
			t.Errorf("the target holds %v, %v", shards, err)
		}
		return no
	}}
	if _, err := Copy(t.Context(), from, to, opt); !errors.Is(err, no) {
		t.Errorf("the copy ends with %v", err)
	}
	if shards, err := to.Shards(t.Context()); err != nil || !slices.Equal(shards, []engine.Shard{Shard}) {
		t.Errorf("the target holds %v, %v", shards, err)
	}
	full := filled(t, rand.New(rand.NewPCG(2, 2)), false)
	if _, err := Copy(t.Context(), from, full, Options{Source: "a", Begun: func(context.Context) error {
		t.Error("others are kept from a target that is no copy's")
		return nil
	}}); !fault.Is(err, fault.Exists) {
		t.Errorf("a copy into a store that is full: %v", err)
	}
}
