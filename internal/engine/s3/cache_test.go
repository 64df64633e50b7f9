package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine/s3/s3test"
	"github.com/martlet-mail/martlet/internal/fault"
)

func cachedOn(t testing.TB, o Objects, fs vfs.FS, dir string, limit int64) *Cache {
	t.Helper()
	c, err := Cached(o, fs, dir, limit, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// settle waits until nothing is on its way into the folder.
func (c *Cache) settle() {
	for {
		c.mu.Lock()
		n := len(c.filling)
		c.mu.Unlock()
		if n == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// sound holds the books of a cache against its folder.
func (c *Cache) sound(t testing.TB) {
	t.Helper()
	c.settle()
	c.mu.Lock()
	defer c.mu.Unlock()
	names, err := c.fs.List(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	total := int64(0)
	for _, name := range names {
		info, err := c.fs.Stat(c.path(name))
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := c.files[name]; !ok {
			t.Errorf("%s is nowhere in the books", name)
		}
		total += info.Size()
	}
	if total != c.used || len(names) != len(c.files) || c.order.Len() != len(c.files) || total > c.limit {
		t.Errorf("%d files with %d bytes, in the books %d and %d, and %d are allowed", len(names), total, len(c.files), c.used, c.limit)
	}
}

// TestCached: a cache is Objects, of any size and whatever fits into it.
func TestCached(t *testing.T) {
	s := s3test.Start(t)
	for _, limit := range []int64{0, 1 << 20, 1 << 30} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			c := cachedOn(t, openBucket(t, s.URL()), vfs.NewMem(), "c", limit)
			objects(t, c)
			c.sound(t)
		})
	}
}

// memory is Objects that count what is asked of them.
type memory struct {
	mu    sync.Mutex
	data  map[string][]byte
	opens int
	slow  chan struct{} // if set, a body gives its second half when it is closed
	fail  atomic.Bool
}

func newMemory() *memory { return &memory{data: map[string][]byte{}} }

func (m *memory) Put(_ context.Context, key string, size int64, r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data[key] = b
	return nil
}

type memoryReader struct {
	*bytes.Reader
	m    *memory
	half int
}

func (r *memoryReader) Left() int64  { return int64(r.Len()) }
func (r *memoryReader) Close() error { return nil }

func (r *memoryReader) Read(p []byte) (int, error) {
	if r.m.fail.Load() {
		return 0, fault.New(fault.Unavailable, "broken")
	}
	if r.m.slow != nil && r.Len() <= r.half {
		<-r.m.slow
	}
	return r.Reader.Read(p[:min(len(p), 10_000)])
}

// WriteTo hides that of bytes.Reader.
func (r *memoryReader) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{r})
}

func (m *memory) Open(_ context.Context, key string, off, n int64) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.opens++
	b, ok := m.data[key]
	switch {
	case !ok:
		return nil, fault.New(fault.NotFound, "no such object")
	case off < 0 || off+max(n, 0) > int64(len(b)):
		return nil, fault.New(fault.Invalid, "outside")
	}
	if b = b[off:]; n >= 0 {
		b = b[:n]
	}
	return &memoryReader{bytes.NewReader(b), m, len(b) / 2}, nil
}

func (m *memory) Remove(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.data, key)
	return nil
}

func (m *memory) List(context.Context, string, func(string, time.Time, int64) bool) error { return nil }

func (m *memory) asked() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.opens
	m.opens = 0
	return n
}

