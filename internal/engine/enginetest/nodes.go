package enginetest

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// Nodes returns n handles of one engine, as n processes would have them that share it:
// what one commits is foreign to the others. The engine is closed with the last of them.
//
// A hint of each commit goes to the others before Update returns; Hints delays it or
// loses it. What a View or Update finds out is told with and without hints, as
// engine.Shared promises.
func Nodes(e engine.Engine, n int) []*Node {
	all := &nodes{inner: e, lines: map[engine.Shard]*line{}}
	for i := range n {
		all.list = append(all.list, &Node{
			Engine: e, all: all, number: i, seen: map[engine.Shard]uint64{},
			foreign: map[engine.Shard][]*listener{}, watched: map[engine.Shard][]chan struct{}{},
		})
	}
	all.open = n
	return all.list
}

// nodes is what the handles share.
type nodes struct {
	inner engine.Engine
	list  []*Node

	mu    sync.Mutex
	open  int
	lines map[engine.Shard]*line
}

// line is how many commits each node has made of a shard, and how many it is making: what
// is under way may be visible before it has been made.
type line struct{ made, making []uint64 }

// Node is one of several handles of an engine.
type Node struct {
	engine.Engine
	all    *nodes
	number int
	down   atomic.Bool

	closing sync.RWMutex // read-locked by calls
	closed  bool

	telling sync.Mutex // held while listeners are called, one after another
	seen    map[engine.Shard]uint64

	mu      sync.Mutex
	foreign map[engine.Shard][]*listener
	watched map[engine.Shard][]chan struct{}
	hints   func(engine.Shard, func())
}

type listener struct {
	fn      func()
	stopped atomic.Bool
}

var _ engine.Shared = (*Node)(nil)

// Hints has fn decide on each hint that goes to this node: deliver tells of the change,
// at any time, from any goroutine, or never. A nil fn delivers at once, as from the beginning.
func (n *Node) Hints(fn func(shard engine.Shard, deliver func())) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hints = fn
}

// Lose loses all hints to this node from now on.
func (n *Node) Lose() { n.Hints(func(engine.Shard, func()) {}) }

// Poll looks what the others have changed of what is watched or listened to here, as an
// engine does from time to time in case that hints were lost.
func (n *Node) Poll() {
	n.mu.Lock()
	shards := map[engine.Shard]bool{}
	for s := range n.foreign {
		shards[s] = true
	}
	for s := range n.watched {
		shards[s] = true
	}
	n.mu.Unlock()
	for s := range shards {
		n.notice(s)
	}
}

// Down makes all calls of this node fail with Unavailable, or ends that.
func (n *Node) Down(down bool) { n.down.Store(down) }

// Listeners returns how many Foreign there are on this node, over all shards.
func (n *Node) Listeners() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	count := 0
	for _, l := range n.foreign {
		count += len(l)
	}
	return count
}

// Foreign is as in engine.Shared.
func (n *Node) Foreign(shard engine.Shard, fn func()) (stop func()) {
	l := &listener{fn: fn}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.foreign[shard] = append(n.foreign[shard], l)
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		l.stopped.Store(true)
		n.foreign[shard] = without(n.foreign[shard], l)
		if len(n.foreign[shard]) == 0 {
			delete(n.foreign, shard)
		}
	}
}

// without returns a list of its own: others may be reading the old one.
func without[T comparable](list []T, one T) (left []T) {
	for _, l := range list {
		if l != one {
			left = append(left, l)
		}
	}
	return left
}

// Watch is as in engine.Engine; of what other nodes change it is told by hints.
func (n *Node) Watch(shard engine.Shard) (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.watched[shard] = append(n.watched[shard], c)
	return c, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.watched[shard] = without(n.watched[shard], c)
		if len(n.watched[shard]) == 0 {
			delete(n.watched, shard)
		}
	}
}

