package postgres

import (
	"container/list"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// group is one database and what this node keeps of its shards.
type group struct {
	opt   *Options
	stats *Stats
	pool  *pool
	home  int64 // its number in the rows of shards

	life context.Context // ends at Close
	end  context.CancelFunc
	work sync.WaitGroup // goroutines

	mu     sync.Mutex
	shards map[engine.Shard]*shard
	heard  map[engine.Shard]*shard // those of them that have ears
	used   list.List               // of *shard that can give something, the one used last in front
	bytes  int64                   // of all
	most   atomic.Int64            // of them

	proofs proofs
	outbox outbox
	hints  hints

	chance struct {
		sync.Mutex
		b []byte
	}
}

// newGroup returns a group that begins with start. It opens no connection.
func newGroup(opt *Options, stats *Stats, number int64) (*group, error) {
	p, err := newPool(opt, stats)
	if err != nil {
		return nil, err
	}
	g := &group{opt: opt, stats: stats, pool: p, home: number, shards: map[engine.Shard]*shard{}, heard: map[engine.Shard]*shard{}}
	g.life, g.end = context.WithCancel(context.Background())
	g.most.Store(opt.CacheBytes)
	return g, nil
}

// start makes the tables where there are none, and waits for the database, as long as calls are
// patient: a server that has just become the primary takes connections before anybody confirms its
// commits.
func (g *group) start(ctx context.Context) error {
	if err := g.pool.prepare(ctx); err != nil {
		return err
	}
	r := g.pool.retry(ctx)
	defer r.stop()
	for {
		err := g.reach(ctx, r)
		switch {
		case err == nil:
			g.listen()
			return nil
		case ctx.Err() != nil || errors.Is(err, errOther): // which no patience changes
			return fault.Wrap(fault.Unavailable, g.pool.trouble(), err)
		}
		if err := r.again(err); err != nil {
			return err
		}
	}
}

// reach makes a connection of each kind.
func (g *group) reach(ctx context.Context, r *retry) error {
	c, err := g.pool.take(ctx, r, g.pool.short)
	if err != nil {
		return err
	}
	g.pool.give(g.pool.short, c)
	return g.pool.onPulse(ctx, func(c *conn) { c.bind(stPulse, 0); c.execute() }, nil)
}

// close is called when no call is under way.
func (g *group) close() {
	g.end()
	g.work.Wait()
	g.pool.close()
}

// enter returns the shard, which stays in memory until leave.
func (g *group) enter(id engine.Shard) *shard {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.occupy(id)
	if s.place == nil {
		s.place = g.used.PushFront(s)
	} else {
		g.used.MoveToFront(s.place)
	}
	return s
}

// hold is enter for who makes no use of what is known of the shard: others go on being the ones
// that were used last.
func (g *group) hold(id engine.Shard) *shard {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.occupy(id)
}

// occupy is called with the lock.
func (g *group) occupy(id engine.Shard) *shard {
	s := g.shards[id]
	if s == nil {
		s = newShard(g, id)
		g.shards[id] = s
	}
	s.users++
	return s
}

func (g *group) leave(s *shard) {
	g.mu.Lock()
	s.users--
	g.mu.Unlock()
	g.measure(s)
}

// weight is what a shard takes of the memory for records.
type weight struct {
	frame   int64 // the shard itself, which goes when nobody uses it
	records int64 // what can be forgotten while it is in use
	cold    int64 // of records
}

func (w weight) sum() int64 { return w.frame + w.records }

// measure notes how much memory a shard takes, and makes room where all take too much. A shard
// that somebody listens to is in memory for that, and not for its records: it is not counted,
// or many of them alone would take all the room, and could not give it back.
func (g *group) measure(s *shard) {
	now := s.size()
	g.mu.Lock()
	if g.shards[s.id] != s { // a commit or a call ended late; nobody would take its bytes off again
		g.mu.Unlock()
		return
	}
	if s.ears.Load() > 0 {
		now.frame = 0
	}
	g.bytes += now.sum() - s.counted.sum()
	s.counted = now
	if s.place == nil && now.sum() > 0 {
		s.place = g.used.PushFront(s)
	}
	bare, trimmed := g.makeRoom()
	g.mu.Unlock()
	for _, old := range bare {
		old.forget(shedAll)
	}
	for _, old := range trimmed {
		old.forget(shedCold)
	}
}

// makeRoom chooses what goes where all shards take too much: of those that were not used for
// longest what is cold is forgotten, or all if that is less than half. One that is in use keeps
// its identity, so that a change is not missed. One of which nothing can go leaves the list until
// that has changed, so that nobody comes past it again. It is called with the lock.
func (g *group) makeRoom() (bare, trimmed []*shard) {
	for at := g.used.Back(); g.bytes > g.most.Load() && at != nil && !g.opt.without.limit; {
		old, ahead := at.Value.(*shard), at.Prev()
		was := old.counted.sum()
		switch {
		case 2*old.counted.cold > was && !g.opt.without.trim:
			old.counted.records, old.counted.cold = old.counted.records-old.counted.cold, 0
			trimmed = append(trimmed, old)
		case old.users == 0:
			g.used.Remove(at)
			delete(g.shards, old.id)
			old.counted = weight{}
		case old.counted.records > 0:
			old.counted.records, old.counted.cold = 0, 0
			bare = append(bare, old)
		default:
			g.used.Remove(at)
			old.place = nil
		}
		g.bytes -= was - old.counted.sum()
		at = ahead
	}
	return bare, trimmed
}

// bareBytes is about what a shard takes of which nothing is known.
const bareBytes = 512

// token draws one.
func (g *group) token() int64 {
	g.chance.Lock()
	defer g.chance.Unlock()
	for {
		if len(g.chance.b) < 8 {
			g.chance.b = make([]byte, 512)
			if _, err := io.ReadFull(g.opt.Rand, g.chance.b); err != nil {
				panic("postgres: no chance: " + err.Error()) // as crypto/rand itself does
			}
		}
		n := int64(binary.BigEndian.Uint64(g.chance.b))
		g.chance.b = g.chance.b[8:]
		if n != 0 {
			return n
		}
	}
}