// TestCacheSaves: what was put or read is not asked for again, not even by many at once, by a
// range, or after a restart; who reads it first need not wait for all of it.
func TestCacheSaves(t *testing.T) {
	m, fs := newMemory(), vfs.NewMem()
	c := cachedOn(t, m, fs, "c", 10<<20)
	data := text(1, 300_000)
	put(t, c, "put", data)
	expect(t, c, "put", data)
	if n := m.asked(); n != 0 {
		t.Errorf("asked %d times for what was just put", n)
	}
	m.data["read"] = data
	m.slow = make(chan struct{})
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			r, err := c.Open(t.Context(), "read", 50_000, 80_000)
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Close()
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data[50_000:130_000]) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	wg.Wait() // though the second half is still to come
	close(m.slow)
	c.settle()
	expect(t, c, "read", data)
	if n := m.asked(); n != 1 {
		t.Errorf("asked %d times by many at once", n)
	}
	c.sound(t)
	c.Close()
	c = cachedOn(t, m, fs, "c", 10<<20)
	expect(t, c, "put", data)
	expect(t, c, "read", data)
	if n := m.asked(); n != 0 {
		t.Errorf("asked %d times after a restart", n)
	}
	if n := c.Counts(); n.Hits != 2 || n.Misses != 0 || n.Files != 2 || n.Bytes != 2*fileSize(300_000) {
		t.Errorf("%+v", n)
	}
}

// TestCacheLimit: what was not used for longest gives way, and the limit holds, for what an earlier
// run left too.
func TestCacheLimit(t *testing.T) {
	m, fs := newMemory(), vfs.NewMem()
	const limit = 1 << 20
	c := cachedOn(t, m, fs, "c", limit)
	for i := range 40 {
		put(t, c, fmt.Sprint(i), text(i, 50_000))
		expect(t, c, "0", text(0, 50_000))
		c.sound(t)
	}
	if n := m.asked(); n != 0 {
		t.Errorf("what is used all the time was dropped %d times", n)
	}
	expect(t, c, "1", text(1, 50_000))
	if n := m.asked(); n != 1 {
		t.Error("what was not used for long is still there")
	}
	large := text(1, limit/4)
	put(t, c, "large", large)
	expect(t, c, "large", large)
	if n := c.Counts(); n.Files < 15 {
		t.Errorf("a large one has driven all others out: %+v", n)
	}
	c.Close()
	c = cachedOn(t, m, fs, "c", 200_000)
	c.sound(t)
	if n := c.Counts().Files; n != 3 {
		t.Errorf("%d files", n)
	}
	if c = cachedOn(t, m, fs, "c", 0); c.Counts().Files != 0 {
		t.Error("files without a limit")
	}
}

// TestCacheDamage: a file that was cut, changed, or exchanged for another is not believed; what
// it should have given is read from behind it, and it goes.
func TestCacheDamage(t *testing.T) {
	m, fs := newMemory(), vfs.NewMem()
	data, other := text(1, 200_000), text(2, 200_000)
	random := rand.New(rand.NewPCG(1, 2))
	for name, harm := range map[string]func(b []byte) []byte{
		"empty":          func([]byte) []byte { return nil },
		"cut":            func(b []byte) []byte { return b[:random.IntN(len(b))] },
		"cut at a block": func(b []byte) []byte { return b[:2*blockBytes] },
		"longer":         func(b []byte) []byte { return append(b, 0) },
		"a bit":          func(b []byte) []byte { b[random.IntN(len(b))] ^= 1 << random.IntN(8); return b },
		"a hole":         func(b []byte) []byte { clear(b[100_000:130_000]); return b },
		"blocks exchanged": func(b []byte) []byte {
			c := bytes.Clone(b)
			copy(c, b[blockBytes:2*blockBytes])
			copy(c[blockBytes:], b[:blockBytes])
			return c
		},
		"another object's": nil,
	} {
		for range 8 {
			c := cachedOn(t, m, fs, "c", 10<<20)
			put(t, c, "k", data)
			put(t, c, "o", other)
			m.asked()
			file, from := c.path(nameOf("k")), c.path(nameOf("k"))
			if harm == nil {
				from = c.path(nameOf("o"))
			}
			b := contents(t, fs, from)
			if harm != nil {
				b = harm(b)
			}
			replace(t, fs, file, b)
			expect(t, c, "k", data)
			if m.asked() == 0 {
				t.Errorf("%s: it was believed", name)
			}
			expect(t, c, "k", data)
			c.settle()
			m.asked()
			expect(t, c, "k", data)
			if m.asked() != 0 {
				t.Errorf("%s: it does not come back", name)
			}
			if c.Counts().Damaged == 0 {
				t.Errorf("%s: not counted", name)
			}
			c.Close()
			if harm == nil {
				break
			}
		}
	}
}

