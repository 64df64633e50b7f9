package netsrv

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/martlet-mail/martlet/internal/turn"
)

// Session is the state of a protocol whose sessions wait without a goroutine. A session
// that waits in Wait keeps the stack it once needed; thousands wait at any time.
type Session interface {
	// Resume goes on after a wait, with what Wait would have returned. The session is
	// over when it returns without having called Park.
	Resume(input bool, err error)
	// Close is called once the session is over, after a panic too. What it writes is
	// still sent.
	Close()
}

// Park makes the session wait for its client as Wait does, when the handler, or Resume,
// has returned; that is to be the next thing it does. Then Resume is called, by another
// goroutine.
//
// quiet means that the client has let us expect that it will be silent (IDLE). From
// others the next command is awaited for a moment as Wait does it, which is faster.
func (c *Conn) Park(s Session, quiet bool) { c.session, c.parks, c.quiet = s, true, quiet }

// linger is how long a connection waits with its goroutine before it parks.
const linger = time.Second

// parking is what a Conn knows of its waits.
type parking struct {
	session Session
	parks   bool      // Park was called, and the wait has not begun
	quiet   bool      // as Park was told
	drained bool      // nothing was read that has not been used
	unfit   bool      // it cannot be parked
	until   time.Time // when the wait under way is too long
	place   int32     // in the lot, from 1 on; 0: none
	turn    int32     // of that place
	next    *Conn     // behind it in the queue of those that are called
}

// run is the life of a session until it parks for the first time.
func (c *Conn) run(ctx context.Context) {
	c.guarded(func() {
		c.acquire()
		c.Log().Debug("session begins", "peer", c.peer, "local", c.raw.LocalAddr())
		if c.svc.TLS == ImplicitTLS {
			if c.srv.tls == nil {
				c.over = "no certificate"
				return
			}
			if err := c.handshake(ctx); err != nil {
				c.over = "handshake failed"
				return
			}
		}
		c.svc.Handle(turn.With(ctx, &c.work), c)
	})
	if !c.parks {
		c.end()
		return
	}
	c.carryOn(parks)
}

// panicked is why a session is over.
const panicked = "panic"

// guarded runs a part of a session; a panic ends the session. All that may run code of a
// protocol, of package tls or of the connection itself is such a part.
func (c *Conn) guarded(part func()) {
	defer func() {
		if p := recover(); p != nil {
			if c.over != panicked {
				c.srv.panics.Add(1)
			}
			c.over, c.parks = panicked, false
			c.Log().Error("session ended by a panic", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	part()
}

// cause is why a session is carried on.
type cause uint8

const (
	parks   cause = iota // it has called Park
	heard                // there is input, or the client is gone
	called               // it was woken, or the server stops
	tooLong              // its time is over
)

// carryOn carries a session on until it is parked or over. Whoever calls it owns the
// connection, and does so no more when it has returned.
func (c *Conn) carryOn(why cause) {
	worker := why == called
	unasked := worker
	for {
		parked := false
		c.guarded(func() {
			var input bool
			var err error
			if input, parked, err = c.waited(why, unasked); parked {
				return
			}
			unasked = unasked && !input
			c.acquire()
			c.work.Take(c.party())
			c.session.Resume(input, err)
		})
		if parked {
			return
		}
		c.work.Give()
		if !c.parks {
			break
		}
		why = parks
	}
	if worker { // saying goodbye may take a while, and others wait to be called
		go c.end()
		return
	}
	c.end()
}

// waited returns how a wait has ended, or that it goes on without a goroutine.
func (c *Conn) waited(why cause, unasked bool) (input, parked bool, err error) {
	switch why {
	case called:
		c.mu.Lock()
		c.woken = false
		c.mu.Unlock()
		return false, false, c.stopErr()
	case tooLong:
		return false, false, c.tooLong()
	case heard: // whatever the time is: it came before that was over
		var done bool
		if input, done, err = c.listen(time.Now().Add(linger)); done {
			return input, false, err
		}
		c.drained = true // a part of a record of TLS
		return c.rest(true)
	}
	c.parks = false
	var done bool
	if input, done, err = c.beginWait(); done {
		return input, false, err
	}
	return c.rest(c.quiet || unasked)
}

// rest waits, at first with a goroutine unless the client is quiet.
func (c *Conn) rest(quiet bool) (input, parked bool, err error) {
	for {
		until, fit := c.until, c.fit()
		switch {
		case !fit:
		case !quiet:
			until = earlier(until, time.Now().Add(linger))
		case c.tls == nil && c.zip == nil:
			c.drained = true // by the kernel it is told
		default:
			until = longAgo // what has been read is given out, nothing more is waited for
		}
		if !fit || !quiet || !c.drained {
			var done bool
			if input, done, err = c.listen(until); done {
				return input, false, err
			}
			c.drained = true
		}
		if !fit {
			return false, false, c.tooLong()
		}
		switch c.park() {
		case isParked:
			return false, true, nil
		case isCalled:
			return false, false, c.stopErr()
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// fit tells whether the connection can be parked.
func (c *Conn) fit() bool { return !c.unfit && c.srv.lot.takes(&c.raw) }

const (
	isParked = iota
	isCalled // woken or stopped before it was
	isUnfit
)

// park lets go of the connection, unless it has just been called.
func (c *Conn) park() int {
	if c.place == 0 {
		c.srv.lot.enter(c)
	}
	c.log = nil
	until := c.until
	how := c.letGo()
	if how == isParked { // and c is another's
		c.srv.lot.due(until)
	}
	return how
}

// letGo is the moment of it.
func (c *Conn) letGo() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mustStop() || c.woken {
		c.woken = false
		return isCalled
	}
	if !c.armed {
		if c.srv.lot.poller.Load().arm(c.raw.Conn, c.place-1, c.turn) != nil {
			c.unfit = true
			return isUnfit
		}
		c.armed = true
	}
	c.parked = true
	return isParked
}

// unpark takes hold of the connection if it is parked. It needs the lock.
func (c *Conn) unpark() bool {
	was := c.parked
	c.parked = false
	return was
}

// input is called by the lot, once for each time it was armed.
func (c *Conn) input() {
	c.mu.Lock()
	c.armed = false
	unparked := c.unpark()
	c.mu.Unlock()
	if unparked {
		go c.carryOn(heard)
	}
}

// expire ends a wait that has taken too long by now. Else it returns when it will have,
// and how long it may take.
func (c *Conn) expire(now time.Time) (due time.Time, may time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.parked:
		return time.Time{}, 0
	case c.until.After(now):
		return c.until, c.idle
	}
	c.unpark()
	go c.carryOn(tooLong)
	return time.Time{}, 0
}

// end closes the connection of a session that is over.
func (c *Conn) end() {
	if c.session != nil {
		c.guarded(func() {
			c.acquire()
			c.session.Close()
		})
	}
	c.guarded(func() {
		c.flush()
		if c.tls != nil {
			c.raw.fixed = time.Now().Add(time.Second)
			c.tls.Close() // says close_notify
		}
	})
	c.guarded(func() {
		if c.over == "" || c.over == stopsNow { // its last words are to arrive
			c.raw.finish()
		} else {
			c.raw.Close()
		}
	})
	c.work.Give()
	c.release()
	c.Log().Info("session ends", "peer", c.peer, "lasted", time.Since(c.began).Round(time.Millisecond),
		"in", c.raw.in, "out", c.raw.out, "tls", c.tls != nil, "why", c.over)
	c.srv.lot.leave(c)
	c.srv.leave(c)
	c.open.remove(c.raw.Conn)
}
