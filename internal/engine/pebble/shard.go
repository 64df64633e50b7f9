package pebble

import (
	"context"
	"encoding/binary"
	"sync"
	"sync/atomic"

	db "github.com/cockroachdb/pebble/v2"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
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
	snap := e.db.NewSnapshot()
	pending := e.pending(id) // after the snapshot: whatever it can hold is in here
	err := fn(&reader{e: e, ctx: ctx, from: snap, prefix: shardPrefix(id)})
	if closing := snap.Close(); err == nil && closing != nil {
		err = e.failed(closing)
	}
	if err != nil || pending == nil {
		return err
	}
	select {
	case <-pending.done:
		if pending.err != nil {
			return fault.Wrap(fault.Unavailable, "what was read is not safely on disk", pending.err)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
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

// Update runs fn alone on the shard and returns when what it wrote is durable. Once
// the commit is on its way the end of ctx no longer cuts the wait short.
func (e *Engine) Update(ctx context.Context, id engine.Shard, fn func(engine.Writer) error) error {
	if err := e.gate.enter(); err != nil {
		return err
	}
	defer e.gate.leave()
	s := e.shards.get(id)
	defer e.shards.put(id, s)
	if err := s.acquire(ctx); err != nil {
		return err
	}
	batch := e.db.NewIndexedBatch()
	before := s.value.last.Load()
	c, err := e.apply(ctx, id, &s.value, batch, fn)
	s.release()
	if err != nil {
		return err
	}
	if c == nil {
		return e.settled(before, batch)
	}
	c.err = batch.SyncWait()
	close(c.done)
	if c.err != nil {
		return fault.Wrap(fault.Unknown, "the change may not be safely on disk", c.err)
	}
	s.value.tick()
	return e.failed(batch.Close())
}

// settled ends an Update that wrote nothing: what it read must be durable.
func (e *Engine) settled(before *commit, batch *db.Batch) error {
	if before != nil {
		<-before.done
		if before.err != nil {
			return fault.Wrap(fault.Unavailable, "what was read is not safely on disk", before.err)
		}
	}
	return e.failed(batch.Close())
}

// apply runs fn and hands its batch to the log without waiting. It returns nil if fn
// wrote nothing.
func (e *Engine) apply(ctx context.Context, id engine.Shard, s *shard, batch *db.Batch, fn func(engine.Writer) error) (*commit, error) {
	w := &writer{reader: reader{e: e, ctx: ctx, from: batch, prefix: shardPrefix(id)}, batch: batch}
	err := ctx.Err()
	if err == nil {
		err = fn(w)
	}
	if err == nil {
		err = w.err // a limit that fn did not heed
	}
	if err != nil {
		_ = batch.Close()
		return nil, err
	}
	if batch.Empty() {
		return nil, nil
	}
	c := &commit{done: make(chan struct{})}
	s.last.Store(c)
	if err := e.db.ApplyNoSyncWait(batch, db.Sync); err != nil {
		c.err = err
		close(c.done)
		return nil, fault.Wrap(fault.Unknown, "the change may not be on disk", err)
	}
	return c, nil
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
