package postgres

import (
	"sync"
	"sync/atomic"

	"github.com/martlet-mail/martlet/internal/engine"
)

// listener is one Foreign.
type listener struct {
	fn      func()
	stopped atomic.Bool
}

// watch has a channel tick after each change of the shard.
func (g *group) watch(id engine.Shard, ticks chan struct{}) (stop func()) {
	s := g.enter(id)
	s.hear.Lock()
	if s.watch == nil {
		s.watch = map[chan struct{}]struct{}{}
	}
	s.watch[ticks] = struct{}{}
	s.hear.Unlock()
	g.addEars(s, 1)
	g.measure(s) // as one that is here to be listened to
	return sync.OnceFunc(func() {
		s.hear.Lock()
		delete(s.watch, ticks)
		s.hear.Unlock()
		g.addEars(s, -1)
		g.leave(s)
	})
}

// listenTo has fn called when another node has changed the shard.
func (g *group) listenTo(id engine.Shard, fn func()) (stop func()) {
	l := &listener{fn: fn}
	s := g.enter(id)
	s.hear.Lock()
	if s.foreign == nil {
		s.foreign = map[*listener]struct{}{}
	}
	s.foreign[l] = struct{}{}
	s.hear.Unlock()
	g.addEars(s, 1)
	g.measure(s) // as one that is here to be listened to
	return sync.OnceFunc(func() {
		l.stopped.Store(true)
		s.hear.Lock()
		delete(s.foreign, l)
		s.hear.Unlock()
		g.addEars(s, -1)
		g.leave(s)
	})
}

// addEars counts who listens to a shard, and keeps the list of those with any: to look for them
// among all that are in memory would hold everybody up.
func (g *group) addEars(s *shard, n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s.ears.Add(n) > 0 {
		g.heard[s.id] = s
	} else {
		delete(g.heard, s.id)
	}
}

// tellForeign calls those who listen to what other nodes do, and ticks. The caller holds
// telling, and no other lock: those who are called may be stopping others.
func (s *shard) tellForeign() {
	if s.ears.Load() == 0 {
		return
	}
	s.hear.Lock()
	list := make([]*listener, 0, len(s.foreign))
	for l := range s.foreign {
		list = append(list, l)
	}
	s.hear.Unlock()
	for _, l := range list {
		if !l.stopped.Load() {
			l.fn()
		}
	}
	s.tick()
}
