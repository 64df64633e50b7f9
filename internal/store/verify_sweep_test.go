package store

import (
	"testing"
	"time"
)

// A message that goes, and whose body is swept, while verify reads its account is no damage.
func TestVerifyBesideSweep(t *testing.T) {
	w := newWorld(t)
	w.deliver(t, "INBOX", "Subject: 1\r\n\r\n"+randText(100_000))
	w.deliver(t, "INBOX", "Subject: 2\r\n\r\n"+randText(150_000)[70_000:])
	w.letPass(t, 5*24*time.Hour)
	swept := make(chan error, 1)
	first := true
	_, err := w.Verify(ctx, func(p Problem) { t.Errorf("%+v", p) }, func(Verified) {
		if !first {
			return
		}
		first = false
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.expunge(t, "INBOX", 2)
			_, err := w.Sweep(ctx)
			swept <- err
		}()
		select { // it waits, or takes the body now
		case <-done:
		case <-time.After(time.Second):
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-swept; err != nil {
		t.Error(err)
	}
}
