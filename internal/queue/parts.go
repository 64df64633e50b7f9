package queue

import (
	"cmp"
	"context"
	"slices"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// Several nodes work on a queue in parts: each takes mail into its own, and works it while it
// lives; then another does. A part is a shard, and all that is said of the queue holds in each.
// What is asked of the queue as a whole is asked of all parts, from any node.

// partShards is where the shards of the parts begin, but for the first.
const partShards engine.Shard = 1 << 16

// maxPart is the highest number of a part: identifiers have room for no more.
const maxPart = 1<<12 - 1

// PartShard returns the shard of a part. That of number 0 is the one that was there before
// there were parts.
func PartShard(part uint64) engine.Shard {
	if part == 0 {
		return store.QueueShard
	}
	return partShards + engine.Shard(part)
}

// PartOf returns the part that lies in a shard; ok is false if none does.
func PartOf(sh engine.Shard) (part uint64, ok bool) {
	if sh == store.QueueShard {
		return 0, true
	}
	return uint64(sh - partShards), sh > partShards && sh <= partShards+maxPart
}

// part returns the queue's part of a number.
func (q *Queue) partOf(part uint64) *Queue {
	f := q.front
	if part == f.part {
		return f
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.others[part]
	if p == nil {
		p = newPart(f.eng, f.store, f.opt, part)
		p.front = f
		f.others[part] = p
	}
	return p
}

// all returns the parts of the queue, this node's own first.
func (q *Queue) all(ctx context.Context) ([]*Queue, error) {
	f := q.front
	if f.opt.Parts == nil {
		return []*Queue{f}, nil
	}
	numbers, err := f.opt.Parts(ctx)
	if err != nil {
		return nil, err
	}
	parts := []*Queue{f}
	for _, n := range numbers {
		if n != f.part {
			parts = append(parts, q.partOf(n))
		}
	}
	return parts, nil
}

// at calls fn for the parts until one has the message: first for the one that its number
// speaks of. Those given out before there were parts speak of none.
func (q *Queue) at(ctx context.Context, id ID, fn func(*Queue) error) error {
	parts, err := q.all(ctx)
	if err != nil {
		return err
	}
	likely := uint64(id) >> partLow & maxPart
	slices.SortStableFunc(parts, func(a, b *Queue) int {
		return cmp.Compare(b2i(a.part != likely), b2i(b.part != likely))
	})
	for _, p := range parts {
		if err = fn(p); !fault.Is(err, fault.NotFound) {
			return err
		}
	}
	return err
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Identifiers of messages in a queue with parts: below the time there are the number of the
// part and a counter.
const (
	partLow = 8
	counted = 1<<partLow - 1
)

// partID is newID of a part: a counter of which the time is the upper bits, so that more than
// there is room for in a millisecond run ahead of it.
func (q *Queue) partID(now uint64) ID {
	for {
		was := q.seq.Load()
		next := was + 1
		if ahead := next >> partLow; ahead < now || ahead > now+uint64(stray.Milliseconds()) {
			next = now<<partLow | was&counted
		}
		if q.seq.CompareAndSwap(was, next) {
			return ID(next>>partLow<<20 | q.part<<partLow | next&counted)
		}
	}
}

// common is a context whose keyed entries go where every node puts them.
type common struct{}

// Common returns a context whose entries go into the part that all nodes know, so that their
// keys count whichever node queues them.
func Common(ctx context.Context) context.Context { return context.WithValue(ctx, common{}, true) }

// into returns the part that takes the entries of a context: what comes of work on a part
// goes into that one, where its keys are known.
func (q *Queue) into(ctx context.Context) *Queue {
	if d := dutyOf(ctx); d != nil && d.q.front == q.front {
		return d.q
	}
	if q.opt.Parts != nil && ctx.Value(common{}) != nil {
		return q.partOf(0)
	}
	if number, ok := ctx.Value(partKey{}).(uint64); ok && q.opt.Parts != nil && number <= maxPart {
		return q.partOf(number)
	}
	return q
}

// Blobs yields the body of every message in the queue; the store's sweep asks.
func (q *Queue) Blobs(ctx context.Context, yield func(mail.BlobRef)) error {
	parts, err := q.all(ctx)
	for _, p := range parts {
		if err == nil {
			err = p.blobs(ctx, yield)
		}
	}
	return err
}

// CountPart is Count of one part.
func (q *Queue) CountPart(ctx context.Context, part uint64) (Counts, error) {
	return q.partOf(part).count(ctx)
}

// Empty tells whether nothing lies in a part.
func (q *Queue) Empty(ctx context.Context, part uint64) (empty bool, err error) {
	err = q.eng.View(ctx, PartShard(part), func(r engine.Reader) error {
		empty = true
		return r.Scan([]byte{famMessage}, []byte{famMessage + 1}, false, func(_, _ []byte) bool { empty = false; return false })
	})
	return empty, err
}

// lister reads the messages of a part, a few at a time.
type lister struct {
	q     *Queue
	from  []byte // nil: at the end
	batch []Info
}

// first returns the next message, nil at the end.
func (l *lister) first(ctx context.Context, f Filter) (*Info, error) {
	for len(l.batch) == 0 && l.from != nil {
		next, err := l.q.messages(ctx, l.from, func(look look, m *message) error {
			d, err := l.q.details(look, m)
			if err == nil && m.open > 0 && f.match(d.Info) {
				l.batch = append(l.batch, d.Info)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		l.from = next
	}
	if len(l.batch) == 0 {
		return nil, nil
	}
	return &l.batch[0], nil
}

// List yields the messages that match, oldest first, until fn returns false. It
// reads a few at a time: fn may take its time, and sees what is there when its turn
// comes. Whether one is being sent is known of those that this node sends.
func (q *Queue) List(ctx context.Context, f Filter, fn func(Info) bool) error {
	parts, err := q.all(ctx)
	if err != nil {
		return err
	}
	var lists []*lister
	for _, p := range parts {
		lists = append(lists, &lister{q: p, from: []byte{famMessage}})
	}
	for {
		var least *lister
		for _, l := range lists {
			i, err := l.first(ctx, f)
			if err != nil {
				return err
			}
			if i != nil && (least == nil || i.ID < least.batch[0].ID) {
				least = l
			}
		}
		if least == nil {
			return nil
		}
		i := least.batch[0]
		least.batch = least.batch[1:]
		if !fn(i) {
			return nil
		}
	}
}
