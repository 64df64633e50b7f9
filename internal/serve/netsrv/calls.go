package netsrv

import (
	"runtime"
	"sync"
	"time"
)

// calls are the parked sessions that have been woken and whose turn has not come: a
// message to an account wakes all that wait for it, perhaps a thousand. They are
// served in order by a few workers, as many as can run at the same time. A worker may
// get stuck, with a client that does not read or a disk that does not write; then
// another is hired.
type calls struct {
	mu          sync.Mutex
	first, last *Conn
	workers     int
	served      uint64
	watched     bool // a watch is set
}

// stuck is how long the queue may stand still before one more worker is hired.
const stuck = 2 * time.Millisecond

func (q *calls) add(c *Conn) {
	q.mu.Lock()
	if q.last == nil {
		q.first = c
	} else {
		q.last.next = c
	}
	q.last = c
	hire := q.workers < runtime.GOMAXPROCS(0)
	if hire {
		q.workers++
	} else if !q.watched {
		q.watched = true
		seen := q.served
		time.AfterFunc(stuck, func() { q.watch(seen) })
	}
	q.mu.Unlock()
	if hire {
		go q.work()
	}
}

// work serves until nobody is left.
func (q *calls) work() {
	for {
		q.mu.Lock()
		c := q.first
		if c == nil {
			q.workers--
			q.mu.Unlock()
			return
		}
		if q.first = c.next; q.first == nil {
			q.last = nil
		}
		c.next = nil
		q.served++
		q.mu.Unlock()
		c.carryOn(called)
	}
}

// watch hires a worker if nobody has been served since.
func (q *calls) watch(seen uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.first == nil {
		q.watched = false
		return
	}
	if q.served == seen {
		q.workers++
		go q.work()
	}
	seen = q.served
	time.AfterFunc(stuck, func() { q.watch(seen) })
}
