package store

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/martlet-mail/martlet/internal/turn"
)

// Who waits for a picture that somebody else makes, on a disk that takes its time, can give
// up, and the clock of a bubble goes on meanwhile.
func TestSlowLockCanBeGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lock := newSlowLock()
		lock.Lock()
		if lock.TryLock() {
			t.Fatal("two hold it")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := lock.LockIn(ctx); err != context.DeadlineExceeded {
			t.Errorf("%v", err)
		}
		time.AfterFunc(time.Hour, lock.Unlock)
		if err := lock.LockIn(t.Context()); err != nil {
			t.Error(err)
		}
		lock.Unlock()
		if !lock.TryLock() {
			t.Error("nobody holds it")
		}
	})
}

// Who waits for it leaves the processor to others of his account meanwhile, and has it back at
// once when he has the lock.
func TestSlowLockRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := turn.NewGate(2)
		other := g.Turn()
		other.Take("other")
		lock := newSlowLock()
		lock.Lock()
		got := make(chan error, 1)
		go func() {
			work := g.Turn()
			work.Take("alice")
			defer work.Give()
			got <- lock.LockIn(turn.With(t.Context(), &work))
		}()
		synctest.Wait()
		var beside [16]turn.Turn // they are all in only if he rests
		for i := range beside {
			beside[i] = g.Turn()
			beside[i].Take("alice")
		}
		lock.Unlock()
		synctest.Wait()
		select {
		case err := <-got:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("he waits with the lock")
		}
		for i := range beside {
			beside[i].Give()
		}
		other.Give()
	})
}
