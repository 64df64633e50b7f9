package store

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// Who waits for a picture that somebody else makes, on a disk that takes its time, can give
// up, and the clock of a bubble goes on meanwhile.
func TestTurnCanBeGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turn := newTurn()
		turn.Lock()
		if turn.TryLock() {
			t.Fatal("two hold it")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := turn.LockIn(ctx); err != context.DeadlineExceeded {
			t.Errorf("%v", err)
		}
		time.AfterFunc(time.Hour, turn.Unlock)
		if err := turn.LockIn(t.Context()); err != nil {
			t.Error(err)
		}
		turn.Unlock()
		if !turn.TryLock() {
			t.Error("nobody holds it")
		}
	})
}
