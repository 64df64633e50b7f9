package netsrv

import (
	"context"
	"os"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// SetIdle changes how long Wait waits, from its next call on. A protocol lengthens
// it after login (30 minutes for IMAP: RFC 9051, 5.4).
func (c *Conn) SetIdle(d time.Duration) { c.idle = d }

const (
	tooIdle  = "idle for too long"
	tooSlow  = "too slow"
	noLogin  = "no login in time"
	stopsNow = "server stops"
)

// tooLong is the error of a wait that has taken too long.
func (c *Conn) tooLong() error { return c.readErr(os.ErrDeadlineExceeded, tooIdle) }

// Wait waits until the client has sent something. It flushes W first and holds no
// buffers while waiting. Call it before each command.
//
// input is false if Wake ended the wait. An error ends the session: kind Closed
// when the client is gone (cause io.EOF or of the network) or the server is
// stopping (see Stopping), Limited when the idle time is over.
//
// From Wait on, reading keeps a rule of progress until the next Wait: all reads
// together may wait for Options.Stall, plus a second for each MinRate bytes that
// came. So a client may pause or be slow, but one byte a minute is cut off soon,
// with an error of kind Limited. Writing keeps the same rule for each write.
func (c *Conn) Wait() (input bool, err error) {
	input, done, err := c.beginWait()
	if done {
		return input, err
	}
	c.work.Rest()
	input, done, err = c.listen(c.until)
	c.work.Resume()
	if !done {
		err = c.tooLong()
	}
	c.acquire()
	return input, err
}

// beginWait does what comes before every wait. done means that there is nothing to wait
// for.
func (c *Conn) beginWait() (input, done bool, err error) {
	if c.R.Buffered() > 0 || c.hasFirst {
		c.work.Yield() // commands that came together are not one
		c.raw.restart()
		return true, true, c.stopErr()
	}
	if err := c.flush(); err != nil {
		return false, true, err
	}
	c.release()
	c.until = c.raw.latest(time.Now().Add(c.idle))
	return false, false, nil
}

// listen waits for a byte of the client, until a time. done is false if it did not come
// and nothing else has ended the wait: all that was read before has been used.
func (c *Conn) listen(until time.Time) (input, done bool, err error) {
	if !c.beginListen(until) {
		return false, true, c.stopErr()
	}
	n := 0
	for n == 0 && err == nil { // a Read may bring nothing, and pipes do
		n, err = c.read(c.first[:])
	}

	c.mu.Lock()
	c.waiting = false
	stopped := c.mustStop()
	woken := n == 0 && c.woken && !stopped
	if woken {
		c.woken = false
	}
	c.mu.Unlock()
	if n > 0 {
		c.hasFirst, c.drained = true, false
	}
	c.raw.restart()
	switch {
	case n > 0:
		return true, true, nil
	case woken && isTimeout(err):
		return false, true, nil
	case isTimeout(err) && !stopped:
		return false, false, nil
	}
	return false, true, c.readErr(err, tooIdle)
}

// beginListen sets the time of the reads to come, unless the connection has been called.
func (c *Conn) beginListen(until time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mustStop() || c.woken {
		c.woken = false
		return false
	}
	c.raw.waitUntil(until)
	c.waiting = true
	return true
}

// Wake ends a wait from another goroutine, the next one if none is running. Calls
// coalesce. It returns at once.
func (c *Conn) Wake() {
	c.mu.Lock()
	c.woken = true
	unparked := c.endWait()
	c.mu.Unlock()
	if unparked {
		c.srv.calls.add(c)
	}
}

// endWait ends the wait. With unparked, the caller now owns the connection. It needs the
// lock.
func (c *Conn) endWait() (unparked bool) {
	if c.waiting {
		c.raw.interrupt()
	}
	return c.unpark()
}

// Hold tells whether the client is in the middle of something that takes several commands,
// such as a message and its recipients: a server that stops lets it go on with that for
// most of Options.Grace, and Stopping is false as long.
func (c *Conn) Hold(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = on
}

// Delay lets the client wait, without a turn and without what it has been answered so far:
// for clients that are not to be served fast. It ends early when ctx does.
func (c *Conn) Delay(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	c.work.Rest()
	defer c.work.Resume()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// Stopping tells whether the server is stopping.
func (c *Conn) Stopping() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mustStop()
}

// mustStop tells whether the session is to end now. It needs the lock.
func (c *Conn) mustStop() bool { return c.stopped && (c.hurried || !c.held) }

// stop tells the session that the server stops; with hurry it must not be held.
func (c *Conn) stop(hurry bool) {
	c.mu.Lock()
	c.stopped, c.hurried = true, hurry
	unparked := c.mustStop() && c.endWait()
	c.mu.Unlock()
	if unparked {
		go c.carryOn(called)
	}
}

func (c *Conn) stopErr() error {
	if c.Stopping() {
		return fault.New(fault.Closed, "server is stopping")
	}
	return nil
}
