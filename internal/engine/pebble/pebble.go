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
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	db "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// Options configure Open. FS and Now must be given; zero is a good choice of the rest for
// a small server.
type Options struct {
	FS            vfs.FS           // where the files lie
	CacheBytes    int64            // block cache; 0 is 32 MB
	OpenFiles     int              // to keep open at the most, about; 0 is 1000
	MemTableBytes uint64           // one write buffer, of which there may be three; 0 is 8 MB
	ReserveBytes  int64            // space to leave free; 0 is 32 MB and two write buffers, -1 none
	Writer        string           // what the folder is to say who wrote it, say a name and a version; "": martlet
	Log           *slog.Logger     // nil discards
	Now           func() time.Time // time of a blob's Put
	Mending       bool             // the caller mends the records of a repaired store: see BeginMending

	retry time.Duration // between two attempts at a full disk; 0 is a second
	brake time.Duration // after a read that failed; 0 is a tenth of a second
	rest  time.Duration // after the last commit, before tidying up, up to twice as long; 0 is two seconds

	// gather is twice the number of tables with a key that compactions wait for in L0;
	// 0 is 8. Each compaction merges them with all that is below, so it is to be worth it.
	gather int
}

const (
	defaultCache    = 32 << 20
	defaultMemTable = 8 << 20
	defaultFiles    = 1000
)

