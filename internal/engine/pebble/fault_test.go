package pebble

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// breaker fails calls of the file system that a test picks.
type breaker struct {
	mu    sync.Mutex
	err   error
	match func(op errorfs.Op) bool
	skip  int  // matching calls to let through first
	once  bool // fail one call only
	hits  int
}

func (b *breaker) String() string { return "breaker" }

func (b *breaker) MaybeError(op errorfs.Op) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil || !b.match(op) || b.once && b.hits > 0 {
		return nil
	}
	if b.skip > 0 {
		b.skip--
		return nil
	}
	b.hits++
	return b.err
}

// set begins or, with a nil error, ends the failures.
func (b *breaker) set(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

func (b *breaker) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.hits
}

var writeKinds = map[string]errorfs.OpKind{
	"create": errorfs.OpCreate, "reuse": errorfs.OpReuseForWrite, "write": errorfs.OpFileWrite,
	"sync": errorfs.OpFileSync, "syncdata": errorfs.OpFileSyncData, "syncto": errorfs.OpFileSyncTo,
	"rename": errorfs.OpRename, "remove": errorfs.OpRemove, "close": errorfs.OpFileClose,
	"preallocate": errorfs.OpFilePreallocate,
}

var fileKinds = []string{".log", ".sst", ".blob", "MANIFEST", "marker", "data"}

// isFile tells whether the path is of the kind; "data" is the directory itself.
func isFile(path, kind string) bool {
	if kind == "data" {
		return path == "data"
	}
	return strings.Contains(path, kind)
}

// TestDiskFails breaks each kind of call on each kind of file, once or for ever.
// Whatever happens the engine neither hangs nor ends the process, tells no lie, and
// the next Open finds all that was acknowledged.
func TestDiskFails(t *testing.T) {
	broken := map[string]int{}
	for what, op := range writeKinds {
		for _, file := range fileKinds {
			for round := range max(1, 4/effort) {
				name := fmt.Sprintf("%s %s %d", what, file, round)
				b := &breaker{skip: round / 2 * 3, once: round%2 == 0, match: func(o errorfs.Op) bool {
					return o.Kind == op && isFile(o.Path, file)
				}}
				if err := breakDisk(b, uint64(round), nil); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if b.count() == 0 {
					break // there is no such call
				}
				broken[what]++
				broken[file]++
			}
		}
	}
	t.Logf("calls broken: %v", broken)
	for _, must := range []string{"create", "write", "syncdata", "remove", ".log", ".sst", ".blob", "MANIFEST"} {
		if broken[must] == 0 {
			t.Errorf("nothing of the kind %q was ever broken", must)
		}
	}
}

// breakDisk works while b breaks calls, and looks at what is there afterwards. wrap may
// stand between the engine and the breaker.
func breakDisk(b *breaker, seed uint64, wrap func(vfs.FS) vfs.FS) error {
	mem := vfs.NewCrashableMem()
	opt := small(errorfs.Wrap(mem, b))
	if wrap != nil {
		opt.FS = wrap(opt.FS)
	}
	opt.MemTableBytes = 32 << 10 // flush and compact all the time
	e, err := Open("data", opt)
	if err != nil {
		return err
	}
	l := newLedger()
	l.run(e, seed, 2)
	b.set(syscall.EIO)
	l.run(e, seed+100, 12)
	for kind := range l.errs {
		if kind != fault.Unavailable && kind != fault.Unknown {
			return fmt.Errorf("calls failed with %v", l.errs)
		}
	}
	failed := e.Healthy() != nil
	if failed && !isFailed(e) {
		return errors.New("a failed disk counts as a full one")
	}
	if failed {
		if err := stopped(e); err != nil {
			return err
		}
	}
	then := l.now()
	if err := e.Close(); err != nil && !failed {
		return fmt.Errorf("close: %w", err)
	}
	b.set(nil)
	for _, fs := range []vfs.FS{mem.CrashClone(vfs.CrashCloneCfg{}), mem} { // after a power cut, and without
		again, err := Open("data", small(fs))
		if err != nil {
			return fmt.Errorf("open again: %w", err)
		}
		if err := l.verify(again, then); err != nil {
			return fmt.Errorf("verify: %w", err)
		}
		if err := again.Close(); err != nil {
			return err
		}
	}
	return nil
}

func isFailed(e *Engine) bool {
	select {
	case <-e.Failed():
		return true
	default:
		return false
	}
}

