package s3

import (
	"context"
	"sync"
)

// room is memory that many share: who wants more than there is waits, first come, first
// served.
type room struct {
	mu    sync.Mutex
	free  int64
	queue []*guest
}

type guest struct {
	n    int64
	come chan struct{}
}

func newRoom(size int64) *room { return &room{free: size} }

func (r *room) take(ctx context.Context, n int64) error {
	r.mu.Lock()
	if len(r.queue) == 0 && n <= r.free {
		r.free -= n
		r.mu.Unlock()
		return nil
	}
	g := &guest{n, make(chan struct{})}
	r.queue = append(r.queue, g)
	r.mu.Unlock()
	select {
	case <-g.come:
		return nil
	case <-ctx.Done():
		r.leave(g)
		return ctx.Err()
	}
}

// leave takes somebody who gave up out of the queue, or gives back what he got meanwhile.
func (r *room) leave(g *guest) {
	r.mu.Lock()
	for i := range r.queue {
		if r.queue[i] == g {
			r.queue = append(r.queue[:i], r.queue[i+1:]...)
			r.mu.Unlock()
			r.give(0) // the next one may want less
			return
		}
	}
	r.mu.Unlock()
	r.give(g.n)
}

func (r *room) give(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.free += n
	for len(r.queue) > 0 && r.queue[0].n <= r.free {
		r.free -= r.queue[0].n
		close(r.queue[0].come)
		r.queue = r.queue[1:]
	}
}