// View is as in engine.Engine.
func (n *Node) View(ctx context.Context, shard engine.Shard, fn func(engine.Reader) error) error {
	leave, err := n.enter()
	if err != nil {
		return err
	}
	defer leave()
	return n.Engine.View(ctx, shard, func(r engine.Reader) error {
		n.notice(shard)
		return fn(r)
	})
}

// Update is as in engine.Engine.
func (n *Node) Update(ctx context.Context, shard engine.Shard, fn func(engine.Writer) error) error {
	leave, err := n.enter()
	if err != nil {
		return err
	}
	defer leave()
	making := false
	err = n.Engine.Update(ctx, shard, func(w engine.Writer) error {
		n.notice(shard)
		c := &changes{Writer: w}
		if err := fn(c); err != nil {
			return err
		}
		if c.any && !making {
			making = true
			n.count(shard, func(l *line) { l.making[n.number]++ })
		}
		return nil
	})
	if making {
		n.count(shard, func(l *line) { l.making[n.number]--; l.made[n.number]++ })
		n.tick(shard)
		for _, other := range n.all.list {
			if other != n {
				other.hint(shard)
			}
		}
	}
	return err
}

// changes is a Writer that knows whether it was written to.
type changes struct {
	engine.Writer
	any bool
}

func (c *changes) Put(key, value []byte) error { c.any = true; return c.Writer.Put(key, value) }

func (c *changes) Delete(key []byte) error { c.any = true; return c.Writer.Delete(key) }

func (c *changes) DeleteRange(from, to []byte) error {
	c.any = true
	return c.Writer.DeleteRange(from, to)
}

func (n *Node) enter() (leave func(), err error) {
	if n.down.Load() {
		return nil, fault.New(fault.Unavailable, "the node cannot reach its engine")
	}
	n.closing.RLock()
	if n.closed {
		n.closing.RUnlock()
		return nil, fault.New(fault.Closed, "the node is closed")
	}
	return n.closing.RUnlock, nil
}

// Close is as in engine.Engine.
func (n *Node) Close() error {
	n.closing.Lock()
	was := n.closed
	n.closed = true
	n.closing.Unlock()
	if was {
		return nil
	}
	n.all.mu.Lock()
	n.all.open--
	last := n.all.open == 0
	n.all.mu.Unlock()
	if last {
		return n.Engine.Close()
	}
	return nil
}

func (n *Node) count(shard engine.Shard, fn func(*line)) {
	n.all.mu.Lock()
	defer n.all.mu.Unlock()
	l := n.all.lines[shard]
	if l == nil {
		l = &line{make([]uint64, len(n.all.list)), make([]uint64, len(n.all.list))}
		n.all.lines[shard] = l
	}
	fn(l)
}

// notice calls the listeners if others have changed the shard since it last did, or are
// about to: what they are making may be seen already. It returns when they have been called,
// by whomever.
func (n *Node) notice(shard engine.Shard) {
	n.telling.Lock()
	defer n.telling.Unlock()
	made, making := uint64(0), uint64(0)
	n.count(shard, func(l *line) {
		for i := range l.made {
			if i != n.number {
				made, making = made+l.made[i], making+l.making[i]
			}
		}
	})
	if made == n.seen[shard] && making == 0 {
		return
	}
	n.mu.Lock()
	list := n.foreign[shard]
	n.mu.Unlock()
	for _, l := range list {
		if !l.stopped.Load() {
			l.fn()
		}
	}
	if made != n.seen[shard] {
		n.seen[shard] = made
		n.tick(shard)
	}
}

// hint tells this node that another has changed the shard, if the hint arrives.
func (n *Node) hint(shard engine.Shard) {
	n.mu.Lock()
	fn := n.hints
	n.mu.Unlock()
	deliver := func() { n.notice(shard) }
	if fn == nil {
		deliver()
		return
	}
	fn(shard, deliver)
}

func (n *Node) tick(shard engine.Shard) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.watched[shard] {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}
