package postgres

import (
	"slices"
	"sync"
)

// commit is what one or more Updates of a shard have written on top of a state.
type commit struct {
	shard   *shard
	token   int64
	touched          // not in order
	tree    *tree    // the shard afterwards
	size    int      // of keys and values
	members int      // Updates
	row     *rowLock // under which it goes, nil: under none
	alone   bool     // not together with those of other shards

	from   identity // the state it follows, once it is on its way
	recent []byte   // and its trail
	state  int64    // and where the shard stands
	next   []byte   // the trail afterwards

	done chan struct{}
	err  error // set before done is closed: errAgain, or why it has failed
}

const (
	mostCommit = 4 << 20 // bytes of one commit of several Updates
	mostLoad   = 4 << 20 // bytes of commits that go together
	mostShards = 64      // that go together
)

// launch sends what has gathered on its way. It is called with the shard's lock.
func (s *shard) launch(from head, row *rowLock) {
	c := s.waiting
	s.flying, s.waiting = c, nil
	c.from, c.recent, c.state, c.row = from.identity, from.recent, from.state, row
	s.g.outbox.add(s.g, c)
}

// abandon gives up a commit that nobody has sent yet, be it that it gathers or that it waits for
// a carrier: those who gathered in it decide for themselves whether to try again.
func (s *shard) abandon(c *commit) {
	s.mu.Lock()
	switch {
	case s.waiting == c:
		s.waiting, s.tip = nil, s.flying.tree
		s.line++
		s.mu.Unlock()
		c.err = errUnsent
		close(c.done)
	case s.flying == c && s.g.outbox.withdraw(c):
		s.mu.Unlock()
		s.g.complete(c, errUnsent)
	default:
		s.mu.Unlock()
	}
}

// complete ends a commit: err is nil if it has happened.
func (g *group) complete(c *commit, err error) {
	s := c.shard
	s.mu.Lock()
	s.flying = nil
	next := s.waiting
	now := head{identity: identity{c.from.epoch, c.from.version + 1, c.token}, home: g.home, state: c.state, recent: c.next}
	if err == nil {
		if s.base.identity == c.from { // else others have gone on from it already
			s.base = state{head: now, known: true, tree: c.tree}
			s.seq++
		}
		if next == nil {
			s.tip = nil
			s.shed()
		} else {
			s.launch(now, nil)
		}
	} else {
		s.tip, s.waiting, s.suspect = nil, nil, true
		s.line++
	}
	s.mu.Unlock()
	c.err = err
	close(c.done)
	if err != nil && next != nil {
		next.err = errAgain
		close(next.done)
	}
	if err == nil {
		g.stats.Commits.Add(1)
		g.stats.Updates.Add(int64(c.members))
		g.measure(s)
		s.tick()
		g.hints.tell(s.id)
	}
}

// outbox takes commits of all shards, and sends those together that come while others are
// under way.
type outbox struct {
	mu      sync.Mutex
	list    []*commit
	running int
}

const carriers = 3

func (o *outbox) add(g *group, c *commit) {
	if c.row != nil {
		// It has its connection, and does not stand behind those that wait for the row it holds.
		g.work.Go(func() { g.sendLocked(c) })
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = append(o.list, c)
	if o.running < carriers {
		o.running++
		g.work.Go(g.carry)
	}
}

// withdraw takes a commit back, and tells whether no carrier has taken it.
func (o *outbox) withdraw(c *commit) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	at := slices.Index(o.list, c)
	if at >= 0 {
		o.list = slices.Delete(o.list, at, at+1)
	}
	return at >= 0
}

// carry sends off commits until there are none. It takes them when it has a connection, and not
// before: until then they can be withdrawn.
func (g *group) carry() {
	for !g.outbox.leave() {
		c, err := g.vehicle()
		load := g.outbox.take()
		switch {
		case err == nil && len(load) > 0:
			g.send(load, c)
		case err == nil:
			g.pool.give(g.pool.short, c)
		case len(load) > 0:
			g.refuse(load, err)
		}
	}
}

// leave tells a carrier that there is nothing to do, and that it is one no more.
func (o *outbox) leave() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.list) > 0 {
		return false
	}
	o.running--
	return true
}

// take returns commits that can go together; nil: there are none.
func (o *outbox) take() (load []*commit) {
	o.mu.Lock()
	defer o.mu.Unlock()
	size, n := 0, 0
	for _, c := range o.list {
		lone := c.alone || c.row != nil
		if n > 0 && (lone || size+c.size > mostLoad || n == mostShards) {
			break
		}
		size += c.size
		if n++; lone {
			break
		}
	}
	load = append(load, o.list[:n]...)
	rest := copy(o.list, o.list[n:])
	clear(o.list[rest:])
	o.list = o.list[:rest]
	return load
}

// tick tells those who watch that the shard has changed.
func (s *shard) tick() {
	if s.ears.Load() == 0 {
		return
	}
	s.hear.Lock()
	defer s.hear.Unlock()
	for c := range s.watch {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}
