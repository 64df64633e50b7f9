package s3

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/fault"
)

const (
	share     = 8           // an object that would take more than this part of the cache is not kept
	fillers   = 32          // objects that are brought down at the same time
	fullPause = time.Minute // without a new file after the disk was full
	temporary = "new-"      // what the names of files begin with that are not whole yet
)

// CacheCounts are how often something was done since Cached.
type CacheCounts struct {
	Hits, Misses int64 // of Open
	Dropped      int64 // files that gave way to others
	Damaged      int64 // files that failed their checksum
	Files, Bytes int64 // that are there now
}

// Cache keeps objects that were put or read lately in a folder of its own, whole. Nothing in
// it matters: what is torn by a kill, damaged, or does not fit on a full disk is read from
// behind it.
type Cache struct {
	objects Objects
	fs      vfs.FS
	dir     string
	limit   int64
	log     *slog.Logger

	life  context.Context
	end   context.CancelFunc
	fills sync.WaitGroup
	slots chan struct{}

	mu      sync.Mutex
	files   map[string]*list.Element // of *cached
	order   list.List                // the one used last in front
	used    int64                    // bytes of files, and of those under way
	filling map[string]*filling
	last    uint64 // number of a temporary file
	full    *time.Timer

	hits, misses, dropped, damaged atomic.Int64
}

type cached struct {
	name string
	size int64 // of the file
}

// Cached puts a cache in front of objects: a folder of fs, which is made if need be and which
// no other process uses, with files of no more than limit bytes together. It takes what an
// earlier run left there.
func Cached(objects Objects, fs vfs.FS, dir string, limit int64, log *slog.Logger) (*Cache, error) {
	c := &Cache{
		objects: objects, fs: fs, dir: dir, limit: limit, log: log,
		slots: make(chan struct{}, fillers), files: map[string]*list.Element{}, filling: map[string]*filling{},
	}
	c.life, c.end = context.WithCancel(context.Background())
	if err := c.load(); err != nil {
		c.end()
		return nil, fault.Wrap(fault.Unavailable, "the folder for cached objects, "+dir+", cannot be used", err)
	}
	return c, nil
}

// load takes over what is in the folder, the newest as the one used last.
func (c *Cache) load() error {
	if err := c.fs.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	names, err := c.fs.List(c.dir)
	if err != nil {
		return err
	}
	type found struct {
		cached
		at time.Time
	}
	var all []found
	for _, name := range names {
		if strings.HasPrefix(name, temporary) {
			_ = c.fs.Remove(c.path(name)) // else the next run does
			continue
		}
		info, err := c.fs.Stat(c.path(name))
		if err != nil || info.IsDir() || len(name) != nameLength {
			continue // not ours
		}
		all = append(all, found{cached{name, info.Size()}, info.ModTime()})
	}
	slices.SortFunc(all, func(a, b found) int { return a.at.Compare(b.at) })
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range all {
		c.add(f.name, f.size)
	}
	c.shrink(c.limit)
	return nil
}

func (c *Cache) path(name string) string { return c.fs.PathJoin(c.dir, name) }

const nameLength = 40

// nameOf is the file of a key.
func nameOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])[:nameLength]
}

// add, with the lock, makes a file known whose bytes are not counted yet.
func (c *Cache) add(name string, size int64) {
	if e, ok := c.files[name]; ok { // put twice: the later has replaced the earlier
		c.used -= e.Value.(*cached).size
		c.order.Remove(e)
	}
	c.files[name] = c.order.PushFront(&cached{name, size})
	c.used += size
}

// shrink, with the lock, removes files until no more than so many bytes are used, or none is left.
func (c *Cache) shrink(to int64) {
	for c.used > to {
		e := c.order.Back()
		if e == nil {
			return
		}
		c.dropped.Add(1)
		c.remove(e)
	}
}

func (c *Cache) remove(e *list.Element) {
	f := e.Value.(*cached)
	c.order.Remove(e)
	delete(c.files, f.name)
	c.used -= f.size
	if err := c.fs.Remove(c.path(f.name)); err != nil {
		c.log.Info("a cached object cannot be removed", "file", c.path(f.name), "err", err)
	}
}

// reserve makes room for a file.
func (c *Cache) reserve(size int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if size > c.limit/share || c.full != nil || c.life.Err() != nil {
		return false
	}
	c.shrink(c.limit - size)
	if c.used+size > c.limit {
		return false // all of it is under way
	}
	c.used += size
	return true
}

