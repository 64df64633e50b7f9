package backup

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Opened is a snapshot as an engine that cannot be written: what reads mail from an engine
// reads it from here. Close gives the repository free again.
type Opened struct {
	repo   *repository
	snap   *snapshot
	chunks *chunks
	mu     sync.Mutex
	trees  map[engine.Shard]*tree // of the last few shards
}

var _ engine.Engine = (*Opened)(nil)

// Open opens the newest snapshot of the repository in dir that is not after a time (zero:
// the newest). Faults: NotFound, Unsupported if it is of a later version of the program.
func Open(d Disk, dir string, at time.Time) (*Opened, error) {
	r, err := open(d, dir, toRead)
	if err != nil {
		return nil, err
	}
	s, err := r.at(at)
	if err != nil {
		r.close()
		return nil, err
	}
	return newOpened(r, s), nil
}

func newOpened(r *repository, s *snapshot) *Opened {
	return &Opened{repo: r, snap: s, chunks: newChunks(r), trees: map[engine.Shard]*tree{}}
}

// Info tells which snapshot it is.
func (o *Opened) Info() Snapshot { return o.snap.info() }

// Close releases the repository.
func (o *Opened) Close() error {
	o.repo.close()
	return nil
}

// keptTrees is how many lists of chunks are kept in memory.
const keptTrees = 8

func (o *Opened) tree(sh engine.Shard) (*tree, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if t := o.trees[sh]; t != nil {
		return t, nil
	}
	i, ok := slices.BinarySearchFunc(o.snap.shards, sh, func(s snapShard, sh engine.Shard) int { return cmp.Compare(s.Shard, sh) })
	if !ok {
		return &tree{}, nil
	}
	n, err := o.snap.shards[i].tree()
	if err != nil {
		return nil, err
	}
	t, err := o.repo.tree(n)
	if err != nil {
		return nil, err
	}
	if len(o.trees) >= keptTrees {
		clear(o.trees)
	}
	o.trees[sh] = t
	return t, nil
}

