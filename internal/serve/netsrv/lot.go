package netsrv

import (
	"sync"
	"time"
)

// lot is where connections wait that have no goroutine. It watches their sockets, all of
// them with one goroutine (lot_linux.go), and their time, with one timer.
type lot struct {
	mu     sync.Mutex
	users  int // calls of Serve; the lot is open while there are any
	poller *poller
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
	if l.users++; l.users == 1 {
		l.poller = newPoller(l.input) // nil: nothing can be parked here
	}
}

// end is what each user calls when none of its connections is left.
func (l *lot) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users--; l.users > 0 {
		return
	}
	if l.poller != nil {
		l.poller.close()
	}
	if l.sweeper != nil {
		l.sweeper.Stop()
	}
	l.poller, l.sweeper, l.sweepAt = nil, nil, time.Time{}
}

// takes tells whether a socket can be watched.
func (l *lot) takes(raw *pacedConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.poller != nil && canPoll(raw.Conn)
}

// enter gives a connection its place, where it has none yet, and looks to it that its
// time is watched. Its input is to be watched by the poller.
func (l *lot) enter(c *Conn) (p *poller, turn int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.place == 0 {
		if len(l.free) == 0 {
			l.free = append(l.free, int32(len(l.places)))
			l.places = append(l.places, place{})
		}
		i := l.free[len(l.free)-1]
		l.free = l.free[:len(l.free)-1]
		l.places[i].c = c
		c.place = i + 1
	}
	if l.sweepAt.IsZero() || c.until.Before(l.sweepAt) {
		l.sweepBy(c.until)
	}
	return l.poller, l.places[c.place-1].turn
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
