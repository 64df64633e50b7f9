package store

import "context"

// turn is a lock for what may take long: who waits for it can give up. Unlike a mutex it
// lets the clock of a test go on (testing/synctest) while its holder waits for the disk.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

func (t turn) Lock()   { t <- struct{}{} }
func (t turn) Unlock() { <-t }

// LockIn is Lock, unless ctx ends before.
func (t turn) LockIn(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turn) TryLock() bool {
	select {
	case t <- struct{}{}:
		return true
	default:
		return false
	}
}
