// Package pebble is the embedded engine: one directory, one log, on the LSM tree of
// github.com/cockroachdb/pebble.
//
// A commit of a shard and the blobs put before it lie in the same log, so that one
// disk sync, shared by all who wait, makes both durable. Blobs are cut into pieces
// that the tree keeps apart from its keys (value separation), so that compactions
// do not copy them.
//
// The package knows nothing of mail, does not compress blobs (the layer above does)
// and does not replicate.
package pebble

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	db "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// Options configure Open. The zero value is a good choice for a small server.
type Options struct {
	FS            vfs.FS           // where the files lie; nil is the operating system's
	CacheBytes    int64            // block cache; 0 is 32 MB
	MemTableBytes uint64           // one write buffer, of which there may be four; 0 is 64 MB
	Log           *slog.Logger     // nil discards
	Now           func() time.Time // time of a blob's Put; nil is time.Now
}

const (
	defaultCache    = 32 << 20
	defaultMemTable = 64 << 20
)

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = defaultCache
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = defaultMemTable
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Engine is an engine.Engine in one directory.
type Engine struct {
	opt    Options
	db     *db.DB
	lock   io.Closer
	gate   gate
	shards keyed[engine.Shard, shard]
	blobs  blobs
}

var _ engine.Engine = (*Engine)(nil)

// Open opens the engine in dir, making it if there is none. A directory that
// another process has open is Busy; one written by a newer version is Unsupported.
func Open(dir string, opt Options) (*Engine, error) {
	opt = opt.withDefaults()
	if err := opt.FS.MkdirAll(dir, 0o700); err != nil {
		return nil, fault.Wrap(fault.Unavailable, "cannot make the data directory", err)
	}
	lock, err := db.LockDirectory(dir, opt.FS)
	if err != nil {
		return nil, fault.Wrap(fault.Busy, "the data directory is in use by another process", err)
	}
	cache := db.NewCache(opt.CacheBytes)
	defer cache.Unref() // the database holds its own reference
	settings := settings(opt, cache)
	settings.Lock = lock
	d, err := db.Open(dir, settings)
	if err != nil {
		return nil, errors.Join(opening(err), lock.Close())
	}
	e := &Engine{opt: opt, db: d, lock: lock}
	e.blobs.e = e
	if err := e.checkFormat(); err != nil {
		return nil, errors.Join(err, d.Close(), lock.Close())
	}
	if err := e.blobs.dropPartial(); err != nil {
		return nil, errors.Join(err, d.Close(), lock.Close())
	}
	return e, nil
}

func opening(err error) error {
	if db.IsCorruptionError(err) {
		return fault.Wrap(fault.Corrupt, "the data directory is damaged", err)
	}
	return fault.Wrap(fault.Unavailable, "cannot open the data directory", err)
}

// separateFrom is the size from which a blob piece leaves the tree for a file of
// its own kind. Smaller ones are cheaper to move along than to look up.
const separateFrom = 512

func settings(opt Options, cache *db.Cache) *db.Options {
	o := &db.Options{
		FS:                          opt.FS,
		Cache:                       cache,
		MemTableSize:                opt.MemTableBytes,
		MemTableStopWritesThreshold: 4,
		FormatMajorVersion:          db.FormatValueSeparation,
		L0CompactionThreshold:       2,
		L0StopWritesThreshold:       1000, // reads get slower before writes stop
		LBaseMaxBytes:               64 << 20,
		MaxOpenFiles:                1000,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
		Logger:                      logger{opt.Log},
		WALBytesPerSync:             0,
	}
	o.Experimental.ValueSeparationPolicy = func() db.ValueSeparationPolicy {
		return db.ValueSeparationPolicy{
			Enabled:               true,
			MinimumSize:           separateFrom,
			MaxBlobReferenceDepth: 10,
			RewriteMinimumAge:     5 * time.Minute,
			TargetGarbageRatio:    0.25,
		}
	}
	// Records are small and rewritten often: they stay in the tree.
	o.Experimental.SpanPolicyFunc = db.MakeStaticSpanPolicyFunc(db.DefaultComparer.Compare,
		db.KeyRange{Start: []byte{spaceShards}, End: []byte{spaceShards + 1}},
		db.SpanPolicy{ValueStoragePolicy: db.ValueStorageLowReadLatency})
	o.ApplyCompressionSettings(func() db.DBCompressionSettings { return db.DBCompressionBalanced })
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		o.Levels[i].BlockSize = 16 << 10
	}
	return o
}

// The key spaces of the tree, by first byte.
const (
	spaceMeta    = 1 // "format" -> version
	spaceHeaders = 2 // name -> version, time, size
	spacePieces  = 3 // name, number of 4 bytes -> checksum, bytes
	spacePartial = 4 // name: a Put of several commits is under way
	spaceShards  = 5 // shard of 8 bytes, key -> value
)

// format is the version of the layout above.
const format = 1

func (e *Engine) checkFormat() error {
	key := append([]byte{spaceMeta}, "format"...)
	v, closer, err := e.db.Get(key)
	if errors.Is(err, db.ErrNotFound) {
		return e.failed(e.db.Set(key, []byte{format}, db.Sync))
	}
	if err != nil {
		return e.failed(err)
	}
	defer closer.Close()
	if len(v) != 1 || v[0] > format {
		return fault.Newf(fault.Unsupported, "the data directory was written by a newer version (format %x)", v)
	}
	return nil
}

// Blobs returns the blob store in the same directory.
func (e *Engine) Blobs() engine.Blobs { return &e.blobs }

// Size returns about how many bytes the directory occupies.
func (e *Engine) Size() int64 {
	if e.gate.enter() != nil {
		return 0
	}
	defer e.gate.leave()
	return int64(e.db.Metrics().DiskSpaceUsage())
}

// Close waits for calls under way, then releases the directory. A blob reader that
// is still open fails from then on.
func (e *Engine) Close() error {
	if !e.gate.close() {
		return nil
	}
	if err := errors.Join(e.db.Close(), e.lock.Close()); err != nil {
		return fault.Wrap(fault.Internal, "the data directory was not closed cleanly", err)
	}
	return nil
}

// failed gives an error of the database its kind.
func (e *Engine) failed(err error) error {
	var known *fault.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return err
	case db.IsCorruptionError(err):
		return fault.Wrap(fault.Corrupt, "stored data is damaged", err)
	case errors.Is(err, db.ErrClosed):
		return errClosed
	}
	return fault.Wrap(fault.Unavailable, "the disk cannot be read or written", err)
}

var errClosed = fault.New(fault.Closed, "the store is closed")

// gate lets calls in until it is closed, and Close out when the last has left.
type gate struct {
	mu     sync.Mutex
	inside int
	closed bool
	empty  *sync.Cond
}

func (g *gate) enter() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return errClosed
	}
	g.inside++
	return nil
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if g.inside == 0 && g.empty != nil {
		g.empty.Broadcast()
	}
}

// close tells whether this call is the one that closed the gate.
func (g *gate) close() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.closed = true
	g.empty = sync.NewCond(&g.mu)
	for g.inside > 0 {
		g.empty.Wait()
	}
	return true
}

// logger hands the database's messages to the log. It does not end the process.
type logger struct{ to *slog.Logger }

func (l logger) Infof(format string, args ...any)  { l.to.Debug(fmt.Sprintf(format, args...)) }
func (l logger) Errorf(format string, args ...any) { l.to.Error(fmt.Sprintf(format, args...)) }
func (l logger) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
