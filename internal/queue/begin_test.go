package queue

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// denied is a tenure that does not get the term it needs.
type denied struct{}

func (denied) Term() uint64 { return 1 }
func (denied) Begin() bool  { return true }
func (denied) End() bool    { return true }
func (denied) Above(context.Context, uint64) error {
	return fault.New(fault.Busy, "another node has the lease")
}

// Work that may not begin lasts as long as its right: whoever gave that would take an end of
// its own for one for good, and the part would be abandoned.
func TestWorkThatMayNotBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newCrew(t, 1, 6).list[0]
		h.start()
		err := h.handle.Update(t.Context(), PartShard(1), func(w engine.Writer) error { return w.Put([]byte{famOwner}, encodeOwner(1000)) })
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); h.q.Work(ctx, t.Context(), 1, denied{}) }()
		time.Sleep(time.Hour)
		select {
		case <-done:
			t.Error("it has ended, with its right to go on")
		default:
		}
		stop()
		<-done
	})
}
