package pebble

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	db "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/enginetest"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// small keeps the write buffer so small that tests flush and compact.
func small(fs vfs.FS) Options {
	return Options{Now: time.Now, FS: fs, CacheBytes: 1 << 20, MemTableBytes: 128 << 10, gather: 2, retry: time.Millisecond, brake: time.Millisecond}
}

func open(t testing.TB, dir string, opt Options) *Engine {
	t.Helper()
	e, err := Open(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func TestContractInMemory(t *testing.T) {
	enginetest.Run(t, enginetest.Harness{
		Open: func(t *testing.T, now func() time.Time) engine.Engine {
			opt := small(vfs.NewMem())
			opt.Now = now
			return open(t, "data", opt)
		},
		Reopen: reopen,
		Runs:   80 / effort,
		Early:  true,
		Hold: func(t *testing.T) (engine.Engine, func(), func()) {
			fs := &heldFS{FS: vfs.NewMem()}
			return open(t, "data", small(fs)), fs.hold, fs.release
		},
	})
}

func TestContractOnDisk(t *testing.T) {
	enginetest.Run(t, enginetest.Harness{
		Open: func(t *testing.T, now func() time.Time) engine.Engine {
			return open(t, t.TempDir(), Options{FS: vfs.Default, Now: now})
		},
		Reopen: reopen,
		Runs:   5, // each waits for the disk hundreds of times
	})
}

func reopen(t *testing.T, e engine.Engine) engine.Engine {
	old := e.(*Engine)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, old.dir, old.opt)
}

// heldFS can hold back every sync of the log.
type heldFS struct {
	vfs.FS
	mu sync.RWMutex
}

func (fs *heldFS) hold()    { fs.mu.Lock() }
func (fs *heldFS) release() { fs.mu.Unlock() }

func (fs *heldFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.Create(name, category)
	if err != nil || !isLog(name) {
		return f, err
	}
	return &heldFile{f, fs}, nil
}

type heldFile struct {
	vfs.File
	fs *heldFS
}

func (f *heldFile) Sync() error {
	f.fs.mu.RLock()
	defer f.fs.mu.RUnlock()
	return f.File.Sync()
}

func (f *heldFile) SyncData() error {
	f.fs.mu.RLock()
	defer f.fs.mu.RUnlock()
	return f.File.SyncData()
}

func TestDirectoryInUse(t *testing.T) {
	for name, fs := range map[string]vfs.FS{"disk": vfs.Default, "memory": vfs.NewMem()} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			e := open(t, dir, small(fs))
			if _, err := Open(dir, small(fs)); !fault.Is(err, fault.Busy) {
				t.Errorf("opened twice: %v", err)
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
			open(t, dir, small(fs)) // free again
		})
	}
}

func TestDirectoryIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	open(t, dir, Options{FS: vfs.Default, Now: time.Now})
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestNewerVersion(t *testing.T) {
	fs := vfs.NewMem()
	e := open(t, "data", small(fs))
	if err := e.db.Set(append([]byte{spaceMeta}, "format"...), []byte{format + 1}, db.Sync); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // and the refusal gives the lock back
		if _, err := Open("data", small(fs)); !fault.Is(err, fault.Unsupported) {
			t.Errorf("got %v", err)
		}
	}
}

func TestNewerDatabase(t *testing.T) {
	fs := vfs.NewMem()
	open(t, "data", small(fs)).Close()
	names, err := fs.List("data")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, "marker.format-version") {
			newer := name[:strings.LastIndex(name, ".")] + ".999"
			if err := fs.Rename("data/"+name, "data/"+newer); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := Open("data", small(fs)); !fault.Is(err, fault.Unsupported) {
		t.Errorf("got %v", err)
	}
}

// TestValuesAreSeparated checks that blobs lie in blob files and records do not.
func TestValuesAreSeparated(t *testing.T) {
	fs := vfs.NewMem()
	e := open(t, "data", small(fs))
	ctx := context.Background()
	if v := e.db.FormatMajorVersion(); v != db.FormatNewest || v < db.FormatValueSeparation {
		t.Errorf("format %v", v)
	}
	count := func() (files uint64, size uint64) {
		if err := e.db.Flush(); err != nil {
			t.Fatal(err)
		}
		m := e.db.Metrics()
		return m.BlobFiles.LiveCount, m.BlobFiles.LiveSize
	}
	record := make([]byte, 8000)
	for i := range 50 {
		err := e.Update(ctx, 1, func(w engine.Writer) error { return w.Put(engine.Key('r', uint64(i)), record) })
		if err != nil {
			t.Fatal(err)
		}
	}
	if n, _ := count(); n != 0 {
		t.Errorf("records went into %d blob files", n)
	}
	for i := range 50 {
		r := strings.NewReader(strings.Repeat("x", 8000))
		if err := e.Blobs().Put(ctx, mail.BlobRef{byte(i)}, 8000, r); err != nil {
			t.Fatal(err)
		}
	}
	if n, size := count(); n == 0 || size < 50*8000 {
		t.Errorf("%d blob files of %d bytes", n, size)
	}
	if e.Size() < 50*8000 {
		t.Errorf("size %d", e.Size())
	}
}

// TestDeletedSpaceComesBack checks that the space of deleted blobs is given back
// although nothing is written any more.
func TestDeletedSpaceComesBack(t *testing.T) {
	fs := vfs.NewMem()
	e := open(t, "data", small(fs))
	ctx := context.Background()
	const blobs, size = 200, 20_000
	body := make([]byte, size)
	for i := range blobs {
		if err := e.Blobs().Put(ctx, mail.BlobRef{byte(i)}, size, bytes.NewReader(body)); err != nil {
			t.Fatal(err)
		}
	}
	full := e.Size()
	for i := range blobs {
		if ok, err := e.Blobs().Delete(ctx, mail.BlobRef{byte(i)}, time.Now().Add(time.Hour)); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	for e.Size() > full/2 { // the test's time limit ends it
		time.Sleep(time.Millisecond)
	}
}

// TestNothingIsKept checks that shards and names nobody is busy with are forgotten.
func TestNothingIsKept(t *testing.T) {
	e := open(t, "data", small(vfs.NewMem()))
	ctx := context.Background()
	var wg sync.WaitGroup
	for i := range 300 {
		wg.Go(func() {
			put := func(w engine.Writer) error { return w.Put([]byte("k"), nil) }
			if err := e.Update(ctx, engine.Shard(i), put); err != nil {
				t.Error(err)
			}
			_, stop := e.Watch(engine.Shard(i))
			stop()
			if err := e.View(ctx, engine.Shard(i), func(engine.Reader) error { return nil }); err != nil {
				t.Error(err)
			}
			if err := e.Blobs().Put(ctx, mail.BlobRef{byte(i)}, 1, strings.NewReader("x")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	e.commits.Wait()
	if n := len(e.shards.m) + len(e.blobs.names.m); n != 0 {
		t.Errorf("%d entries kept", n)
	}
}
