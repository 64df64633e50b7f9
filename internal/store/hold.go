package store

import (
	"context"
	"sync"
)

// HoldBodies keeps Sweep from removing anything until release is called. It waits for a
// Sweep under way, and neither for others who hold bodies nor for a Sweep that waits for
// them. Where several processes share the store it keeps those of others from it, too, for a
// week at most.
func (s *Store) HoldBodies(ctx context.Context) (release func(), err error) {
	here, err := s.bodies.take(ctx, false)
	if err != nil || s.shared == nil {
		return here, err
	}
	everywhere, err := s.noteHold(ctx)
	if err != nil {
		here()
		return nil, err
	}
	return sync.OnceFunc(func() { everywhere(); here() }), nil
}

// holds are those who hold bodies: many, or one alone. Who waits has nothing meanwhile, so
// a Sweep that waits for a long backup keeps nobody from restoring.
type holds struct {
	mu    sync.Mutex
	many  int
	alone bool
	freed chan struct{} // closed when there is less to wait for; nil: nobody waits
}

func (h *holds) take(ctx context.Context, alone bool) (release func(), err error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		freed, ok := h.try(alone)
		if ok {
			return sync.OnceFunc(func() { h.release(alone) }), nil
		}
		select {
		case <-freed:
		case <-ctx.Done():
		}
	}
}

// try takes what is wanted if it is free, or returns what to wait for.
func (h *holds) try(alone bool) (freed <-chan struct{}, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.alone || alone && h.many > 0 {
		if h.freed == nil {
			h.freed = make(chan struct{})
		}
		return h.freed, false
	}
	if h.alone = alone; !alone {
		h.many++
	}
	return nil, true
}

func (h *holds) release(alone bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.alone = false; !alone {
		h.many--
	}
	if h.freed != nil {
		close(h.freed)
		h.freed = nil
	}
}
