package store

import (
	"context"
	"sync"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Crossing is that messages have come from one account to another. Until it is noted none
// of them has left the account they came from.
type Crossing struct{ From, To mail.AccountID }

// crossings are noted for those who read accounts one after another, and must not miss what
// goes meanwhile from one that they have yet to read into one that they have read.
type crossings struct {
	mu      sync.Mutex
	readers int
	list    []Crossing // since the first of the readers began
}

// NoteCrossings begins to note. so returns all since then, in order; stop ends it. Memory:
// 16 bytes for each CopyTo or MoveTo meanwhile. Those of other processes are noted while
// bodies are held (HoldBodies), which is to have begun before.
func (s *Store) NoteCrossings(ctx context.Context) (so func() ([]Crossing, error), stop func(), err error) {
	if s.shared != nil {
		var begin uint64
		err := s.eng.Update(ctx, holdShard, func(w engine.Writer) (err error) { begin, err = nextHold(w); return err })
		return func() ([]Crossing, error) { return s.crossedSince(ctx, begin) }, func() {}, err
	}
	c := &s.crossings
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readers++
	begin := len(c.list)
	so = func() ([]Crossing, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.list[begin:len(c.list):len(c.list)], nil
	}
	return so, sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.readers--; c.readers == 0 {
			c.list = nil
		}
	}), nil
}

func (c *crossings) note(from, to mail.AccountID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.readers > 0 {
		c.list = append(c.list, Crossing{from, to})
	}
}
