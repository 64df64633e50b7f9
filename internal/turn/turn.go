// Package turn shares the processors among parties that want to work at the same time.
// A party is an account, or whoever else is to be served like one.
//
// Whoever works for a party takes a turn, rests while he waits for something else than a
// processor (his client, the disk), and gives the turn back. As long as a party is alone,
// it may have as many turns as it likes. Beside others it has those processors that the
// others leave, or its part of all where they leave none: a hundred connections of one account that search take
// no more from the next one than one connection would. What a party has over that waits,
// first come, first served.
//
// A turn costs a fraction of a microsecond. The first one of a party waits only if there are
// more parties than processors and it has had its part of them, and 50 ms at most. Nobody is
// stopped in the middle of his work: what takes long calls Yield now and then. A party whose
// turns make no sign for a while, as on a disk that does not answer, is let have some more.
//
// Nobody may wait for a turn with a lock in his hands: whoever waits for that lock with a turn
// is one more that the holder waits for. Whoever may hold one, or is getting one, ends a
// Rest by Return, which does not wait.
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
	// What parties have used at the same time in this time or the one before is kept for
	// them: their next commands are on their way, and find a processor that waits.
	window = 250 * time.Millisecond

	quantum = 10 * time.Millisecond // after which a turn is passed on within a party
	stuck   = 5 * time.Millisecond  // without a sign from its turns a party gets one more
	patient = 10                    // times so long a party waits for its first turn, at most
	extra   = 8                     // such turns at most, for each processor
)

// Gate hands out turns. Its methods and those of its turns may be called from many
// goroutines.
type Gate struct {
	processors int

	mu      sync.Mutex
	parties map[string]*party // those with turns under way or waiting
	spare   []*party
	crowded map[*party]struct{} // those with somebody in their queue
	watched bool                // a timer runs that looks after them

	abreast int       // parties that have turns now
	most    [2]int    // as many at most in this window and in the one before
	began   time.Time // this window
	windows uint64    // that have begun
}

// party is one that works or waits.
type party struct {
	name    string
	running int   // turns under way
	queue   queue // that wait
	moved   bool  // a turn gave a sign of life since the last look
	looks   int   // that have found it waiting for its first turn

	spent time.Duration // by its turns in a window
	in    uint64        // that window
}

// queue is a list of turns that wait, first come first.
type queue struct {
	first, last *Turn
	len         int
}

func (q *queue) add(t *Turn) {
	if t.before = q.last; t.before == nil {
		q.first = t
	} else {
		t.before.behind = t
	}
	q.last = t
	q.len++
}

func (q *queue) remove(t *Turn) {
	if t.before == nil {
		q.first = t.behind
	} else {
		t.before.behind = t.behind
	}
	if t.behind == nil {
		q.last = t.before
	} else {
		t.behind.before = t.before
	}
	t.before, t.behind = nil, nil
	q.len--
}

// NewGate returns a gate for so many processors; 0: all that this process has.
func NewGate(processors int) *Gate {
	if processors <= 0 {
		processors = runtime.GOMAXPROCS(0)
	}
	return &Gate{processors: processors, parties: map[string]*party{}, crowded: map[*party]struct{}{}}
}

// room is how many turns a party may have beside the others: none, if there are more of them
// than processors and it has had its part of this window.
func (g *Gate) room(p *party, now time.Time) int {
	g.turnWindow(now)
	others := max(g.most[0], g.most[1]) - 1
	switch left := g.processors - others; {
	case others <= 0:
		return math.MaxInt
	case left > 0:
		return left
	case p.in == g.windows && p.spent > window*time.Duration(g.processors)/time.Duration(others+1):
		return 0
	}
	return 1
}

// may tells whether a party may have one more turn now.
func (g *Gate) may(p *party, now time.Time) bool { return p.running < g.room(p, now) }

// spend notes that a turn has run since it was last noted.
func (g *Gate) spend(t *Turn, now time.Time) {
	p, ran := t.party, now.Sub(t.noted)
	if g.turnWindow(now); p.in != g.windows {
		p.in, p.spent = g.windows, 0
		ran = min(ran, now.Sub(g.began))
	}
	p.spent, t.noted = p.spent+ran, now
}

// turnWindow begins a new window if it is time.
func (g *Gate) turnWindow(now time.Time) {
	past := now.Sub(g.began)
	if past < window {
		return
	}
	g.most[1] = g.most[0]
	if past >= 2*window {
		g.most[1] = g.abreast
	}
	g.most[0], g.began = g.abreast, now
	g.windows++
	for _, p := range g.parties { // whose account of the last window was kept
		if p.running == 0 && p.queue.len == 0 {
			g.forget(p)
		}
	}
}

// forget lets go of a party that has no turns.
func (g *Gate) forget(p *party) {
	delete(g.parties, p.name)
	if len(g.spare) < maxSpare {
		*p = party{}
		g.spare = append(g.spare, p)
	}
}

