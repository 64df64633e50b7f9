package postgres

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
)

// hints go between nodes, so that what one commits is soon looked at by another whose clients
// wait for it. They may be lost: every now and then each node looks at all that somebody
// waits for there.
type hints struct {
	mu      sync.Mutex
	changed map[engine.Shard]struct{} // by this node, and not yet told
	heard   map[engine.Shard]struct{} // from others, and not yet looked at
	tellMe  chan struct{}             // capacity one: changed has something
	lookMe  chan struct{}             // capacity one: heard has something
	others  int                       // looks after which no other node is taken to be there
	me      string
}

const (
	channel   = "martlet"
	mostHint  = 7000 // bytes of one, of the 8000 that PostgreSQL allows
	staying   = 5    // looks in which a node that was heard of is taken to be there
	lookShare = 1000 // shards that are looked at by one statement
)

// tell notes that this node has changed a shard.
func (h *hints) tell(id engine.Shard) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.others == 0 || h.changed == nil {
		return
	}
	h.changed[id] = struct{}{}
	wake(h.tellMe)
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// listen begins to speak with other nodes and to look what they do.
func (g *group) listen() {
	h := &g.hints
	h.changed, h.heard = map[engine.Shard]struct{}{}, map[engine.Shard]struct{}{}
	h.tellMe, h.lookMe = make(chan struct{}, 1), make(chan struct{}, 1)
	h.me = strconv.FormatUint(uint64(g.token()), 36)
	if !g.opt.without.hints {
		g.work.Go(g.hear)
		g.work.Go(g.speak)
	}
	g.work.Go(g.look)
}

// pause waits, and tells whether the engine is still open.
func (g *group) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-g.life.Done():
		return false
	}
}

// hear takes in what other nodes say, on a connection of its own.
func (g *group) hear() {
	for g.life.Err() == nil {
		g.hearOn()
		g.pause(g.opt.poll / 4)
	}
}

func (g *group) hearOn() {
	c, err := g.pool.whisper(g.life)
	if err != nil {
		return
	}
	defer c.wire.Close()
	stop := context.AfterFunc(g.life, func() { _ = c.wire.Close() })
	defer stop()
	c.heard = g.heed
	if _, err := c.script(g.opt.statement, "LISTEN "+channel); err != nil {
		return
	}
	g.greet()
	// An old primary that lives on is silent, and no error. Another server may be asked by now.
	c.alive, c.limit = func() bool { return g.pool.current(c) }, g.opt.poll
	if c.wire.SetDeadline(time.Now().Add(c.limit)) != nil {
		return
	}
	for {
		if _, err := c.receive(); err != nil {
			return
		}
	}
}

// greet has the next hint go out even if nothing has changed: others learn that this node
// is there.
func (g *group) greet() { wake(g.hints.tellMe) }

// heed takes one hint: who has sent it, and shards.
func (g *group) heed(payload string) {
	words := strings.Fields(payload)
	h := &g.hints
	if len(words) == 0 || words[0] == h.me {
		return
	}
	h.mu.Lock()
	if h.others == 0 {
		defer g.greet() // it may not know of this one
	}
	h.others = staying
	h.mu.Unlock()
	any := false
	for _, w := range words[1:] {
		if n, err := strconv.ParseUint(w, 36, 64); err == nil && g.matters(engine.Shard(n)) {
			h.mu.Lock()
			h.heard[engine.Shard(n)] = struct{}{}
			h.mu.Unlock()
			any = true
		}
	}
	if any {
		wake(h.lookMe)
	}
}

// matters tells whether anybody here wants to know of changes of the shard.
func (g *group) matters(id engine.Shard) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, there := g.heard[id]
	return there
}

