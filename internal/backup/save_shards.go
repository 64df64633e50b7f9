package backup

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"slices"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/record"
	"github.com/martlet-mail/martlet/internal/store"
)

// form is what must be known of the records of a shard. A nil function is one that says no.
type form struct {
	skip    func(key []byte) bool // it need not be kept
	bodyOf  func(key, value []byte) (body name, message bool, err error)
	sealing func(key, value []byte) record.Sealing
	also    func(engine.Reader) error // reads the same moment
}

var (
	plain    = form{}
	ofQueue  = form{bodyOf: queue.BodyOf, sealing: queue.Sealing}
	ofPeople = form{skip: store.Derived, bodyOf: store.BodyOf, sealing: store.Sealing}
)

// shard saves one shard as of now.
func (s *saver) shard(ctx context.Context, sh engine.Shard, f form) error {
	var t *tree
	out := snapShard{Shard: sh}
	s.spoilt = nil
	err := s.house.Engine.View(ctx, sh, func(r engine.Reader) (err error) {
		if _, ok := out.account(); ok {
			b, err := store.Sign(r.Scan)
			if err != nil {
				return err
			}
			out.Sign = hex.EncodeToString(b[:])
		}
		if t, err = s.cut(r, f); err == nil && f.also != nil {
			err = f.also(r)
		}
		return err
	})
	if err != nil {
		return err
	}
	s.tellSpoilt(ctx, sh)
	n, err := s.putZipped(kindTree, t.encode())
	if err != nil {
		return err
	}
	out.Tree = n.String()
	out.Records, out.Messages, out.Bytes = t.records, t.messages, t.bytes
	s.snap.shards = append(s.snap.shards, out)
	return nil
}

// linksShard is where the rules of links are, and what signs in for them, sealed by a key of
// the directory (internal/move/link).
const linksShard engine.Shard = 6

// nodesShard is where nodes that share a store know each other: a part of the queue belongs to
// each number that they ever had (internal/node).
const nodesShard engine.Shard = 7

// queue saves all parts of the queue.
func (s *saver) queue(ctx context.Context) error {
	if err := s.shard(ctx, store.QueueShard, ofQueue); err != nil {
		return err
	}
	list, err := s.house.Engine.Shards(ctx)
	if err != nil {
		return err
	}
	for _, sh := range list {
		if _, ok := queue.PartOf(sh); ok && sh != store.QueueShard {
			s.parts = append(s.parts, sh)
			if err := s.shard(ctx, sh, ofQueue); err != nil {
				return err
			}
		}
	}
	return nil
}

// ifAny saves a shard, if it has records: versions that do not know it can read a snapshot
// without it.
func (s *saver) ifAny(ctx context.Context, shard engine.Shard) error {
	some := false
	err := s.house.Engine.View(ctx, shard, func(r engine.Reader) error {
		return r.Scan(nil, nil, false, func(_, _ []byte) bool { some = true; return false })
	})
	if err != nil || !some {
		return err
	}
	if err := s.shard(ctx, shard, plain); err != nil {
		return err
	}
	last := len(s.snap.shards) - 1
	at, _ := slices.BinarySearchFunc(s.snap.shards[:last], shard, func(sh snapShard, n engine.Shard) int { return cmp.Compare(sh.Shard, n) })
	s.snap.shards = slices.Insert(s.snap.shards[:last], at, s.snap.shards[last])
	return nil
}

// cut reads a shard and stores its chunks.
func (s *saver) cut(r engine.Reader, form form) (*tree, error) {
	t := &tree{}
	c := &s.chunk
	c.reset()
	var bad error
	seals := record.Checker{Sealing: form.sealing, Spoilt: func(key []byte) {
		s.spoilt = append(s.spoilt, spoilt{hex.EncodeToString(key), errSeal}) // it is stored as it is
	}}
	err := r.Scan(nil, nil, false, func(key, value []byte) bool {
		if form.skip != nil && form.skip(key) {
			return true
		}
		size := len(key) + len(value)
		if c.records > 0 && (begins(key, size) || c.size()+size > chunkMost) {
			if bad = s.endChunk(t); bad != nil {
				return false
			}
		}
		c.add(key, value)
		seals.Add(key, value)
		t.records++
		t.bytes += int64(size)
		bad = s.bodyOf(form, t, key, value)
		return bad == nil
	})
	seals.End()
	if err == nil {
		err = bad
	}
	if err == nil && c.records > 0 {
		err = s.endChunk(t)
	}
	return t, err
}

// bodyOf notes the body that a record names.
func (s *saver) bodyOf(f form, t *tree, key, value []byte) error {
	if f.bodyOf == nil {
		return nil
	}
	body, message, err := f.bodyOf(key, value)
	if fault.Is(err, fault.Corrupt) {
		s.spoilt = append(s.spoilt, spoilt{hex.EncodeToString(key), err}) // it is stored as it is
		err = nil
	}
	if message {
		t.messages++
	}
	if !body.IsZero() {
		s.chunk.bodies = append(s.chunk.bodies, body)
		s.want(body)
	}
	return err
}

func (s *saver) endChunk(t *tree) error {
	s.raw = s.chunk.encode(s.raw[:0])
	n, err := s.putZipped(kindChunk, s.raw)
	t.chunks = append(t.chunks, leaf{n, bytes.Clone(s.chunk.first)})
	s.chunk.reset()
	return err
}
