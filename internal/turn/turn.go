// Package turn shares the processors among parties that want to work at the same time.
// A party is an account, or whoever else is to be served like one.
//
// Whoever works for a party takes a turn, rests while he waits for something else than a
// processor (his client, the disk), and gives the turn back. As long as a party is alone,
// it may have as many turns as it likes. Beside others it has those processors that the
// others leave, and one at least: a hundred connections of one account that search take
// no more from the next one than one connection would. What a party has over that waits,
// first come, first served.
//
// The first turn of a party never waits, so that a lock between parties cannot form, and
// costs a fraction of a microsecond. Nobody is stopped in the middle of his work: what
// takes long calls Yield now and then. A party whose turns make no sign for a while, as
// on a disk that does not answer, is let have some more.
//
// The package knows no mail, and it does not tell who a party is.
package turn

import (
	"context"
	"math"
	"runtime"
	"sync"
	"time"
)

const (
	// A party counts as one of the others for this long after its last turn: its next
	// command is on its way, and finds a processor that waits for it.
	window = 10 * time.Millisecond

	quantum = 10 * time.Millisecond // after which a turn is passed on within a party
	stuck   = 5 * time.Millisecond  // without a sign from its turns a party gets one more
	extra   = 8                     // such turns at most, for each processor
)

// Gate hands out turns. Its methods and those of its turns may be called from many
// goroutines.
type Gate struct {
	processors int

	mu      sync.Mutex
	parties map[string]*party
	latest  *party // that was active last, and behind it those before it
	oldest  *party
	crowded map[*party]struct{} // those with somebody in their queue
	watched bool                // a timer runs that looks after them
}

// party is one that has been active lately.
type party struct {
	name    string
	running int     // turns under way
	queue   []*Turn // that wait
	moved   bool    // a turn gave a sign of life since the last look

	last         time.Time // it was active
	newer, older *party
}

// NewGate returns a gate for so many processors; 0: all that this process has.
func NewGate(processors int) *Gate {
	if processors <= 0 {
		processors = runtime.GOMAXPROCS(0)
	}
	return &Gate{processors: processors, parties: map[string]*party{}, crowded: map[*party]struct{}{}}
}

// most is how many turns a party may have now.
func (g *Gate) most(p *party, now time.Time) int {
	others := g.others(p, now)
	if others == 0 {
		return math.MaxInt
	}
	return max(1, g.processors-others)
}

// others counts the other parties that are active, as far as it matters.
func (g *Gate) others(p *party, now time.Time) (n int) {
	for q := g.latest; q != nil && n < g.processors; q = q.older {
		if q.running == 0 && now.Sub(q.last) > window {
			break
		}
		if q != p {
			n++
		}
	}
	return n
}

// active notes that a party is.
func (g *Gate) active(p *party, now time.Time) {
	p.last, p.moved = now, true
	if g.latest == p {
		return
	}
	g.unlink(p)
	p.older = g.latest
	if p.older != nil {
		p.older.newer = p
	} else {
		g.oldest = p
	}
	g.latest = p
}

func (g *Gate) unlink(p *party) {
	if p.newer != nil {
		p.newer.older = p.older
	}
	if p.older != nil {
		p.older.newer = p.newer
	}
	if g.latest == p {
		g.latest = p.older
	}
	if g.oldest == p {
		g.oldest = p.newer
	}
	p.newer, p.older = nil, nil
}

// party returns the party of a name, and forgets one or two that have left.
func (g *Gate) party(name string, now time.Time) *party {
	if p := g.parties[name]; p != nil {
		return p
	}
	for range 2 {
		if p := g.oldest; p != nil && p.running == 0 && len(p.queue) == 0 && now.Sub(p.last) > window {
			g.unlink(p)
			delete(g.parties, p.name)
		}
	}
	p := &party{name: name}
	g.parties[name] = p
	return p
}

// admit lets those of a party's queue in that there is room for.
func (g *Gate) admit(p *party, now time.Time) {
	for len(p.queue) > 0 && (p.running == 0 || p.running < g.most(p, now)) {
		g.next(p, now)
	}
}

// next lets the first of a queue in.
func (g *Gate) next(p *party, now time.Time) {
	t := p.queue[0]
	g.leaveQueue(t)
	p.running++
	t.runs, t.since = true, now
}

// leaveQueue takes a turn out of its party's queue, whose waiter then goes on.
func (g *Gate) leaveQueue(t *Turn) {
	p := t.party
	for i, q := range p.queue {
		if q == t {
			p.queue = append(p.queue[:i:i], p.queue[i+1:]...)
			break
		}
	}
	if len(p.queue) == 0 {
		p.queue = nil
		delete(g.crowded, p)
	}
	close(t.ready)
	t.ready = nil
}

// look is what the timer does while somebody waits: others may have left since, and a
// party may be stuck.
func (g *Gate) look() {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	for p := range g.crowded {
		g.admit(p, now)
		if len(p.queue) > 0 && !p.moved && p.running < extra*g.processors {
			g.next(p, now)
		}
		p.moved = false
	}
	if g.watched = len(g.crowded) > 0; g.watched {
		time.AfterFunc(stuck, g.look)
	}
}

