package main

import (
	"context"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// aloneFor is how long one waits for another node to end what only one does at a time.
const aloneFor = time.Minute

// alone keeps something to one node at a time: it is the Alone of directory.Options. A command
// that is run beside the nodes is none, and has no locks.
func (h *house) alone(ctx context.Context, what string) (still func() bool, release func(), err error) {
	files := h.node.Files()
	within, cancel := context.WithTimeout(ctx, aloneFor)
	defer cancel()
	err = files.Lock(within, what)
	switch {
	case fault.Is(err, fault.Unsupported):
		return func() bool { return true }, func() {}, nil
	case err != nil && ctx.Err() == nil && within.Err() != nil:
		return nil, nil, fault.Wrap(fault.Busy, "another node is at work on accounts, try again shortly", err)
	case err != nil:
		return nil, nil, err
	}
	return func() bool { return files.Holds(what) }, func() {
		if err := files.Unlock(context.WithoutCancel(ctx), what); err != nil {
			h.log.Warn("a lock is not given back; other nodes wait for it", "lock", what, "err", err)
		}
	}, nil
}
