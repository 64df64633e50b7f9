package node

import (
	"testing"
	"testing/synctest"
	"time"
)

// Who was cut off while he had a lock knows that he may have it no more.
func TestLockIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		a, b := w.node(0, "a"), w.node(1, "b")
		if a.Files().Holds("x") {
			t.Error("it has a lock that nobody took")
		}
		if err := a.Files().Lock(t.Context(), "x"); err != nil || !a.Files().Holds("x") {
			t.Errorf("%v: it has not what it took", err)
		}
		time.Sleep(time.Hour)
		if !a.Files().Holds("x") {
			t.Error("it has lost a lock, though it lives")
		}
		a.engine.Down(true)
		time.Sleep(3 * leaseTime)
		if a.Files().Holds("x") {
			t.Error("it believes to have a lock that others may have")
		}
		if err := b.Files().Lock(t.Context(), "x"); err != nil {
			t.Error(err)
		}
		a.engine.Down(false)
		time.Sleep(leaseTime)
		if a.Files().Holds("x") || !b.Files().Holds("x") {
			t.Error("another has it, and it believes to have it, too")
		}
	})
}
