package store

import (
	"sync"

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
// 16 bytes for each CopyTo or MoveTo meanwhile.
func (s *Store) NoteCrossings() (so func() []Crossing, stop func()) {
	c := &s.crossings
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readers++
	begin := len(c.list)
	so = func() []Crossing {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.list[begin:len(c.list):len(c.list)]
	}
	return so, sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.readers--; c.readers == 0 {
			c.list = nil
		}
	})
}

func (c *crossings) note(from, to mail.AccountID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.readers > 0 {
		c.list = append(c.list, Crossing{from, to})
	}
}
