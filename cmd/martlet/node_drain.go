package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/node"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
)

// A node leaves in steps: /readyz says so and its leases go to others at once; when whoever
// spreads clients has had time to see it, sessions are told, as at a stop, and new ones are
// sent away until it is told to stay.

// live keeps the node alive until leave is called, which says good-bye. If the node may not go
// on stop is told why.
func (h *house) live(stop func(error)) (leave func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := h.node.Run(ctx); err != nil {
			stop(fmt.Errorf("node %s: %w", h.node.Name(), err))
		}
	}()
	return func() {
		cancel()
		<-done
		h.signOff()
	}
}

// briefly is a context for what is tried once at the end.
func briefly() (context.Context, context.CancelFunc) {
	return context.WithTimeout(engine.Patient(context.Background(), time.Second), time.Second)
}

// depart prepares a stop: it returns when clients have had time to go to other nodes.
func (h *house) depart(ctx context.Context) {
	if !h.node.Shared() {
		return
	}
	c, end := briefly()
	err := h.node.Drain(c, h.node.Name(), true)
	end()
	if err != nil {
		h.log.Warn("the other nodes cannot be told that this one leaves", "err", err)
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(time.Duration(h.cfg.Cluster.Leave)):
	}
}

// awayLines are what clients are told that come while the node leaves.
func awayLine(p conf.Protocol) string {
	const text = "this server is being taken out of service; connect again, and another answers"
	switch {
	case strings.HasPrefix(string(p), "imap"):
		return "* BYE [UNAVAILABLE] " + text
	case strings.HasPrefix(string(p), "pop3"):
		return "-ERR [SYS/TEMP] " + text
	}
	return "421 4.3.2 " + text
}

// serveSessions runs a service on a listener until ctx ends. On a shared store its sessions
// end when the node leaves, and begin again when it stays.
func (h *house) serveSessions(ctx context.Context, sessions *netsrv.Server, d door, svc netsrv.Service) error {
	if !h.node.Shared() {
		return sessions.Serve(ctx, d.Listener, svc)
	}
	gate := newGate(d)
	defer gate.Close()
	go gate.accept()
	for {
		c, end := context.WithCancel(ctx)
		go func() {
			if leaves(c, h.node, time.Duration(h.cfg.Cluster.Leave)) {
				end()
			}
		}()
		err := sessions.Serve(c, gate.open(), svc)
		over := ctx.Err() != nil || c.Err() == nil // stopped, or the listener has failed
		end()
		if over {
			return err
		}
		for h.node.Draining() {
			looked := h.node.Looked()
			select {
			case <-ctx.Done():
				return nil
			case <-looked:
			}
		}
	}
}

// leaves waits until a node has been leaving for a time, and is not told to stay within it. It
// returns false when ctx ends before.
func leaves(ctx context.Context, n *node.Node, leave time.Duration) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-n.Drained():
		}
		over, stop := context.WithTimeout(ctx, leave)
		for looked := n.Looked(); n.Draining() && over.Err() == nil; looked = n.Looked() {
			select {
			case <-over.Done():
			case <-looked:
			}
		}
		stop()
		if ctx.Err() == nil && n.Draining() {
			return true
		}
	}
}

// gate takes the connections of a listener and hands them to sessions while it is open; while
// it is closed clients are sent away.
type gate struct {
	net.Listener
	away string // "": over TLS nothing can be said

	mu     sync.Mutex
	inside *gateway // nil: closed
}

// gateway is a gate while it is open: closing it leaves the listener as it is.
type gateway struct {
	*gate
	conns chan accepted
	done  chan struct{}
	once  sync.Once
}

type accepted struct {
	net.Conn
	err error
}

func newGate(d door) *gate {
	g := &gate{Listener: d.Listener}
	if d.TLS != conf.Implicit {
		g.away = awayLine(d.Protocol) + "\r\n"
	}
	return g
}

// open opens the gate.
func (g *gate) open() *gateway {
	in := &gateway{gate: g, conns: make(chan accepted), done: make(chan struct{})}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside = in
	return in
}

// accept takes connections until the listener is closed.
func (g *gate) accept() {
	for {
		c, err := g.Listener.Accept()
		g.mu.Lock()
		in := g.inside
		g.mu.Unlock()
		taken := false
		if in != nil {
			select {
			case in.conns <- accepted{c, err}:
				taken = true
			case <-in.done:
			}
		}
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil && !taken:
			time.Sleep(10 * time.Millisecond)
		case err == nil && !taken:
			go g.sendAway(c)
		}
	}
}

func (g *gate) sendAway(c net.Conn) {
	defer c.Close()
	if g.away != "" {
		c.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = c.Write([]byte(g.away)) // he has gone if this fails
	}
}

// Accept is of net.Listener.
func (in *gateway) Accept() (net.Conn, error) {
	select {
	case a := <-in.conns:
		return a.Conn, a.err
	case <-in.done:
		return nil, net.ErrClosed
	}
}

// Close closes the gate to sessions.
func (in *gateway) Close() error {
	in.once.Do(func() {
		close(in.done)
		in.gate.mu.Lock()
		if in.gate.inside == in {
			in.gate.inside = nil
		}
		in.gate.mu.Unlock()
	})
	return nil
}
