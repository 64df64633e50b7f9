package netsrv

import (
	"sync"
	"sync/atomic"
	"time"
)

// lot is where connections wait that have no goroutine. It watches their sockets, all of
// them with one goroutine (lot_linux.go), and their time, with one timer.
type lot struct {
	poller atomic.Pointer[poller] // made for the first connection that it can watch

	mu     sync.Mutex
	users  int  // calls of Serve and ServeConn; the lot is open while there are any
	blind  bool // no poller can be had
	places []place
	free   []int32 // indexes of places

	sweeper *time.Timer
	sweepAt time.Time // when it fires; zero: not
}

// place is one connection's. Its turn tells late news of a connection that is gone from
// those of the one that has its place now.
type place struct {
	c    *Conn
	turn int32
}

// begin opens the lot, for one user more.
func (l *lot) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users++
}

// end is what each user calls when none of its connections is left.
func (l *lot) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users--; l.users > 0 {
		return
	}
	if p := l.poller.Swap(nil); p != nil {
		p.close()
	}
	l.blind = false
	if l.sweeper != nil {
		l.sweeper.Stop()
	}
	l.sweeper, l.sweepAt = nil, time.Time{}
}

// takes tells whether a socket can be watched.
func (l *lot) takes(raw *pacedConn) bool { return canPoll(raw.Conn) && l.watches() }

// watches tells whether there is a poller. Without a socket there is none: pipes, and the
// networks of tests that keep their own time, know nothing of the kernel.
func (l *lot) watches() bool {
	if l.poller.Load() != nil {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users == 0 || l.blind {
		return false
	}
	if l.poller.Load() == nil {
		p := newPoller(l.input)
		l.blind = p == nil
		l.poller.Store(p)
	}
	return !l.blind
}

// enter gives a connection its place, which it keeps.
func (l *lot) enter(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.free) == 0 {
		l.free = append(l.free, int32(len(l.places)))
		l.places = append(l.places, place{})
	}
	i := l.free[len(l.free)-1]
	l.free = l.free[:len(l.free)-1]
	l.places[i].c = c
	c.place, c.turn = i+1, l.places[i].turn
}

// due looks to it that the time of a connection that has parked is watched: before that a
// sweep would have passed it by. Its lock must be free, for a sweep takes it after the lot's.
func (l *lot) due(t time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users > 0 && (l.sweepAt.IsZero() || t.Before(l.sweepAt)) {
		l.sweepBy(t)
	}
}

// leave takes the place back.
func (l *lot) leave(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.place == 0 {
		return
	}
	i := c.place - 1
	l.places[i] = place{turn: l.places[i].turn + 1}
	l.free = append(l.free, i)
	c.place = 0
}

// input is what the poller tells.
func (l *lot) input(i, turn int32) {
	l.mu.Lock()
	var c *Conn
	if int(i) < len(l.places) && l.places[i].turn == turn {
		c = l.places[i].c
	}
	l.mu.Unlock()
	if c != nil {
		c.input()
	}
}

// sweepBy sets the one timer. It needs the lock.
func (l *lot) sweepBy(t time.Time) {
	l.sweepAt = t
	if l.sweeper == nil {
		l.sweeper = time.AfterFunc(time.Until(t), l.sweep)
		return
	}
	l.sweeper.Reset(time.Until(t))
}

// sweepParts is how exact the time of a wait is kept: to one part of so many.
const sweepParts = 500

// sweep ends the waits that have taken too long. There is no more than one sweep in a
// small part of the time that a wait may take, however many wait.
func (l *lot) sweep() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users == 0 {
		return
	}
	now := time.Now()
	var first time.Time
	pause := time.Duration(0)
	for i := range l.places {
		c := l.places[i].c
		if c == nil {
			continue
		}
		if due, may := c.expire(now); may > 0 && (first.IsZero() || due.Before(first)) {
			first, pause = due, may/sweepParts
		}
	}
	l.sweepAt = time.Time{}
	if !first.IsZero() {
		if soonest := now.Add(max(pause, time.Millisecond)); first.Before(soonest) {
			first = soonest
		}
		l.sweepBy(first)
	}
}
