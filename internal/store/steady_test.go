package store

import (
	"io"
	"strings"
	"testing"
	"time"
)

// A clock that is ten years ahead must not make garbage of what a delivery under way is about
// to name, nor forget that a delivery was made.
func TestSweepWhileTheClockIsAhead(t *testing.T) {
	for _, ahead := range []time.Duration{time.Hour, 25 * time.Hour, 10 * 365 * 24 * time.Hour} {
		w := newWorld(t)
		if _, err := w.Sweep(ctx); err != nil {
			t.Fatal(err)
		}
		w.clock.t = w.clock.t.Add(20 * time.Hour)
		p := w.receive(t, hello+strings.Repeat("more than a small body\r\n", 2000))
		again := func() bool {
			first := false
			w.update(t, func(tx *Tx) (err error) { first, err = tx.Once("a delivery"); return err })
			return !first
		}
		again()
		w.clock.t = w.clock.t.Add(ahead)
		// The control: by the clock alone it is old.
		if old := w.clock.t.Add(-SweepAge).After(w.clock.t.Add(-ahead)); old != (ahead > SweepAge) {
			t.Fatalf("%v: old %v", ahead, old)
		}
		for range 3 { // an impatient administrator
			if s, err := w.Sweep(ctx); err != nil || s.Removed != 0 {
				t.Errorf("%v ahead: %+v, %v", ahead, s, err)
			}
		}
		inbox := w.box(t, "INBOX").ID
		w.update(t, func(tx *Tx) error { _, err := tx.Append(inbox, NewMessage{Parcel: p}); return err })
		w.clock.t = w.clock.t.Add(-ahead)
		if _, err := w.Sweep(ctx); err != nil {
			t.Fatal(err)
		}
		if !again() {
			t.Errorf("%v ahead: the key of a delivery is forgotten", ahead)
		}
		r, err := p.Open(ctx, 0, -1)
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		if err != nil {
			t.Errorf("%v ahead: %v", ahead, err)
		}
		w.verify(t)
	}
}