// stopped checks that an engine that has failed takes no write, and reads on.
func stopped(e *Engine) error {
	ctx := context.Background()
	err := e.Update(ctx, 77, func(w engine.Writer) error { return w.Put([]byte("k"), nil) })
	if !fault.Is(err, fault.Unavailable) {
		return fmt.Errorf("update after a failure: %w", err)
	}
	err = e.Blobs().Put(ctx, mail.BlobRef{1}, 1, strings.NewReader("x"))
	if !fault.Is(err, fault.Unavailable) {
		return fmt.Errorf("put after a failure: %w", err)
	}
	return e.View(ctx, 77, func(r engine.Reader) error {
		_, _, err := r.Get([]byte("k"))
		return err
	})
}

// TestFailedSyncIsNotForgotten checks that a View never shows what a failed sync
// may have lost.
func TestFailedSyncIsNotForgotten(t *testing.T) {
	b := &breaker{once: true, match: func(op errorfs.Op) bool {
		return isLog(op.Path) && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData)
	}}
	mem := vfs.NewCrashableMem()
	e, err := Open("data", small(errorfs.Wrap(mem, b)))
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	b.set(syscall.EIO)
	put := func(w engine.Writer) error { return w.Put([]byte("k"), []byte("v")) }
	if err := e.Update(ctx, 1, put); !fault.Is(err, fault.Unknown) {
		t.Errorf("the update whose sync failed: %v", err)
	}
	for range 2 {
		err := e.View(ctx, 1, func(engine.Reader) error { return nil })
		if !fault.Is(err, fault.Unavailable) {
			t.Errorf("a View of what may be lost: %v", err)
		}
	}
	if err := e.View(ctx, 2, func(engine.Reader) error { return nil }); err != nil {
		t.Errorf("a View of another shard: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// TestFailedDiskIsFrozen checks that nothing reaches a disk that has failed, and that
// the log is told that it does.
func TestFailedDiskIsFrozen(t *testing.T) {
	mem := vfs.NewMem()
	d := newDisk("", Options{Now: time.Now, FS: mem}.withDefaults())
	const category = vfs.WriteCategoryUnspecified
	old, err := d.Create("old.log", category)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := old.Write([]byte("before")); err != nil {
		t.Fatal(err)
	}
	d.fail(syscall.EIO)
	select {
	case <-d.stop():
	default:
		t.Error("who waits for the disk is not told")
	}
	fresh, err := d.Create("new.log", category)
	if err != nil {
		t.Fatal(err)
	}
	_, writing := old.Write([]byte("after"))
	_, writing2 := fresh.Write([]byte("after"))
	for _, err := range []error{writing, writing2, old.Sync(), fresh.SyncData(), old.Close(), fresh.Close(), d.Remove("old.log"), d.RemoveAll("old.log")} {
		if err != nil {
			t.Error(err)
		}
	}
	if names, err := mem.List(""); err != nil || len(names) != 1 {
		t.Errorf("there is %q, %v", names, err)
	}
	if info, err := mem.Stat("old.log"); err != nil || info.Size() != int64(len("before")) {
		t.Errorf("the file was written or removed: %v", err)
	}
}

// TestCloseAfterFailure checks that nothing that asks the database in the background keeps
// Close waiting: a database that was writing its manifest when the disk failed holds a lock
// for ever.
func TestCloseAfterFailure(t *testing.T) {
	b := &breaker{match: func(op errorfs.Op) bool { return op.Kind == errorfs.OpFileWrite && isFile(op.Path, "MANIFEST") }}
	opt := small(errorfs.Wrap(vfs.NewCrashableMem(), b))
	opt.rest = time.Millisecond
	e, err := Open("data", opt)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Update(context.Background(), 1, func(w engine.Writer) error { return w.Put([]byte("k"), nil) }); err != nil {
		t.Fatal(err)
	}
	b.set(syscall.EIO)
	go func() { _ = e.db.Flush() }()
	<-e.Failed()
	e.busy()
	time.Sleep(50 * time.Millisecond) // more than its rest
	if n := e.Size(); n != 0 {
		t.Errorf("size %d", n)
	}
	closed := make(chan error)
	go func() { closed <- e.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Close waits for ever")
	}
}

// TestDiskFull fills the disk under the writers and gives space again.
func TestDiskFull(t *testing.T) {
	for _, file := range fileKinds {
		t.Run(file, func(t *testing.T) {
			testLack(t, file, syscall.ENOSPC, errorfs.OpFileWrite, errorfs.OpCreate)
		})
	}
}

// TestTooManyFiles takes the file descriptors away.
func TestTooManyFiles(t *testing.T) {
	for _, file := range fileKinds {
		t.Run(file, func(t *testing.T) {
			testLack(t, file, syscall.EMFILE, errorfs.OpCreate, errorfs.OpReuseForWrite, errorfs.OpOpenDir)
		})
	}
}

// testLack lets calls of one kind of file fail for a while for a reason that passes.
func testLack(t *testing.T, file string, reason error, kinds ...errorfs.OpKind) {
	b := &breaker{match: func(op errorfs.Op) bool {
		return isFile(op.Path, file) && slices.Contains(kinds, op.Kind)
	}}
	mem := vfs.NewCrashableMem()
	e, err := Open("data", small(errorfs.Wrap(mem, b)))
	if err != nil {
		t.Fatal(err)
	}
	l := newLedger()
	l.run(e, 1, 4)
	b.set(reason)
	l.run(e, 2, 15)
	if b.count() > 0 && len(l.errs) == 0 && file == ".log" && reason == error(syscall.ENOSPC) {
		t.Error("the log was full and nothing failed")
	}
	b.set(nil)
	waitHealthy(t, e)
	errs := maps.Clone(l.errs)
	l.run(e, 3, 10)
	if !maps.Equal(errs, l.errs) {
		t.Errorf("afterwards calls failed: %v, before that: %v", l.errs, errs)
	}
	if isFailed(e) {
		t.Error("what passes counts as a failed disk")
	}
	then := l.now()
	if err := l.verify(e, then); err != nil {
		t.Error(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, "data", small(mem.CrashClone(vfs.CrashCloneCfg{})))
	if err := l.verify(again, then); err != nil {
		t.Error(err)
	}
}

func waitHealthy(t *testing.T, e *Engine) {
	t.Helper()
	for e.Healthy() != nil {
		if f := e.disk.failed.Load(); f != nil {
			t.Fatal(f.cause)
		}
		time.Sleep(time.Millisecond)
	}
	e.commits.Wait() // what was Unknown is settled
}

// TestReserve checks who may write how near to the end of the disk.
func TestReserve(t *testing.T) {
	mem := vfs.NewMem()
	opt := small(mem)
	now := time.Unix(1e9, 0)
	opt.Now = func() time.Time { return now }
	opt.ReserveBytes = 1000
	e := open(t, "data", opt)
	ctx := context.Background()
	put := func(w engine.Writer) error { return w.Put([]byte("k"), nil) }
	for i, test := range []struct {
		free         uint64
		blob, update bool
	}{
		{5000, true, true}, {1000, true, true}, {999, false, true}, {499, false, false}, {0, false, false}, {5000, true, true},
	} {
		mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: test.free, TotalBytes: 10_000})
		now = now.Add(time.Minute)
		err := e.Blobs().Put(ctx, mail.BlobRef{byte(i)}, 1, strings.NewReader("x"))
		if ok := err == nil; ok != test.blob || !ok && !fault.Is(err, fault.Unavailable) {
			t.Errorf("%d bytes free, blob: %v", test.free, err)
		}
		err = e.Update(ctx, 1, put)
		if ok := err == nil; ok != test.update || !ok && !fault.Is(err, fault.Unavailable) {
			t.Errorf("%d bytes free, update: %v", test.free, err)
		}
		if ok, err := e.Blobs().Delete(ctx, mail.BlobRef{byte(i)}, now.Add(time.Hour)); ok != test.blob || err != nil {
			t.Errorf("%d bytes free, delete: %v %v", test.free, ok, err)
		}
	}
}

// TestCloseWhileFull checks that Close does not wait for space.
func TestCloseWhileFull(t *testing.T) {
	b := &breaker{match: func(op errorfs.Op) bool { return isLog(op.Path) && op.Kind == errorfs.OpFileWrite }}
	mem := vfs.NewCrashableMem()
	opt := small(errorfs.Wrap(mem, b))
	opt.retry = time.Hour
	e, err := Open("data", opt)
	if err != nil {
		t.Fatal(err)
	}
	b.set(syscall.ENOSPC)
	err = e.Update(context.Background(), 1, func(w engine.Writer) error { return w.Put([]byte("k"), nil) })
	if !fault.Is(err, fault.Unknown) {
		t.Errorf("update: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	b.set(nil)
	open(t, "data", small(mem))
}

// TestOpenFails breaks each call of Open in turn; the lock is free afterwards and
// nothing is lost.
func TestOpenFails(t *testing.T) {
	mem := vfs.NewCrashableMem()
	e := open(t, "data", small(mem))
	l := newLedger()
	l.run(e, 1, 10)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	then := l.now()
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		for skip := 0; ; skip++ {
			b := &breaker{err: cause, skip: skip, match: func(op errorfs.Op) bool {
				return op.Kind != errorfs.OpRemove && op.Kind != errorfs.OpFileClose
			}}
			e, err := Open("data", small(errorfs.Wrap(mem, b)))
			if err == nil {
				_ = e.Close()
			}
			again, err := Open("data", small(mem))
			if err != nil {
				t.Fatalf("%v at call %d: open afterwards: %v", cause, skip, err)
			}
			if err := l.verify(again, then); err != nil {
				t.Fatalf("%v at call %d: %v", cause, skip, err)
			}
			if err := again.Close(); err != nil {
				t.Fatal(err)
			}
			if b.count() == 0 {
				break // past the end
			}
		}
	}
}

// TestDamage changes what is stored of a blob: reading it is then Corrupt.
func TestDamage(t *testing.T) {
	mem := vfs.NewMem()
	e := open(t, "data", small(mem))
	ctx := context.Background()
	name := nameFor(1, 50_000)
	if err := e.Blobs().Put(ctx, name, 50_000, strings.NewReader(string(bodyFor(name)))); err != nil {
		t.Fatal(err)
	}
	key := pieceKey(name, 0)
	v, closer, err := e.db.Get(key)
	if err != nil {
		t.Fatal(err)
	}
	bad := append([]byte(nil), v...)
	if err := closer.Close(); err != nil {
		t.Fatal(err)
	}
	bad[1000] ^= 1
	for what, value := range map[string][]byte{"flipped": bad, "short": bad[:500], "tiny": bad[:3]} {
		if err := e.db.Set(key, value, nil); err != nil {
			t.Fatal(err)
		}
		r, err := e.Blobs().Open(ctx, name, 10, 20)
		if err == nil {
			_, err = r.Read(make([]byte, 5))
		}
		if !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s piece: %v", what, err)
		}
	}
	if err := e.db.Delete(key, nil); err != nil {
		t.Fatal(err)
	}
	r, err := e.Blobs().Open(ctx, name, 10, 20)
	if err == nil {
		_, err = r.Read(make([]byte, 5))
	}
	if !fault.Is(err, fault.Corrupt) {
		t.Errorf("missing piece: %v", err)
	}
	for _, header := range []string{"", "x", strings.Repeat("\xff", headerBytes)} {
		if err := e.db.Set(headerKey(name), []byte(header), nil); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Blobs().Open(ctx, name, 0, -1); !fault.Is(err, fault.Corrupt) {
			t.Errorf("header %q: %v", header, err)
		}
	}
}

// TestReadsFail breaks the reads of tables for a while: calls fail, nothing stops for
// good, and nothing is lost.
func TestReadsFail(t *testing.T) {
	b := &breaker{match: func(op errorfs.Op) bool {
		return (op.Kind == errorfs.OpFileReadAt || op.Kind == errorfs.OpOpen) && (isFile(op.Path, ".sst") || isFile(op.Path, ".blob"))
	}}
	opt := small(errorfs.Wrap(vfs.NewMem(), b))
	opt.MemTableBytes = 32 << 10
	e := open(t, "data", opt)
	l := newLedger()
	l.run(e, 1, 5)
	b.set(syscall.EIO)
	l.run(e, 2, 10)
	if b.count() == 0 || l.errs[fault.Unavailable] == 0 || len(l.errs) > 1 {
		t.Errorf("%d reads were broken, calls failed with %v", b.count(), l.errs)
	}
	if n := e.ReadFailures(); n == 0 || n > int64(b.count()) {
		t.Errorf("%d reads were broken, %d are counted", b.count(), n)
	}
	b.set(nil)
	e.commits.Wait()
	if err := e.Healthy(); err != nil {
		t.Error(err)
	}
	then := l.now()
	for l.verify(e, then) != nil { // a read that failed may still be remembered
		time.Sleep(time.Millisecond)
	}
}