func contents(t testing.TB, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func replace(t testing.TB, fs vfs.FS, name string, b []byte) {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err == nil {
		_, err = f.Write(b)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestCacheBehindBreaks: a body that breaks off on its way into the folder is read on from behind, and
// is not kept.
func TestCacheBehindBreaks(t *testing.T) {
	m := newMemory()
	data := text(1, 300_000)
	m.data["k"] = data
	m.slow = make(chan struct{})
	c := cachedOn(t, m, vfs.NewMem(), "c", 10<<20)
	r, err := c.Open(t.Context(), "k", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := make([]byte, 100_000)
	if _, err := io.ReadFull(r, got); err != nil {
		t.Fatal(err)
	}
	m.fail.Store(true)
	close(m.slow)
	c.settle()
	m.fail.Store(false)
	rest, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(append(got, rest...), data) {
		t.Errorf("%d bytes, %v", len(got)+len(rest), err)
	}
	if n := c.Counts().Files; n != 0 {
		t.Error("half an object was kept")
	}
	c.sound(t)
	// Who gives up does not wait for it.
	m.slow = make(chan struct{})
	defer close(m.slow)
	ctx, cancel := context.WithCancel(t.Context())
	if r, err = c.Open(ctx, "k", 200_000, -1); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cancel()
	if _, err := r.Read(got); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// full is a disk that has no more room from a moment on.
type full struct {
	vfs.FS
	room *atomic.Int64
}

type fullFile struct {
	vfs.File
	room *atomic.Int64
}

func (f full) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if f.room.Load() <= 0 {
		return nil, syscall.ENOSPC
	}
	file, err := f.FS.Create(name, c)
	return fullFile{file, f.room}, err
}

func (f fullFile) Write(p []byte) (int, error) {
	if f.room.Add(-int64(len(p))) < 0 {
		n, _ := f.File.Write(p[:len(p)/2])
		return n, syscall.ENOSPC
	}
	return f.File.Write(p)
}

// TestCacheDiskFull: a full disk harms nothing that is put or read, wherever it fills up; the cache
// gives room back and rests.
func TestCacheDiskFull(t *testing.T) {
	for _, room := range []int64{0, 1000, 70_000, 200_000, 450_000} {
		m, disk := newMemory(), full{vfs.NewMem(), new(atomic.Int64)}
		disk.room.Store(1 << 40)
		c := cachedOn(t, m, disk, "c", 10<<20)
		for i := range 20 {
			put(t, c, fmt.Sprint("old", i), text(i, 50_000))
		}
		disk.room.Store(room)
		data := text(1, 400_000)
		put(t, c, "put", data)
		if got := m.data["put"]; !bytes.Equal(got, data) {
			t.Errorf("%d bytes arrived", len(got))
		}
		m.data["read"] = data
		expect(t, c, "read", data)
		expect(t, c, "put", data)
		c.sound(t)
		if n := c.Counts().Files; n >= 20 || n < 10 {
			t.Errorf("with %d bytes: %d of 20 files are left", room, n)
		}
		disk.room.Store(1 << 40)
		put(t, c, "again", data)
		c.sound(t)
		m.asked()
		expect(t, c, "again", data)
		if m.asked() != 1 {
			t.Error("it does not rest")
		}
	}
}

// TestCachePowerCut: whatever of the folder survives a cut of the power, nothing false is read.
func TestCachePowerCut(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 12 {
		m, fs := newMemory(), vfs.NewCrashableMem()
		c := cachedOn(t, m, fs, "c", 4<<20)
		var keys []string
		for i := range 10 {
			key := fmt.Sprint(i)
			put(t, c, key, text(i, 10_000+40_000*i))
			keys = append(keys, key)
		}
		after := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: random.IntN(101), RNG: random})
		c = cachedOn(t, m, after, "c", 4<<20)
		for i, key := range keys {
			expect(t, c, key, text(i, 10_000+40_000*i))
		}
		c.settle()
	}
}

// TestCacheKilled: a process that fills a cache is killed again and again; the next one
// believes nothing false, and the limit holds.
func TestCacheKilled(t *testing.T) {
	dir, limit := t.TempDir(), int64(3<<20)
	if at := os.Getenv("MARTLET_TEST_CACHE"); at != "" {
		m := newMemory()
		c := cachedOn(t, m, vfs.Default, at, limit)
		fmt.Println("begins")
		for i := 0; ; i++ {
			m.data = map[string][]byte{fmt.Sprint("read", i%50): text(i%50, 120_000)}
			put(t, c, fmt.Sprint("put", i%50), text(i%50, 150_000))
			expect(t, c, fmt.Sprint("read", i%50), text(i%50, 120_000))
		}
	}
	random := rand.New(rand.NewPCG(7, 8))
	found := int64(0)
	for range 8 {
		child := exec.Command(os.Args[0], "-test.run=^TestCacheKilled$")
		// What the child makes for itself, and cannot remove when it is killed, lies in dir too.
		child.Env = append(os.Environ(), "MARTLET_TEST_CACHE="+filepath.Join(dir, "c"), "TMPDIR="+dir)
		out, err := child.StdoutPipe()
		if err == nil {
			err = child.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadFull(out, make([]byte, len("begins\n")))
		time.Sleep(time.Duration(20+random.IntN(80)) * time.Millisecond)
		_ = child.Process.Kill()
		_ = child.Wait()
		c := cachedOn(t, newMemory(), vfs.Default, filepath.Join(dir, "c"), limit)
		c.sound(t)
		for i := range 50 {
			for kind, size := range map[string]int{"put": 150_000, "read": 120_000} {
				got, err := read(t.Context(), c, fmt.Sprint(kind, i), 0, -1)
				if err == nil && !bytes.Equal(got, text(i, size)) || err != nil && !fault.Is(err, fault.NotFound) {
					t.Errorf("%s%d: %d bytes, %v", kind, i, len(got), err)
				}
			}
		}
		found += c.Counts().Hits
		c.Close()
	}
	if found == 0 {
		t.Error("nothing was ever found in a folder that was left")
	}
}

// TestCacheRandom: puts, reads, removals and restarts from many goroutines.
func TestCacheRandom(t *testing.T) {
	m, fs := newMemory(), vfs.NewMem()
	c := cachedOn(t, m, fs, "c", 2<<20)
	size := func(i int) int { return i * i * 300 }
	for round := range 5 {
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				random := rand.New(rand.NewPCG(uint64(round), uint64(g)))
				for range 100 {
					i := random.IntN(30)
					key := fmt.Sprint(i)
					switch random.IntN(4) {
					case 0:
						put(t, c, key, text(i, size(i)))
					case 1:
						if err := c.Remove(t.Context(), key); err != nil {
							t.Error(err)
						}
					default:
						got, err := read(t.Context(), c, key, 0, -1)
						if err == nil && !bytes.Equal(got, text(i, size(i))) || err != nil && !fault.Is(err, fault.NotFound) {
							t.Errorf("%s: %d bytes, %v", key, len(got), err)
						}
					}
				}
			})
		}
		wg.Wait()
		c.sound(t)
		c.Close()
		c = cachedOn(t, m, fs, "c", 2<<20)
		c.sound(t)
	}
}

// TestCacheNoFolder: a folder that cannot be made is told when it is opened.
func TestCacheNoFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Cached(newMemory(), vfs.Default, filepath.Join(file, "c"), 1<<20, slog.New(slog.DiscardHandler))
	wantKind(t, "a folder in a file", err, fault.Unavailable)
	if err != nil && !strings.Contains(err.Error(), file) {
		t.Errorf("%v does not say which", err)
	}
}
