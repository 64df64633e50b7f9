package netsrv

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// acceptAll hands each accepted connection to fn until ctx ends or ln is closed.
// Whatever else goes wrong (no file descriptors left, a peer gone before its turn)
// passes: it waits a little and goes on, for a server that stops accepting for good
// is worse than one that is slow.
func (s *Server) acceptAll(ctx context.Context, ln net.Listener, fn func(net.Conn)) error {
	const shortest, longest = 5 * time.Millisecond, time.Second
	pause := shortest
	for {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			pause = shortest
			fn(nc)
			continue
		case ctx.Err() != nil, errors.Is(err, net.ErrClosed):
			return err
		}
		s.opt.Log.Error("cannot accept connections", "address", ln.Addr(), "err", err, "retry", pause)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
		pause = min(2*pause, longest)
	}
}

// openConns are the connections of one listener.
type openConns struct {
	mu      sync.Mutex
	set     map[net.Conn]*Conn // nil before the session has begun
	stopped bool
	hurried bool
	empty   chan struct{} // closed when the last one goes; nil until drain
}

func newOpenConns() *openConns { return &openConns{set: map[net.Conn]*Conn{}} }

func (o *openConns) add(nc net.Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.set[nc] = nil
}

// know tells which session is that of a connection.
func (o *openConns) know(nc net.Conn, c *Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.set[nc] = c
	if o.stopped {
		c.stop(o.hurried)
	}
}

// stop tells all sessions, and those that begin from now on, that the server stops; with
// hurry, that it waits for nothing any more.
func (o *openConns) stop(hurry bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stopped, o.hurried = true, hurry
	for _, c := range o.set {
		if c != nil {
			c.stop(hurry)
		}
	}
}

func (o *openConns) remove(nc net.Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.set, nc)
	if o.empty != nil && len(o.set) == 0 {
		close(o.empty)
	}
}

// drain waits for the sessions to end. What is left after three quarters of grace is
// hurried; what is left after all of it is closed by force.
func (o *openConns) drain(grace time.Duration, hurry func()) {
	o.mu.Lock()
	if len(o.set) == 0 {
		o.mu.Unlock()
		return
	}
	o.empty = make(chan struct{})
	o.mu.Unlock()

	soft, hard := time.NewTimer(grace/4*3), time.NewTimer(grace)
	defer soft.Stop()
	defer hard.Stop()
	for waiting := true; waiting; {
		select {
		case <-o.empty:
			return
		case <-soft.C:
			hurry()
			o.stop(true)
		case <-hard.C:
			waiting = false
		}
	}
	o.mu.Lock()
	for nc := range o.set {
		nc.Close()
	}
	o.mu.Unlock()
	<-o.empty
}
