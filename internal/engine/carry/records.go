package carry

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/martlet-mail/martlet/internal/engine"
)

const (
	chunkBytes = 2 << 20 // of keys and values that are read, or written, at a time; far below engine.MaxUpdate
	chunkKeys  = 10_000
)

// shards returns the shards of a side that are to be carried.
func (c *copying) shards(ctx context.Context, e engine.Engine, side string) ([]engine.Shard, error) {
	list, err := e.Shards(ctx)
	if err != nil {
		return nil, broken(err, side, "the list of shards")
	}
	return slices.DeleteFunc(list, func(s engine.Shard) bool {
		return s == Shard || c.opt.Leave != nil && c.opt.Leave(s)
	}), nil
}

// allShards returns the shards that either side has.
func (c *copying) allShards(ctx context.Context) ([]engine.Shard, error) {
	a, err := c.shards(ctx, c.from, source)
	if err != nil {
		return nil, err
	}
	b, err := c.shards(ctx, c.to, target)
	if err != nil {
		return nil, err
	}
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all), nil
}

type pair struct{ key, value []byte }

func comparePairs(a, b pair) int { return bytes.Compare(a.key, b.key) }

// edit is what is to be written to the target.
type edit struct {
	pair
	gone bool
}

// shard makes a shard of the target equal to that of the source, or counts how it differs.
func (c *copying) shard(ctx context.Context, p pass, s engine.Shard) error {
	from := &cursor{ctx: ctx, e: c.from, side: source, shard: s}
	to := &cursor{ctx: ctx, e: c.to, side: target, shard: s}
	out := &outlet{c: c, shard: s, idle: !p.mend}
	var keys, size int64
	count := func() {
		c.meter.count(func(at *Progress) { at.Keys += keys; at.Bytes += size })
		keys, size = 0, 0
	}
	for a, b := range merge(from.all, to.all, comparePairs) {
		if from.err != nil || to.err != nil {
			break // a side that broke off says nothing of what is missing
		}
		if a != nil {
			keys++
			if size += int64(len(a.key) + len(a.value)); size >= chunkBytes {
				count()
			}
		}
		switch {
		case a == nil:
			c.differs(s, b.key)
			out.add(ctx, edit{pair{key: b.key}, true})
		case b == nil || !bytes.Equal(a.value, b.value):
			if p.stage == Verifying || b != nil {
				c.differs(s, a.key)
			}
			out.add(ctx, edit{pair: *a})
		}
		if out.err != nil {
			return out.err
		}
	}
	if err := cmp.Or(from.err, to.err); err != nil {
		return err
	}
	if err := out.flush(ctx); err != nil {
		return err
	}
	count()
	c.meter.count(func(at *Progress) { at.Shards++ })
	return nil
}

func (c *copying) differs(s engine.Shard, key []byte) {
	c.meter.changed(fmt.Sprintf("key %x of shard %d", key, s))
}

// cursor reads a shard in chunks, so that neither a snapshot nor memory is held for long.
type cursor struct {
	ctx   context.Context
	e     engine.Engine
	side  string
	shard engine.Shard
	err   error
}

// all yields every key in order. What it yields stays valid.
func (r *cursor) all(yield func(pair) bool) {
	var from []byte
	for {
		chunk, more, err := r.chunk(from)
		if err != nil {
			r.err = broken(err, r.side, fmt.Sprintf("shard %d from key %x on", r.shard, from))
			return
		}
		for _, p := range chunk {
			if !yield(p) {
				return
			}
		}
		if !more {
			return
		}
		from = after(chunk[len(chunk)-1].key)
		if from == nil {
			return
		}
	}
}

// after returns the first key that may follow.
func after(key []byte) []byte {
	if len(key) < engine.MaxKey {
		return append(slices.Clone(key), 0)
	}
	return engine.After(key) // no key is longer
}

func (r *cursor) chunk(from []byte) (chunk []pair, more bool, err error) {
	err = r.e.View(r.ctx, r.shard, func(read engine.Reader) error {
		chunk, more = nil, false
		size := 0
		return read.Scan(from, nil, false, func(key, value []byte) bool {
			if size >= chunkBytes || len(chunk) >= chunkKeys {
				more = true
				return false
			}
			size += len(key) + len(value)
			both := append(append(make([]byte, 0, len(key)+len(value)), key...), value...)
			chunk = append(chunk, pair{both[:len(key):len(key)], both[len(key):]})
			return true
		})
	})
	return chunk, more, err
}

var _ iter.Seq[pair] = (*cursor)(nil).all

// outlet gathers changes and writes them in order.
type outlet struct {
	c     *copying
	shard engine.Shard
	idle  bool // writes nothing
	list  []edit
	size  int
	err   error
}

func (o *outlet) add(ctx context.Context, ch edit) {
	if o.idle {
		return
	}
	o.list = append(o.list, ch)
	if o.size += len(ch.key) + len(ch.value); o.size >= chunkBytes || len(o.list) >= chunkKeys {
		o.err = o.flush(ctx)
	}
}

func (o *outlet) flush(ctx context.Context) error {
	if len(o.list) == 0 {
		return nil
	}
	err := o.c.to.Update(ctx, o.shard, func(w engine.Writer) error {
		for _, ch := range o.list {
			if ch.gone {
				if err := w.Delete(ch.key); err != nil {
					return err
				}
			} else if err := w.Put(ch.key, ch.value); err != nil {
				return err
			}
		}
		return nil
	})
	o.list, o.size = nil, 0
	return broken(err, target, fmt.Sprintf("shard %d", o.shard))
}
