package backup

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/test/promise"
)

// engineCache is small: in a build without cgo the cache of the engine is on the heap, and a
// backup that is the first to read would be charged with what fills it.
const engineCache = 1 << 20

// onDisk is a world with a domain whose engine lies on the disk.
func onDisk(t testing.TB, names ...string) *world {
	t.Helper()
	eng, err := pebble.Open(filepath.Join(t.TempDir(), "data"), pebble.Options{FS: vfs.Default, Now: time.Now, CacheBytes: engineCache, MemTableBytes: 1 << 20, ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorldOn(t, eng)
	w.must(t, w.Directory.AddDomain(ctx, "example.org"))
	for _, n := range names {
		w.add(t, n)
	}
	return w
}

// calm waits until the engine has written what it still had to: that is not what is measured.
func calm() {
	var m runtime.MemStats
	for quiet, last, tries := 0, int64(0), 0; quiet < 4 && tries < 60; tries++ {
		runtime.GC()
		runtime.ReadMemStats(&m)
		now := int64(m.HeapAlloc)
		if quiet++; max(now-last, last-now) > 1<<20 {
			quiet = 0
		}
		last = now
		time.Sleep(50 * time.Millisecond)
	}
}

// peak runs fn and returns by how much the memory in use rose above what it was.
func peak(fn func()) int64 {
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	base, highest := int64(m.HeapAlloc), atomic.Int64{}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		var m runtime.MemStats
		for {
			runtime.ReadMemStats(&m)
			highest.Store(max(highest.Load(), int64(m.HeapAlloc)-base))
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	}()
	fn()
	close(stop)
	<-done
	return highest.Load()
}

// A backup, a look through it and a restore need a few megabytes, however large messages
// are.
func TestMemoryIsBounded(t *testing.T) {
	w := onDisk(t, "carol")
	rng := rand.New(rand.NewPCG(1, 1))
	const large, size = 6, 8 << 20
	for i := range large {
		w.append(t, "carol", "INBOX", letter(rng, fmt.Sprint(i), size), 0)
	}
	w.mixed(t, "carol", 200, 1)
	dir := t.TempDir()
	var figures []any
	check := func(what string, most int64, fn func()) {
		t.Helper()
		calm()
		got := peak(fn)
		if got > most {
			t.Errorf("%s: %d bytes of memory, at most %d are stated", what, got, most)
		}
		figures = append(figures, what+" KiB", got>>10)
	}
	check("backup", 16<<20, func() { w.save(t, dir, SaveOptions{}) })
	check("full backup", 16<<20, func() { w.save(t, dir, SaveOptions{Full: true}) })
	check("verify", 16<<20, func() { clean(t, dir) })
	eng, err := pebble.Open(filepath.Join(t.TempDir(), "data"), pebble.Options{FS: vfs.Default, Now: time.Now, CacheBytes: engineCache, MemTableBytes: 1 << 20, ReserveBytes: -1})
	w.must(t, err)
	defer eng.Close()
	check("restore", 32<<20, func() {
		o, err := Open(disk, dir, time.Time{})
		w.must(t, err)
		defer o.Close()
		_, err = o.Whole(ctx, eng, RestoreOptions{})
		w.must(t, err)
	})
	promise.Kept(t, "R16", figures...)
}

// BenchmarkSave makes backups of an account of 5,000 messages: the first, one of nothing
// new, one of one message more.
func BenchmarkSave(b *testing.B) {
	w := onDisk(b, "carol")
	w.mixed(b, "carol", 5000, 1)
	rng := rand.New(rand.NewPCG(2, 2))
	bytes := int64(0)
	for _, c := range []struct {
		name   string
		before func(i int) (dir string)
	}{
		{"first", func(int) string { return b.TempDir() }},
		{"again", func() func(int) string { dir := b.TempDir(); return func(int) string { return dir } }()},
		{"one-more", func() func(int) string {
			dir := b.TempDir()
			return func(i int) string { w.append(b, "carol", "INBOX", letter(rng, fmt.Sprint("x", i), 300), 0); return dir }
		}()},
	} {
		b.Run(c.name, func(b *testing.B) {
			for i := range b.N {
				b.StopTimer()
				dir := c.before(i)
				if i == 0 {
					_, err := w.Save(ctx, dir, SaveOptions{})
					w.must(b, err)
					if c.name == "first" {
						dir = b.TempDir()
					}
				}
				if c.name == "one-more" && i == 0 {
					c.before(-1)
				}
				b.StartTimer()
				s, err := w.Save(ctx, dir, SaveOptions{})
				w.must(b, err)
				bytes = s.Snapshot.Bytes
			}
			b.ReportMetric(float64(bytes), "new-bytes")
		})
	}
}