// temp, with the lock, draws a name for a file that is not whole yet.
func (c *Cache) temp() string {
	c.last++
	return temporary + strconv.FormatUint(c.last, 10)
}

// forget gives the room of a file back that has not come to be. A full disk gets some more.
func (c *Cache) forget(temp string, size int64, why error) {
	_ = c.fs.Remove(c.path(temp)) // it may not be there
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used -= size
	if why == nil || c.full != nil {
		return
	}
	c.log.Warn("an object cannot be cached; none is for a minute", "folder", c.dir, "err", why)
	c.shrink(c.used - c.used/4)
	c.full = time.AfterFunc(fullPause, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.full = nil
	})
}

// keep makes a finished temporary file the one of its key.
func (c *Cache) keep(temp, name string, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used -= size
	if err := c.fs.Rename(c.path(temp), c.path(name)); err != nil {
		c.log.Info("a cached object cannot be renamed", "file", c.path(name), "err", err)
		_ = c.fs.Remove(c.path(temp))
		return
	}
	c.add(name, size)
}

// Forget drops what is cached of a key: it is not what it should be.
func (c *Cache) Forget(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.files[nameOf(key)]; ok {
		c.damaged.Add(1)
		c.remove(e)
	}
}

// Put stores an object, and keeps it if the disk lets it.
func (c *Cache) Put(ctx context.Context, key string, size int64, r io.Reader) error {
	if size <= 0 || !c.reserve(fileSize(size)) {
		return c.objects.Put(ctx, key, size, r)
	}
	c.mu.Lock()
	temp := c.temp()
	c.mu.Unlock()
	w := newWriter(c.fs, c.path(temp), key)
	err := c.objects.Put(ctx, key, size, io.TeeReader(r, w))
	disk := w.err
	if finished := w.finish(size); err == nil {
		disk = finished
	}
	if err != nil || disk != nil {
		c.forget(temp, fileSize(size), disk)
		return err
	}
	c.keep(temp, nameOf(key), fileSize(size))
	return nil
}

// Open returns n bytes of an object from off on. One that is not here is brought here whole
// while it is read.
func (c *Cache) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if r, ok, err := c.here(ctx, key, off, n); ok || err != nil {
		if err == nil {
			c.hits.Add(1)
		}
		return r, err
	}
	c.misses.Add(1)
	if r, ok, err := c.fetch(ctx, key, off, n); ok || err != nil {
		return r, err
	}
	return c.objects.Open(ctx, key, off, n)
}

// here opens what is in the folder already.
func (c *Cache) here(ctx context.Context, key string, off, n int64) (io.ReadCloser, bool, error) {
	name := nameOf(key)
	c.mu.Lock()
	e, ok := c.files[name]
	if ok {
		c.order.MoveToFront(e)
	}
	c.mu.Unlock()
	if !ok {
		return nil, false, nil
	}
	f, err := c.fs.Open(c.path(name))
	if err != nil {
		c.Forget(key)
		return nil, false, nil
	}
	size, err := readTrailer(f, key)
	if err != nil {
		f.Close()
		c.Forget(key)
		return nil, false, nil
	}
	r, err := c.reader(ctx, key, f, size, off, n, nil)
	return r, err == nil, err
}

// Remove removes an object here and there.
func (c *Cache) Remove(ctx context.Context, key string) error {
	c.mu.Lock()
	if e, ok := c.files[nameOf(key)]; ok {
		c.remove(e)
	}
	c.mu.Unlock()
	return c.objects.Remove(ctx, key)
}

// List lists the objects behind the cache.
func (c *Cache) List(ctx context.Context, prefix string, fn func(key string, at time.Time, size int64) bool) error {
	return c.objects.List(ctx, prefix, fn)
}

// Abandon is that of the objects behind the cache, if they have one.
func (c *Cache) Abandon(ctx context.Context, before time.Time) (int, error) {
	if a, ok := c.objects.(interface {
		Abandon(context.Context, time.Time) (int, error)
	}); ok {
		return a.Abandon(ctx, before)
	}
	return 0, nil
}

// Counts returns what was done so far.
func (c *Cache) Counts() CacheCounts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return CacheCounts{
		Hits: c.hits.Load(), Misses: c.misses.Load(), Dropped: c.dropped.Load(), Damaged: c.damaged.Load(),
		Files: int64(c.order.Len()), Bytes: c.used,
	}
}

// Close ends what is being brought down. Open readers go on.
func (c *Cache) Close() error {
	c.mu.Lock()
	c.end()
	if c.full != nil {
		c.full.Stop()
	}
	c.mu.Unlock()
	c.fills.Wait()
	return nil
}
