package store

import (
	"context"

	"github.com/martlet-mail/martlet/internal/turn"
)

// slowLock is a lock for what may take long: who waits for it can give up, and leaves the
// processor to others. Unlike a mutex it lets the clock of a test go on (testing/synctest)
// while its holder waits for the disk.
type slowLock chan struct{}

func newSlowLock() slowLock { return make(slowLock, 1) }

func (l slowLock) Lock()   { l <- struct{}{} }
func (l slowLock) Unlock() { <-l }

// LockIn is Lock, unless ctx ends before.
func (l slowLock) LockIn(ctx context.Context) error {
	if l.TryLock() {
		return nil
	}
	work := turn.Of(ctx)
	work.Rest()
	defer work.Return() // at once: with the lock, nobody may wait for a processor
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l slowLock) TryLock() bool {
	select {
	case l <- struct{}{}:
		return true
	default:
		return false
	}
}