func (o Options) withDefaults() Options {
	if o.CacheBytes == 0 {
		o.CacheBytes = defaultCache
	}
	if o.Writer == "" {
		o.Writer = "martlet"
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = defaultMemTable
	}
	if o.ReserveBytes == 0 {
		o.ReserveBytes = 32<<20 + 2*int64(o.MemTableBytes)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.retry == 0 {
		o.retry = time.Second
	}
	if o.brake == 0 {
		o.brake = 100 * time.Millisecond
	}
	if o.gather == 0 {
		o.gather = 8
	}
	if o.rest == 0 {
		o.rest = 2 * time.Second
	}
	return o
}

// Engine is an engine.Engine in one directory.
type Engine struct {
	opt     Options
	dir     string
	disk    *disk
	db      *db.DB
	gate    gate           // calls
	commits sync.WaitGroup // commits on their way, which may outlive their calls
	shards  keyed[engine.Shard, shard]
	blobs   blobs
	rest    rest
	life    context.Context // ends at Close
	end     context.CancelFunc
}

var _ engine.Engine = (*Engine)(nil)

// Open opens the engine in dir, making it if there is none. A directory that
// another process has open is Busy; one written by a newer version is Unsupported.
func Open(dir string, opt Options) (*Engine, error) {
	opt = opt.withDefaults()
	e := &Engine{opt: opt, dir: dir, disk: newDisk(dir, opt)}
	e.blobs.e = e
	e.life, e.end = context.WithCancel(context.Background())
	opened := make(chan error, 1)
	go func() { opened <- e.open() }()
	var err error
	select {
	case err = <-opened:
	case <-e.disk.stop():
		err = cmp.Or(e.disk.lacking(), error(errFull))
	}
	if f := e.disk.failed.Load(); f != nil {
		err = f.cause
	}
	if err != nil {
		return nil, errors.Join(e.opening(err), e.disk.abandon())
	}
	return e, nil
}

// open opens the database. On a disk that fails it may never return.
func (e *Engine) open() error {
	// Write buffers are counted against the cache: without room for the one in use and
	// the one being flushed, a small cache would hold nothing but them.
	cache := db.NewCache(e.opt.CacheBytes + 2*int64(e.opt.MemTableBytes))
	defer cache.Unref() // the database holds its own reference
	settings := e.settings(cache)
	if err := e.checkFiles(settings); err != nil {
		return err
	}
	d, err := db.Open(e.dir, settings)
	if err != nil {
		return err
	}
	e.db = d
	e.disk.witnessed(e.disk.witness.beginSums)
	err = e.checkFormat()
	if err == nil {
		err = e.blobs.dropPartial()
	}
	if err != nil {
		err = errors.Join(err, d.Close())
	}
	return err
}

// checkFiles locks a folder that is there and holds its files against what the witness
// knows, before the database changes anything.
func (e *Engine) checkFiles(settings *db.Options) (err error) {
	if unfinished(e.opt.FS, e.dir) {
		return errUnfinished
	}
	if _, err := e.disk.Stat(e.dir); err != nil {
		return nil // there is none, or the database will say what is wrong
	}
	if settings.Lock, err = db.LockDirectory(e.dir, e.disk); err != nil { // abandon gives it back
		return err
	}
	if err := mayRead(e.disk.FS, e.dir); err != nil {
		return err
	}
	if _, ok := marked(e.opt.FS, e.dir); ok && !e.opt.Mending {
		return errUnfinished
	}
	if err := e.disk.witness.checkBefore(); err != nil {
		return err
	}
	aside, err := e.disk.witness.setAside()
	for _, name := range aside {
		e.opt.Log.Error("a file of the store was damaged and has been renamed; it is not needed", "file", name, "to", "damaged-"+name)
	}
	if err != nil {
		return err
	}
	e.disk.witnessed(e.disk.witness.begin)
	return e.mendEnds(e.life, false)
}

var errUnfinished = fault.New(fault.Corrupt, "a repair of the store was cut short; run martlet verify --repair again")

// foundDamage is told of each block that fails its checksum. Whoever asked for it gets an
// error that says so; everything else is still of use.
func (e *Engine) foundDamage(info db.DataCorruptionInfo) {
	e.opt.Log.Error("a file of the store is damaged; run martlet verify", "file", info.Path, "cause", info.Details)
}

// opening gives an error of the database's Open its kind.
func (e *Engine) opening(err error) error {
	var known *fault.Error
	switch {
	case errors.As(err, &known):
		return err
	case e.disk.inUse():
		return fault.Wrap(fault.Busy, "the data directory is in use by another process", err)
	case strings.Contains(err.Error(), "format major version"):
		return fault.Wrap(fault.Unsupported, "the data directory was written by a newer version", err)
	case db.IsCorruptionError(err), strings.Contains(err.Error(), "object size mismatch"), strings.Contains(err.Error(), "unknown to the objstorage provider"):
		return fault.Wrap(fault.Corrupt, "the data directory is damaged", err)
	}
	return fault.Wrap(fault.Unavailable, "cannot open the data directory", err)
}

// separateFrom is the size from which a blob piece leaves the tree for a file of
// its own kind. Smaller ones are cheaper to move along than to look up.
const separateFrom = 512

func (e *Engine) settings(cache *db.Cache) *db.Options {
	o := &db.Options{
		FS:                          e.disk,
		Cache:                       cache,
		MemTableSize:                e.opt.MemTableBytes,
		MemTableStopWritesThreshold: 3,
		FormatMajorVersion:          db.FormatValueSeparation,
		L0CompactionThreshold:       e.opt.gather,
		L0StopWritesThreshold:       1000, // reads get slower before writes stop
		LBaseMaxBytes:               64 << 20,
		MaxOpenFiles:                cmp.Or(e.opt.OpenFiles, defaultFiles),
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
		Logger:                      logger{e.disk},
		EventListener:               &db.EventListener{WALCreated: e.logCreated, DataCorruption: e.foundDamage},

		WALBytesPerSync: 0,
	}
	o.Experimental.ValueSeparationPolicy = func() db.ValueSeparationPolicy {
		return db.ValueSeparationPolicy{
			Enabled:               true,
			MinimumSize:           separateFrom,
			MaxBlobReferenceDepth: 1000,
			RewriteMinimumAge:     5 * time.Minute,
			TargetGarbageRatio:    0.25,
		}
	}
	// Records are small and rewritten often: they stay in the tree.
	o.Experimental.SpanPolicyFunc = db.MakeStaticSpanPolicyFunc(db.DefaultComparer.Compare,
		db.KeyRange{Start: []byte{spaceShards}, End: []byte{spaceShards + 1}},
		db.SpanPolicy{ValueStoragePolicy: db.ValueStorageLowReadLatency})
	o.TargetFileSizes[0] = 32 << 20 // so that a flush makes one blob file
	for i := range o.TargetFileSizes[1:] {
		o.TargetFileSizes[i+1] = 8 << 20 // mail comes at the end of few ranges; all else stays
	}
	for i := range o.Levels {
		o.Levels[i].Compression = func() *block.CompressionProfile { return compression(i) }
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		o.Levels[i].BlockSize = 16 << 10
	}
	return o
}

// compression returns the profile of a level: records by zstd where most of them
// come to rest and by something faster above; blobs come compressed as well as they
// can be, so they are stored as they are.
func compression(level int) *block.CompressionProfile {
	p := *block.FastestCompression
	if level >= 5 {
		p = *block.BalancedCompression
	}
	p.Name = fmt.Sprintf("martlet-%d", level)
	p.ValueBlocks = block.NoCompression.ValueBlocks
	p.AdaptiveReductionCutoffPercent = 0 // would try value blocks all the same
	return &p
}

// The key spaces of the tree, by first byte.
const (
	spaceMeta    = 1 // "format" -> version
	spaceHeaders = 2 // name -> version, time, size, names of blobs it needs, checksum
	spacePieces  = 3 // name, number of 4 bytes -> checksum, bytes
	spacePartial = 4 // name: a Put of several commits is under way
	spaceShards  = 5 // shard of 8 bytes, key -> value
)

// Blobs returns the blob store in the same directory.
func (e *Engine) Blobs() engine.Blobs { return &e.blobs }

// Size returns about how many bytes the directory occupies, or 0 if the database cannot
// tell since it waits for the disk.
func (e *Engine) Size() int64 {
	if e.gate.enter() != nil {
		return 0
	}
	defer e.gate.leave()
	size := make(chan uint64, 1)
	e.commits.Add(1)
	go func() {
		defer e.commits.Done()
		size <- e.db.Metrics().DiskSpaceUsage()
	}()
	select {
	case n := <-size:
		return int64(n)
	case <-e.disk.stop():
		return 0
	}
}

// Healthy returns nil, or why the engine has stopped writing.
func (e *Engine) Healthy() error {
	return e.disk.check(e.dir, e.opt.Now(), e.reserve()/updateShare)
}

// Failed returns a channel that is closed when the disk has failed in such a way that
// nothing will be written before the engine is opened again. A full disk is none.
func (e *Engine) Failed() <-chan struct{} { return e.disk.dead }

// ReadFailures returns how many reads of files have failed. They end with the calls that
// needed them; nothing else stops.
func (e *Engine) ReadFailures() int64 { return e.disk.unread.Load() }

// reserve is the space that a blob may not use up. Updates may go further, so that
// mail can still be read and deleted when none can be taken in.
func (e *Engine) reserve() uint64 { return uint64(max(0, e.opt.ReserveBytes)) }

// An Update needs the reserve divided by one of these.
const (
	updateShare  = 2
	freeingShare = 8 // if it makes room
)

// room tells whether there is enough for an Update.
func (e *Engine) room(ctx context.Context) error {
	share := uint64(updateShare)
	if engine.IsFreeing(ctx) {
		share = freeingShare
	}
	return e.disk.check(e.dir, e.opt.Now(), e.reserve()/share)
}

// Close waits for calls under way, then releases the directory. A blob reader that
// is still open fails from then on. After a disk failure it does not wait for what
// may never end, and what was on its way is lost as in a power cut.
func (e *Engine) Close() error {
	if !e.gate.close() {
		return nil
	}
	return e.release()
}

func (e *Engine) release() error {
	e.end()
	close(e.disk.quit)
	closed := make(chan error, 1)
	go func() {
		e.commits.Wait()
		if e.disk.failed.Load() == nil {
			closed <- e.protect(func() error {
				err := e.db.Close()
				e.disk.witnessed(e.disk.witness.rest)
				return err
			})
		}
	}()
	var err error
	select {
	case err = <-closed:
	case <-e.disk.stop():
	}
	if err = errors.Join(err, e.disk.abandon()); err != nil {
		return fault.Wrap(fault.Unavailable, "the data directory was not closed cleanly", err)
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

// logger hands the database's messages to the log. What the database would end the
// process for stops all writing instead.
type logger struct{ disk *disk }

func (l logger) Infof(format string, args ...any)  { l.disk.log.Debug(fmt.Sprintf(format, args...)) }
func (l logger) Errorf(format string, args ...any) { l.disk.log.Error(fmt.Sprintf(format, args...)) }
func (l logger) Fatalf(format string, args ...any) { l.disk.fail(fmt.Errorf(format, args...)) }