// Turn is that of one worker, again and again. A Turn without a gate, and nil, is that of
// somebody who need not ask.
type Turn struct {
	gate  *Gate
	name  string        // of the party it is taken for
	taken bool          // between Take and Give
	rests int           // Rest without Resume
	runs  bool          // it counts as one of the party's
	party *party        // while it runs or waits
	ready chan struct{} // while it waits
	since time.Time     // it runs
	used  time.Duration // it ran before, since Take
}

// Turn returns a turn of this gate; it may be copied until it is taken.
func (g *Gate) Turn() Turn { return Turn{gate: g} }

// Take waits until there is room for one more turn of a party, and gives back the one
// before. The name "" is that of those who need not ask.
func (t *Turn) Take(name string) {
	if t == nil || t.gate == nil {
		return
	}
	t.gate.mu.Lock()
	t.leave(time.Now())
	t.name, t.taken, t.used = name, name != "", 0
	t.enter()
}

// Give gives the turn back.
func (t *Turn) Give() {
	if t == nil || t.gate == nil {
		return
	}
	t.gate.mu.Lock()
	t.taken = false
	t.leave(time.Now())
	t.gate.mu.Unlock()
}

// Rest gives the turn back for a while, until Resume. Several may rest at the same time,
// who work for one; it is over when the last of them resumes.
func (t *Turn) Rest() {
	if t == nil || t.gate == nil {
		return
	}
	t.gate.mu.Lock()
	t.rests++
	if t.taken {
		t.leave(time.Now())
	}
	t.gate.mu.Unlock()
}

// Resume ends a Rest; it waits as Take does.
func (t *Turn) Resume() {
	if t == nil || t.gate == nil {
		return
	}
	t.gate.mu.Lock()
	t.rests--
	t.enter()
}

// enter runs the turn or waits, if it is taken and nobody rests. It needs the lock, and
// gives it back.
func (t *Turn) enter() {
	g := t.gate
	if !t.taken || t.rests > 0 || t.runs || t.ready != nil {
		g.mu.Unlock()
		return
	}
	now := time.Now()
	p := g.party(t.name, now)
	t.party = p
	g.active(p, now)
	if p.running == 0 || len(p.queue) == 0 && p.running < g.most(p, now) {
		p.running++
		t.runs, t.since = true, now
		g.mu.Unlock()
		return
	}
	g.wait(t)
}

// wait queues the turn up. It needs the lock, and gives it back.
func (g *Gate) wait(t *Turn) {
	ready := make(chan struct{})
	t.ready = ready
	t.party.queue = append(t.party.queue, t)
	g.crowded[t.party] = struct{}{}
	if !g.watched {
		g.watched = true
		time.AfterFunc(stuck, g.look)
	}
	g.mu.Unlock()
	<-ready
}

// leave ends a turn that runs, or its wait. It needs the lock.
func (t *Turn) leave(now time.Time) {
	switch {
	case t.ready != nil:
		t.gate.leaveQueue(t)
	case t.runs:
		p := t.party
		t.used += now.Sub(t.since)
		t.runs = false
		p.running--
		t.gate.active(p, now)
		t.gate.admit(p, now)
	}
}

// Yield lets others go before in the middle of long work. It is worth about a microsecond:
// call it every millisecond or so.
func (t *Turn) Yield() {
	if t == nil || t.gate == nil {
		return
	}
	g := t.gate
	g.mu.Lock()
	if !t.runs {
		g.mu.Unlock()
		return
	}
	now, p := time.Now(), t.party
	g.active(p, now)
	most := g.most(p, now)
	if p.running > most || len(p.queue) > 0 && now.Sub(t.since) > quantum {
		t.leave(now)
		if len(p.queue) == 0 && p.running < most { // nobody wanted it after all
			p.running++
			t.runs, t.since = true, now
			g.mu.Unlock()
			return
		}
		g.wait(t)
		return
	}
	g.mu.Unlock()
	if most < math.MaxInt {
		runtime.Gosched()
	}
}

// Used returns how long the turn has run since it was taken.
func (t *Turn) Used() time.Duration {
	if t == nil || t.gate == nil {
		return 0
	}
	t.gate.mu.Lock()
	defer t.gate.mu.Unlock()
	if t.runs {
		return t.used + time.Since(t.since)
	}
	return t.used
}

// Beside returns one more turn for the same party, taken, if there is room without
// waiting. ok is false if there is none.
func (t *Turn) Beside() (second *Turn, ok bool) {
	if t == nil || t.gate == nil || t.name == "" {
		return nil, true
	}
	g := t.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	p := g.party(t.name, now)
	if len(p.queue) > 0 || p.running >= g.most(p, now) {
		return nil, false
	}
	g.active(p, now)
	p.running++
	return &Turn{gate: g, name: t.name, taken: true, runs: true, party: p, since: now}, true
}

// Over tells whether the party has more turns than it may now, so that one who can stop
// should.
func (t *Turn) Over() bool {
	if t == nil || t.gate == nil {
		return false
	}
	g := t.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	if !t.runs {
		return false
	}
	now := time.Now()
	g.active(t.party, now)
	return t.party.running > g.most(t.party, now)
}

type key struct{}

// With returns a context that carries a turn to whoever waits for something else than a
// processor on the way.
func With(ctx context.Context, t *Turn) context.Context { return context.WithValue(ctx, key{}, t) }

// Of returns the turn of a context, nil if it carries none.
func Of(ctx context.Context) *Turn {
	t, _ := ctx.Value(key{}).(*Turn)
	return t
}
