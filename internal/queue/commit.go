package queue

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/turn"
)

// batch is what one Update comes to besides its records: it is settled once, at the end.
type batch struct {
	q      *Queue
	now    int64
	lanes  map[string]*touch
	dests  map[string]*toll
	moved  bool // something was taken from among the due
	raises []raise
	counts counts // what is to be added to them

	bounced map[string][]byte // addresses that belong into the first part, by key
}

func (b *batch) lane(name string) *touch {
	to := b.lanes[name]
	if to == nil {
		to = &touch{}
		b.lanes[name] = to
	}
	return to
}

func (b *batch) dest(name string) *toll {
	to := b.dests[name]
	if to == nil {
		to = &toll{}
		b.dests[name] = to
	}
	return to
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// update changes the queue, and puts lanes and counts in order afterwards.
func (q *Queue) update(ctx context.Context, fn func(tx) error) error {
	var b *batch
	err := q.write(ctx, func(w engine.Writer) error {
		if q.shared && !q.follows.Load() {
			q.heads.forget() // of what others change nobody tells
		}
		b = &batch{q: q, now: q.now(), lanes: map[string]*touch{}, dests: map[string]*toll{}}
		t := tx{w, b}
		if err := fn(t); err != nil {
			return err
		}
		return t.settle()
	})
	if err == nil {
		for _, r := range b.raises {
			q.heads.apply(r)
		}
		q.noteElsewhere(ctx, b.bounced)
	}
	return err
}

// committer makes changes of many callers in one Update: those that come while one is on
// its way to the disk go together in the next. A change that fails takes none of the
// others with it.
type committer struct {
	q       *Queue
	mu      sync.Mutex
	waiting []*order
	busy    bool
}

// order is one change. fn may run more than once.
type order struct {
	ctx   context.Context // of whoever waits for it
	fn    func(tx) error
	bytes int // that it writes, about
	done  chan struct{}
	err   error
}

// Bounds of one Update.
const (
	maxOrders     = 100
	maxOrderBytes = 4 << 20
)

// do makes a change and returns when it is durable, or failed. The end of ctx ends the
// wait only while the change has not begun.
func (c *committer) do(ctx context.Context, bytes int, fn func(tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	o := &order{ctx: ctx, fn: fn, bytes: bytes, done: make(chan struct{})}
	c.mu.Lock()
	c.waiting = append(c.waiting, o)
	if !c.busy {
		c.busy = true
		go c.serve()
	}
	c.mu.Unlock()
	work := turn.Of(ctx) // others may work meanwhile
	work.Rest()
	defer work.Return()
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
	}
	c.mu.Lock()
	n := slices.Index(c.waiting, o)
	if n >= 0 {
		c.waiting = slices.Delete(c.waiting, n, n+1)
	}
	c.mu.Unlock()
	if n >= 0 {
		return ctx.Err()
	}
	<-o.done
	return o.err
}

// serve makes changes until none waits.
func (c *committer) serve() {
	for {
		c.mu.Lock()
		n, bytes := 0, 0
		for n < len(c.waiting) && n < maxOrders && (n == 0 || bytes+c.waiting[n].bytes <= maxOrderBytes) {
			bytes += c.waiting[n].bytes
			n++
		}
		if n == 0 {
			c.busy = false
			c.mu.Unlock()
			return
		}
		orders := slices.Clone(c.waiting[:n])
		c.waiting = slices.Delete(c.waiting, 0, n)
		c.mu.Unlock()
		c.together(orders)
	}
}

// together makes changes. One that others fail by is tried once more for itself: it may have been
// their doing. Nobody waits once more for an engine that has just been waited for, nor is anything
// made for somebody who is gone.
func (c *committer) together(orders []*order) {
	alone, err := c.most(orders)
	for _, o := range alone {
		switch gone := o.ctx.Err(); {
		case gone != nil:
			o.end(gone)
		case unreached(err):
			o.end(err)
		default:
			_, err = c.try([]*order{o})
			o.end(err)
		}
	}
}

// most makes changes in one Update, without those that fail by themselves. It returns these, of
// which nothing is written, or all if nobody can say which they are. A failure of the engine is
// everybody's.
func (c *committer) most(orders []*order) (alone []*order, err error) {
	for {
		var bad int
		bad, err = c.try(orders)
		if err == nil || len(orders) == 1 || unreached(err) || fault.Is(err, fault.Unknown) {
			for _, o := range orders {
				o.end(err)
			}
			return alone, err
		}
		if bad < 0 {
			return append(alone, orders...), nil
		}
		alone = append(alone, orders[bad])
		orders = slices.Delete(orders, bad, bad+1)
	}
}

// try makes changes in one Update. bad is the one that failed, -1 if none did by itself.
func (c *committer) try(orders []*order) (bad int, err error) {
	bad = -1
	err = c.q.update(patience(orders), func(t tx) error {
		bad = -1
		for i, o := range orders {
			if err := o.fn(t); err != nil {
				bad = i
				return err
			}
		}
		return nil
	})
	return bad, err
}

// unreached tells whether the engine could not be had, which is nobody's own fault.
func unreached(err error) bool {
	return fault.Is(err, fault.Unavailable) || fault.Is(err, fault.Closed)
}

// patience returns a context that waits for an engine that cannot be reached for as long as
// the most patient of those who wait.
func patience(orders []*order) context.Context {
	longest := time.Duration(-1)
	for _, o := range orders {
		d := engine.Patience(o.ctx, -1)
		if d < 0 { // as long as the engine does
			return context.Background()
		}
		longest = max(longest, d)
	}
	return engine.Patient(context.Background(), longest)
}

func (o *order) end(err error) {
	o.err = err
	close(o.done)
}
