package postgres

import (
	"bytes"
	"slices"

	"github.com/martlet-mail/martlet/internal/engine"
)

// foresight is one statement that reads what functions of Updates are going to ask for.
// While one of a shard is under way, the next gathers.
type foresight struct {
	keys [][]byte
	done chan struct{}

	// Of the answer, once done is closed.
	found map[string][]byte
	at    identity // the state it is of; version 0 also if there is no answer
	ok    bool

	known         bool   // whether the shard's base was, before the statement
	from          int64  // and its version
	line, emptied uint64 // the shard's from then
}

// mostForeseen is how many keys are read ahead for one Update; who needs more reads on by
// himself.
const mostForeseen = 2048

// foresee reads the keys that the function of an Update is going to ask for, if they are not
// known, before its turn, as long as it is patient. It is an effort only: what goes wrong shows
// when the function asks.
func (u *updating) foresee() error {
	g, keys := u.g, engine.Foreseen(u.ctx)
	if len(keys) == 0 || g.opt.without.foresight {
		return nil
	}
	f, mine := u.s.foresee(keys[:min(len(keys), mostForeseen)])
	if f == nil {
		return nil
	}
	if mine {
		g.readApart(u.s, f)
	}
	u.ahead = f
	return u.until(f.done)
}

// readApart has a statement run that others wait for as well: it goes on when the caller leaves.
func (g *group) readApart(s *shard, f *foresight) {
	g.enter(s.id) // it stays until that is done
	g.work.Go(func() {
		g.readAhead(s, f)
		g.leave(s)
	})
}

// foresee enters the keys that are not known into the next statement, nil if all are; mine
// tells that the caller is to run it.
func (s *shard) foresee(keys [][]byte) (f *foresight, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.base.tree
	if s.tip != nil {
		t = s.tip
	}
	for _, k := range keys {
		if _, w := t.get(k); w != unknown || checkKey(k) != nil {
			continue
		}
		if s.ahead == nil {
			s.ahead = &foresight{done: make(chan struct{})}
		}
		s.ahead.keys = append(s.ahead.keys, slices.Clone(k))
		f = s.ahead
	}
	if f != nil && !s.reading {
		s.reading, s.ahead, mine = true, nil, true
	}
	return f, mine
}

// readAhead runs a statement, and leaves those that have gathered meanwhile to another
// goroutine.
func (g *group) readAhead(s *shard, f *foresight) {
	g.readKeys(s, f)
	s.mu.Lock()
	next := s.ahead
	s.ahead, s.reading = nil, next != nil
	s.mu.Unlock()
	if next != nil {
		g.readApart(s, next)
	}
}

// readKeys makes one attempt.
func (g *group) readKeys(s *shard, f *foresight) {
	defer close(f.done)
	f.keys = sorted(append(f.keys, s.takeGone()...)) // what others have written is asked for, too
	s.mu.Lock()
	token, seq := s.base.token, s.seq
	f.known, f.from = s.base.known, s.base.version
	f.line, f.emptied = s.line, s.emptied
	s.mu.Unlock()
	a := answer{head: head{home: g.home}}
	g.stats.Reads.Add(1)
	err := g.pool.once(g.life, nil, func(c *conn) {
		c.bind(stSome, 3)
		c.int64(int64(s.id))
		c.array(typeBytea, len(f.keys), func(i int) { c.bytes(f.keys[i]) })
		c.int64(token)
		c.execute()
	}, func(_ int, row [][]byte) error { return a.row(query{}, row) })
	if err != nil || a.home != g.home {
		return
	}
	f.found = make(map[string][]byte, len(a.records))
	for _, r := range a.records {
		f.found[string(r.key)] = r.value
	}
	f.at, f.ok = a.identity, true
	s.mu.Lock()
	stands := s.stands(f)
	s.mu.Unlock()
	if !stands {
		s.adopt(a.head, seq) // another node has changed it, or nobody here knew it
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.learn(f.at, func(t *tree) { f.note(t, f.keys) }) // those that others have written, for all
}

// note adds those of the keys that were read to what an Update runs on, as far as nothing is
// known of them there.
func (f *foresight) note(t *tree, keys [][]byte) {
	for _, k := range keys {
		if _, read := slices.BinarySearchFunc(f.keys, k, bytes.Compare); read {
			value, there := f.found[string(k)]
			t.learnKey(slices.Clone(k), value, there)
		}
	}
}

// stands tells whether what was read still holds, but for what this node has written since,
// all of which it knows. It is called with the lock.
func (s *shard) stands(f *foresight) bool {
	switch {
	case !f.ok:
		return false
	case s.base.known && s.base.identity == f.at, s.flying != nil && s.flying.token == f.at.token:
		return true
	}
	// Where nothing was known before, what led here may all be others' commits: that does not
	// change the line.
	return f.known && f.at.version >= f.from && s.line == f.line && s.emptied == f.emptied && s.passed(f.at)
}

// passed tells whether a state is one of those that led to base by commits of this node. It is
// called with the lock, and is of use while line is as it was before the state was read: then
// none of those commits was another's.
func (s *shard) passed(id identity) bool {
	if !s.base.known || s.base.epoch != id.epoch || id.version > s.base.version {
		return false
	}
	_, ok := since(id.token, s.base.recent)
	return ok
}
