package pebble

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"

	db "github.com/cockroachdb/pebble/v2"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/turn"
)

// shard is what the engine keeps of a shard while it is in use.
type shard struct {
	// last is the newest commit of the shard, set before it can be seen. The log is
	// in order, so when it is durable, every older one is.
	last atomic.Pointer[commit]

	mu       sync.Mutex
	watchers map[chan struct{}]struct{}
}

// commit is a batch on its way to the disk. done is closed when it is there or
// never will be; err is set before.
type commit struct {
	done chan struct{}
	err  error
}

// View runs fn on a snapshot of the shard and waits until what it saw is durable.
func (e *Engine) View(ctx context.Context, id engine.Shard, fn func(engine.Reader) error) error {
	if err := e.gate.enter(); err != nil {
		return err
	}
	defer e.gate.leave()
	if err := ctx.Err(); err != nil {
		return err
	}
	pending, err := e.read(ctx, id, fn)
	return cmp.Or(e.settled(ctx, pending), err) // fn may have failed of what it has read
}

// read runs fn and returns the newest commit that it may have seen.
func (e *Engine) read(ctx context.Context, id engine.Shard, fn func(engine.Reader) error) (seen *commit, err error) {
	prefix := shardPrefix(id)
	it, err := e.db.NewIter(bounded(prefix, engine.After(prefix)))
	if err != nil {
		return nil, e.failed(err)
	}
	defer func() {
		if closing := it.Close(); err == nil {
			err = e.failed(closing)
		}
	}()
	seen = e.pending(id) // after the iterator: whatever it can see is in here
	return seen, fn(&reader{e: e, ctx: ctx, from: moment{it}, prefix: prefix})
}

// pending returns the newest commit of the shard if it may not be durable yet.
func (e *Engine) pending(id engine.Shard) *commit {
	s := e.shards.peek(id)
	if s == nil {
		return nil
	}
	defer e.shards.put(id, s)
	return s.value.last.Load()
}

// settled waits until what was read is durable.
func (e *Engine) settled(ctx context.Context, c *commit) error {
	if c == nil {
		return nil
	}
	select {
	case <-c.done:
	default:
		work := turn.Of(ctx)
		work.Rest()
		defer work.Return() // at once: the caller may hold a lock
		select {
		case <-c.done:
		case <-ctx.Done():
			return ctx.Err()
		case <-e.disk.stop():
			return errStopped
		}
	}
	if c.err != nil {
		return fault.Wrap(fault.Unavailable, "what was read is not safely on disk", c.err)
	}
	return nil
}

var errStopped = fault.New(fault.Unavailable, "the disk cannot be written")

// Update runs fn alone on the shard and returns when what it wrote is durable. Once
// the commit is on its way the end of ctx no longer cuts the wait short; only a
// disk that is full or has failed does.
func (e *Engine) Update(ctx context.Context, id engine.Shard, fn func(engine.Writer) error) error {
	if err := e.gate.enter(); err != nil {
		return err
	}
	defer e.gate.leave()
	if err := e.room(ctx); err != nil {
		return err
	}
	s := e.shards.get(id)
	if err := s.acquire(ctx, e.disk.stop()); err != nil {
		e.shards.put(id, s)
		return err
	}
	handed := false
	free := func() {
		if !handed {
			handed = true
			s.release()
			e.shards.put(id, s)
		}
	}
	defer free() // also when fn panics
	batch, err := e.fill(ctx, id, fn)
	if err != nil || batch.Empty() {
		seen := s.value.last.Load()
		free()
		return cmp.Or(e.settled(ctx, seen), err) // fn may have failed of what it has read
	}
	handed = true
	c := &commit{done: make(chan struct{})}
	s.value.last.Store(c)
	e.commits.Add(1)
	go e.carry(id, s, c, batch)
	work := turn.Of(ctx) // others may work while this one waits for the disk
	work.Rest()
	defer work.Return() // at once: the caller may hold a lock
	select {
	case <-c.done:
	case <-e.disk.stop():
		return errUnknown
	}
	if c.err != nil {
		return fault.Wrap(fault.Unknown, errUnknown.Say, c.err)
	}
	return nil
}

var errUnknown = fault.New(fault.Unknown, "the change may or may not be on disk")

// fill runs fn on a new batch.
func (e *Engine) fill(ctx context.Context, id engine.Shard, fn func(engine.Writer) error) (batch *db.Batch, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	batch = e.db.NewIndexedBatch()
	prefix := shardPrefix(id)
	from := &own{batch: batch, opts: bounded(prefix, engine.After(prefix))}
	good := false
	defer func() { // also when fn panics
		if closing := from.close(); err == nil {
			err = e.failed(closing)
		}
		if !good || err != nil {
			_ = batch.Close() // nothing was written
		}
	}()
	w := &writer{reader: reader{e: e, ctx: ctx, from: from, prefix: prefix}, batch: batch}
	if err := fn(w); err != nil {
		return batch, err
	}
	good = true
	return batch, w.err // of a limit that fn did not heed
}

// carry brings a commit to the disk: it applies the batch, frees the shard, waits
// for the sync and tells who waits. It runs apart from the call, which a disk that
// hangs must not hold. A commit that failed is kept as the shard's last, so that
// nobody takes what it wrote for durable.
func (e *Engine) carry(id engine.Shard, s *entry[shard], c *commit, batch *db.Batch) {
	defer e.commits.Done()
	c.err = e.protect(func() error {
		if err := e.db.ApplyNoSyncWait(batch, db.Sync); err != nil {
			return err
		}
		s.release()
		return batch.SyncWait()
	})
	close(c.done)
	if c.err != nil {
		return
	}
	e.busy()
	s.value.tick()
	e.shards.put(id, s)
	_ = batch.Close() // goes back to a pool
}

// protect runs a write of the database and returns why it cannot be relied on. The
// database panics where it cannot go on writing.
func (e *Engine) protect(write func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the database gave up: %v", p)
		}
		if err != nil {
			e.disk.fail(err)
		}
		if f := e.disk.failed.Load(); f != nil {
			err = f.cause
		}
	}()
	return write()
}

// Watch returns a channel that ticks after each durable change of the shard.
func (e *Engine) Watch(id engine.Shard) (<-chan struct{}, func()) {
	ticks := make(chan struct{}, 1)
	s := e.shards.get(id)
	s.value.mu.Lock()
	if s.value.watchers == nil {
		s.value.watchers = map[chan struct{}]struct{}{}
	}
	s.value.watchers[ticks] = struct{}{}
	s.value.mu.Unlock()
	stop := func() {
		s.value.mu.Lock()
		delete(s.value.watchers, ticks)
		s.value.mu.Unlock()
		e.shards.put(id, s)
	}
	return ticks, sync.OnceFunc(stop)
}

func (s *shard) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.watchers {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func shardPrefix(id engine.Shard) []byte {
	return binary.BigEndian.AppendUint64([]byte{spaceShards}, uint64(id))
}
