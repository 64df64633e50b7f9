package postgres

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"

	"github.com/martlet-mail/martlet/internal/engine"
)

// shard is what a node keeps of a shard in use.
type shard struct {
	g  *group
	id engine.Shard

	users   int           // of the group's lock
	place   *list.Element // of the group's lock; nil: nothing of it can go
	counted weight        // of the group's lock

	turn chan struct{} // held while fn of an Update runs

	mu      sync.Mutex
	base    state    // the newest one that is durable, as far as this node knows
	tip     *tree    // base and what is on its way; nil: base
	flying  *commit  // on its way
	waiting *commit  // gathers on top of it
	line    uint64   // grows when what functions have run on is not what will be
	seq     uint64   // grows with each change of base
	gone    [][]byte // keys of base that were forgotten since others have written them
	sheds   shed     // is to be forgotten when nothing is on its way
	suspect bool     // base may be old: a commit on top of it has failed

	emptied uint64     // grows when what is known is forgotten
	ahead   *foresight // gathers keys that are to be read
	reading bool       // others are being read
	asked   *rowAsk    // for the row, and not answered yet

	ears    atomic.Int64 // watchers and listeners
	telling sync.Mutex   // held while listeners are called, and until base is what they were told of
	hear    sync.Mutex
	watch   map[chan struct{}]struct{}
	foreign map[*listener]struct{}
}

// state is a shard at one moment.
type state struct {
	head
	known bool // else nothing is
	tree  *tree
}

func newShard(g *group, id engine.Shard) *shard {
	s := &shard{g: g, id: id, turn: make(chan struct{}, 1)}
	s.base.tree = newTree()
	return s
}

func (s *shard) size() weight {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.base.tree
	w := weight{frame: bareBytes + int64(len(s.base.recent)), records: t.bytes - itemBytes, cold: t.cold}
	for _, k := range s.gone {
		w.records += int64(len(k)) + sliceBytes
	}
	return w
}

// sliceBytes is what a slice costs beside what it holds.
const sliceBytes = 24

// shed is what is to be forgotten of a shard.
type shed uint8

const (
	shedNothing shed = iota
	shedCold         // records that were written once, such as those of a message; what each change rewrites stays
	shedAll
)

// forget forgets some of what is known. What is on its way is known by its tree alone, so
// then it is left for later.
func (s *shard) forget(what shed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sheds = max(s.sheds, what)
	s.shed()
}

// shed is called with the lock.
func (s *shard) shed() {
	if s.sheds == shedNothing || s.flying != nil || s.waiting != nil {
		return
	}
	if s.emptied++; s.sheds == shedAll {
		s.base.tree, s.gone = newTree(), nil
	} else {
		s.base.tree.trim()
	}
	s.sheds = shedNothing
}

// holds returns a copy of what is known of a state, nil if it is not one at hand. It is
// called with the lock.
func (s *shard) holds(id identity) *tree {
	switch {
	case s.base.known && s.base.identity == id:
		return s.base.tree.copy()
	case s.base.known && s.g.opt.without.token && s.base.version == id.version:
		return s.base.tree.copy()
	case s.flying != nil && s.flying.token == id.token:
		return s.flying.tree.copy()
	}
	return nil
}

// adopt makes what the database says the newest state that is known, and returns a copy of
// it. seq is the shard's from before it was asked. It returns nil if the state may be an old
// one by now. Others' changes are told to those who listen before anybody can see them; what
// is there when a shard is looked at for the first time may be one.
func (s *shard) adopt(now head, seq uint64) *tree {
	s.mu.Lock()
	t := s.holds(now.identity)
	if t == nil && !s.base.known && (now.version == 0 || s.ears.Load() == 0) {
		s.base = state{head: now, known: true, tree: s.base.tree}
		s.seq++
		t = s.base.tree.copy()
	}
	s.mu.Unlock()
	if t != nil {
		return t
	}
	s.telling.Lock()
	defer s.telling.Unlock()
	s.mu.Lock()
	t, old := s.holds(now.identity), s.seq != seq
	s.mu.Unlock()
	if t != nil || old {
		return t
	}
	s.tellForeign()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seq != seq {
		return s.holds(now.identity)
	}
	s.forward(now)
	return s.base.tree.copy()
}

// adoptOrTell is adopt for who will show the state in any case: of one that is neither new nor
// at hand it is not known whether another has made it, so those who listen are told.
func (s *shard) adoptOrTell(now head, seq uint64) *tree {
	t := s.adopt(now, seq)
	if t == nil {
		s.telling.Lock()
		s.tellForeign()
		s.telling.Unlock()
	}
	return t
}

// forward brings base to what the database says, and forgets what has changed meanwhile.
func (s *shard) forward(now head) {
	next := state{head: now, known: true, tree: s.base.tree.copy()}
	list, ok := since(s.base.token, now.recent)
	if !ok || !s.base.known || s.g.opt.without.recent {
		list = []touched{{all: true}}
	}
	for _, t := range list {
		if t.all {
			next.tree, s.gone = newTree(), nil
			s.g.stats.Forgotten.Add(1)
			break
		}
		for _, k := range t.keys {
			next.tree.forget(k)
		}
		if len(s.gone)+len(t.keys) <= mostGone {
			s.gone = append(s.gone, t.keys...)
		}
		for _, sp := range t.spans {
			next.tree.forgetRange(sp.from, sp.to)
		}
	}
	if s.base.known { // else nobody has read anything yet
		s.line++
	}
	s.base = next
	s.seq++
	s.suspect = false
	s.g.stats.Forwarded.Add(1)
}

// learn notes what was read in a state of the shard, wherever it holds. It is called with
// the lock.
func (s *shard) learn(id identity, note func(*tree)) {
	for s.base.known && s.base.identity == id {
		note(s.base.tree)
		break
	}
	if s.flying == nil {
		return
	}
	// What is on its way is known in its trees, and hides what was before it.
	if s.base.identity == id && id == s.flying.from || s.flying.token == id.token {
		note(s.flying.tree)
		if s.tip != nil && s.tip != s.flying.tree {
			note(s.tip)
		}
	}
}

// acquire waits for the turn.
func (s *shard) acquire(ctx context.Context, r *retry) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	default:
	}
	rest := restOf(ctx)
	defer rest()
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-r.limit():
		return r.ended(errTurn)
	}
}

func (s *shard) release() { <-s.turn }