// speak sends hints, some milliseconds' worth at a time, on a connection of its own, whose
// commits wait for nothing.
func (g *group) speak() {
	var c *conn
	defer func() {
		if c != nil {
			_ = c.wire.Close()
		}
	}()
	for {
		select {
		case <-g.hints.tellMe:
		case <-g.life.Done():
			return
		}
		g.pause(g.opt.gather)
		if c != nil && !g.pool.current(c) {
			_ = c.wire.Close()
			c = nil
		}
		if c == nil {
			made, err := g.pool.whisper(g.life)
			if err != nil {
				continue // it was a hint
			}
			c = made
			if _, err := c.script(g.opt.statement, "SET synchronous_commit = off"); err != nil {
				_ = c.wire.Close()
				c = nil
				continue
			}
		}
		if g.say(c) != nil {
			_ = c.wire.Close()
			c = nil
		}
	}
}

func (g *group) say(c *conn) error {
	h := &g.hints
	h.mu.Lock()
	changed := h.changed
	h.changed = map[engine.Shard]struct{}{}
	h.mu.Unlock()
	send := func(payload string) {
		g.stats.Hints.Add(1)
		c.bind(stNotify, 2)
		c.string(channel)
		c.string(payload)
		c.execute()
	}
	payload := h.me
	for id := range changed {
		if payload += " " + strconv.FormatUint(uint64(id), 36); len(payload) > mostHint {
			send(payload)
			payload = h.me
		}
	}
	if payload != h.me || len(changed) == 0 {
		send(payload)
	}
	_, err := c.run(g.opt.statement, nil)
	return err
}

// look looks at shards that somebody waits for: those that hints have come for at once, all
// of them from time to time.
func (g *group) look() {
	every := time.NewTimer(g.opt.poll)
	defer every.Stop()
	for {
		var ids []engine.Shard
		select {
		case <-g.life.Done():
			return
		case <-g.hints.lookMe:
			ids = g.hints.take()
		case <-every.C:
			ids = g.awaited()
			every.Reset(g.opt.poll)
		}
		for len(ids) > 0 {
			n := min(len(ids), lookShare)
			g.lookAt(ids[:n])
			ids = append(g.hints.take(), ids[n:]...) // what is new does not stand behind all others
		}
	}
}

func (h *hints) take() (ids []engine.Shard) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id := range h.heard {
		ids = append(ids, id)
	}
	clear(h.heard)
	return ids
}

// awaited returns the shards that somebody wants to know of, and ages what is known of other
// nodes. It is also how a node that has nothing to do notices that its server is gone.
func (g *group) awaited() (ids []engine.Shard) {
	h := &g.hints
	h.mu.Lock()
	h.others = max(0, h.others-1)
	h.mu.Unlock()
	g.greet()
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.opt.without.poll {
		for id := range g.heard {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		ids = append(ids, 0)
	}
	return ids
}

// lookAt tells of those shards that other nodes have changed. The database is told what is
// known, and speaks of what is not, so that a look at many shards takes little.
func (g *group) lookAt(ids []engine.Shard) {
	type look struct {
		s     *shard
		seq   uint64
		token int64
	}
	list := make([]look, len(ids))
	index := make(map[engine.Shard]int, len(ids))
	for i, id := range ids {
		index[id] = i
		s := g.hold(id)
		defer g.leave(s)
		s.mu.Lock()
		list[i] = look{s, s.seq, s.base.token}
		s.mu.Unlock()
	}
	g.stats.Looks.Add(1)
	g.stats.Proofs.Add(1)
	g.stats.Proven.Add(int64(len(ids)))
	changed := map[int]head{}
	err := g.pool.onPulse(g.life, func(c *conn) {
		c.bind(stLook, 2)
		c.array(typeBigint, len(ids), func(i int) { c.int64(int64(ids[i])) })
		c.array(typeBigint, len(list), func(i int) { c.int64(list[i].token) })
		c.execute()
	}, func(_ int, row [][]byte) error {
		now := headOf(row[1:])
		if now.version == 0 { // a failover has lost all of it
			now = head{home: g.home}
		}
		changed[index[engine.Shard(number(row[0]))]] = now
		return nil
	})
	if err != nil {
		return
	}
	for i, now := range changed {
		list[i].s.adopt(now, list[i].seq)
	}
}
