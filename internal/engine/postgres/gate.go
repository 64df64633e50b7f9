package postgres

import (
	"sync"

	"github.com/martlet-mail/martlet/internal/fault"
)

// gate lets calls in until it is closed, and Close out when the last has left.
type gate struct {
	mu     sync.Mutex
	inside int
	closed bool
	empty  *sync.Cond
}

var errClosed = fault.New(fault.Closed, "the store is closed")

func (g *gate) enter() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return errClosed
	}
	g.inside++
	return nil
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if g.inside == 0 && g.empty != nil {
		g.empty.Broadcast()
	}
}

// close tells whether this call is the one that closed the gate.
func (g *gate) close() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.closed = true
	g.empty = sync.NewCond(&g.mu)
	for g.inside > 0 {
		g.empty.Wait()
	}
	return true
}