// View runs fn on the shard as it was.
func (o *Opened) View(ctx context.Context, sh engine.Shard, fn func(engine.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	t, err := o.tree(sh)
	if err != nil {
		return err
	}
	return fn(&reader{ctx: ctx, chunks: o.chunks, tree: t})
}

// Shards returns the shards that had a record.
func (o *Opened) Shards(ctx context.Context) ([]engine.Shard, error) {
	var list []engine.Shard
	for i := range o.snap.shards {
		if sh := &o.snap.shards[i]; sh.Records > 0 {
			list = append(list, sh.Shard)
		}
	}
	return list, ctx.Err()
}

// Update runs fn on a Writer that writes nothing: it fails once fn tries.
func (o *Opened) Update(ctx context.Context, sh engine.Shard, fn func(engine.Writer) error) error {
	var w unwritable
	err := o.View(ctx, sh, func(r engine.Reader) error {
		w.Reader = r
		return fn(&w)
	})
	return cmp.Or(err, w.err)
}

// unwritable is a Writer that refuses.
type unwritable struct {
	engine.Reader
	err error
}

func (w *unwritable) refuse() error {
	w.err = fault.New(fault.Unsupported, "a backup cannot be changed")
	return w.err
}

func (w *unwritable) Put(_, _ []byte) error         { return w.refuse() }
func (w *unwritable) Delete([]byte) error           { return w.refuse() }
func (w *unwritable) DeleteRange(_, _ []byte) error { return w.refuse() }

// Watch returns a channel that never ticks.
func (o *Opened) Watch(engine.Shard) (<-chan struct{}, func()) {
	return make(chan struct{}), func() {}
}

// Size returns what all packs take.
func (o *Opened) Size() int64 { return 0 }

// Blobs returns the bodies of the repository, of other snapshots, too.
func (o *Opened) Blobs() engine.Blobs { return bodies{o.repo} }

// reader reads one shard of a snapshot.
type reader struct {
	ctx    context.Context
	chunks *chunks
	tree   *tree
}

// find returns the chunk that a key lies in, if anywhere.
func (r *reader) find(key []byte) int {
	return sort.Search(len(r.tree.chunks), func(i int) bool { return bytes.Compare(r.tree.chunks[i].first, key) > 0 }) - 1
}

// Get returns the value of a key.
func (r *reader) Get(key []byte) ([]byte, bool, error) {
	i := r.find(key)
	if i < 0 {
		return nil, false, nil
	}
	c, err := r.chunks.get(r.tree.chunks[i].name)
	if err != nil {
		return nil, false, err
	}
	at, ok := c.find(key)
	if !ok {
		return nil, false, nil
	}
	return c.entries[at].value, true, nil
}

// Scan yields the keys in [from, to).
func (r *reader) Scan(from, to []byte, reverse bool, fn func(key, value []byte) bool) error {
	first, last := max(r.find(from), 0), len(r.tree.chunks)-1
	if to != nil {
		last = r.find(to)
	}
	for n := range last - first + 1 {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		at := first + n
		if reverse {
			at = last - n
		}
		c, err := r.chunks.get(r.tree.chunks[at].name)
		if err != nil {
			return err
		}
		if !c.scan(from, to, reverse, fn) {
			return nil
		}
	}
	return nil
}

// chunks keeps the last few chunks in memory, uncompressed.
type chunks struct {
	repo *repository
	mu   sync.Mutex
	kept map[name]*loaded
	age  []name
}

const keptChunks = 32

// loaded is a chunk in memory.
type loaded struct {
	bodies  []name
	entries []entry
}

func newChunks(r *repository) *chunks { return &chunks{repo: r, kept: map[name]*loaded{}} }

func (c *chunks) get(n name) (*loaded, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o := c.kept[n]; o != nil {
		return o, nil
	}
	o := &loaded{}
	var err error
	if o.bodies, o.entries, err = c.repo.chunk(n); err != nil {
		return nil, err
	}
	if len(c.age) >= keptChunks {
		delete(c.kept, c.age[0])
		c.age = append(c.age[:0], c.age[1:]...)
	}
	c.kept[n], c.age = o, append(c.age, n)
	return o, nil
}

func (o *loaded) find(key []byte) (int, bool) {
	return slices.BinarySearchFunc(o.entries, key, func(e entry, key []byte) int { return bytes.Compare(e.key, key) })
}

func (o *loaded) scan(from, to []byte, reverse bool, fn func(key, value []byte) bool) bool {
	lo, _ := o.find(from)
	hi := len(o.entries)
	if to != nil {
		hi, _ = o.find(to)
	}
	part := o.entries[lo:max(lo, hi)]
	for i := range part {
		e := part[i]
		if reverse {
			e = part[len(part)-1-i]
		}
		if !fn(e.key, e.value) {
			return false
		}
	}
	return true
}

// bodies are those of a repository, as an engine has them.
type bodies struct{ repo *repository }

var _ engine.Blobs = bodies{}

// Open returns bytes of a body. Of one read whole the checksum is looked at, too; the
// record layer has its own for each part.
func (b bodies) Open(ctx context.Context, body mail.BlobRef, off, n int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	o := object{kindBody, body}
	all := b.repo.copies(o)
	if len(all) == 0 {
		return nil, fault.Newf(fault.NotFound, "the backup lacks the %s", o)
	}
	s := all[0]
	for _, other := range all[1:] { // the first is damaged, or there would be no other
		if b.repo.check(s) == nil {
			break
		}
		s = other
	}
	if off < 0 || off > s.size || n > s.size-off {
		return nil, fault.New(fault.Invalid, "the range lies outside the body")
	}
	if n < 0 {
		n = s.size - off
	}
	return b.repo.section(s, off, n)
}

// Needs yields the bodies that need others.
func (b bodies) Needs(ctx context.Context, fn func(mail.BlobRef, time.Time, []mail.BlobRef) bool) error {
	for body, needs := range b.repo.needs {
		if !fn(body, time.Time{}, needs) {
			break
		}
	}
	return ctx.Err()
}

// List yields all bodies.
func (b bodies) List(ctx context.Context, fn func(mail.BlobRef, time.Time, int64) bool) error {
	for o, s := range b.repo.index {
		if o.kind == kindBody && !fn(o.name, time.Time{}, s.size) {
			break
		}
	}
	return ctx.Err()
}

// Put is refused.
func (b bodies) Put(context.Context, mail.BlobRef, int64, io.Reader, ...mail.BlobRef) error {
	return new(unwritable).refuse()
}

// Delete is refused.
func (b bodies) Delete(context.Context, mail.BlobRef, time.Time) (bool, error) {
	return false, new(unwritable).refuse()
}