// begin counts a turn.
func (g *Gate) begin(t *Turn, now time.Time) {
	p := t.party
	if p.running++; p.running == 1 {
		g.turnWindow(now)
		g.abreast++
		g.most[0] = max(g.most[0], g.abreast)
	}
	t.runs, t.since, t.noted = true, now, now
	p.looks, p.moved = 0, true
}

// end takes a turn out of the count, and lets another in.
func (g *Gate) end(t *Turn, now time.Time) {
	p := t.party
	g.spend(t, now)
	t.used += now.Sub(t.since)
	t.runs, p.moved = false, true
	if p.running--; p.running == 0 {
		g.turnWindow(now)
		g.abreast--
	}
	g.admit(p, now)
	t.party = nil
	if p.running == 0 && p.queue.len == 0 && p.spent < little {
		g.forget(p)
	}
}

const (
	maxSpare = 64
	little   = window / 100 // that a party has spent is soon forgotten
)

// party returns the party of a name.
func (g *Gate) party(name string) *party {
	p := g.parties[name]
	if p != nil {
		return p
	}
	if n := len(g.spare); n > 0 {
		p, g.spare = g.spare[n-1], g.spare[:n-1]
		p.name = name
	} else {
		p = &party{name: name}
	}
	g.parties[name] = p
	return p
}

// admit lets those of a party's queue in that there is room for.
func (g *Gate) admit(p *party, now time.Time) {
	for p.queue.len > 0 && g.may(p, now) {
		g.next(p, now)
	}
}

// next lets the first of a queue in.
func (g *Gate) next(p *party, now time.Time) {
	t := p.queue.first
	g.leaveQueue(t)
	g.begin(t, now)
}

// leaveQueue takes a turn out of its party's queue, whose waiter then goes on.
func (g *Gate) leaveQueue(t *Turn) {
	p := t.party
	if p.queue.remove(t); p.queue.len == 0 {
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
		switch {
		case p.queue.len == 0:
		case p.running == 0:
			if p.looks++; p.looks >= patient {
				g.next(p, now)
			}
		case !p.moved && p.running < extra*g.processors:
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
	noted time.Time     // until then it is in what its party has spent
	used  time.Duration // it ran before, since Take

	before, behind *Turn // while it waits: those beside it in the queue
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

// Resume ends a Rest; it waits as Take does, so that whoever calls it must not hold a lock.
func (t *Turn) Resume() {
	if t == nil || t.gate == nil {
		return
	}
	t.gate.mu.Lock()
	t.rests--
	t.enter()
}

// Return ends a Rest without a wait, for who may hold what others wait for. If there is no
// room for the turn it is one too many, until the next Yield, Rest or Take.
func (t *Turn) Return() {
	if t == nil || t.gate == nil {
		return
	}
	g := t.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	if t.rests--; !t.enters() {
		return
	}
	now := time.Now()
	g.turnWindow(now) // before it is looked for: this forgets parties
	t.party = g.party(t.name)
	g.begin(t, now)
}

// enters tells whether the turn is to run and does not: it is taken, and nobody rests.
func (t *Turn) enters() bool { return t.taken && t.rests <= 0 && !t.runs && t.ready == nil }

// enter runs the turn or waits, if it is taken and nobody rests. It needs the lock, and
// gives it back.
func (t *Turn) enter() {
	g := t.gate
	if !t.enters() {
		g.mu.Unlock()
		return
	}
	now := time.Now()
	g.turnWindow(now) // before it is looked for: this forgets parties
	p := g.party(t.name)
	t.party = p
	if p.queue.len == 0 && g.may(p, now) {
		g.begin(t, now)
		g.mu.Unlock()
		return
	}
	g.wait(t)
}

// wait queues the turn up. It needs the lock, and gives it back.
func (g *Gate) wait(t *Turn) {
	ready := make(chan struct{})
	t.ready = ready
	t.party.queue.add(t)
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
		t.gate.end(t, now)
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
	g.spend(t, now)
	room := g.room(p, now)
	p.moved = true
	if p.running > room || p.queue.len > 0 && now.Sub(t.since) > quantum {
		g.yield(t, now)
		return
	}
	g.mu.Unlock()
	if room < math.MaxInt {
		runtime.Gosched()
	}
}

// yield has the turn wait behind those that wait, if there are any or there is no room.
// It needs the lock, and gives it back.
func (g *Gate) yield(t *Turn, now time.Time) {
	t.leave(now)
	t.enter()
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
	g.turnWindow(now)
	p := g.party(t.name)
	if p.queue.len > 0 || !g.may(p, now) {
		return nil, false
	}
	second = &Turn{gate: g, name: t.name, taken: true, party: p}
	g.begin(second, now)
	return second, true
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
	t.party.moved = true
	return t.party.running > g.room(t.party, time.Now())
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
