package node

import (
	"testing"
	"testing/synctest"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// A term whose raising was in doubt, and had come to be, can be raised again: the lease is
// still that of this run. One that another has is lost, and known to be at once.
func TestAboveInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, err := newWorld(t, 1).open(0, "a") // and it does not run: nobody but the test looks
		if err == nil {
			err = a.Join(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		put := func(l lease) {
			_, err := a.change(t.Context(), func(w engine.Writer, s *snapshot) error { return s.putLease(w, "x", l) })
			if err != nil {
				t.Fatal(err)
			}
		}
		tenure := a.await(t.Context(), Lease{Name: "x"})
		put(lease{"a", a.run, 1001})
		if err := tenure.Above(t.Context(), 1000); err != nil || tenure.Term() <= 1001 || tenure.Lost() {
			t.Errorf("%v, term %d, lost %v", err, tenure.Term(), tenure.Lost())
		}
		put(lease{"b", run{1}, 5000})
		if err := tenure.Above(t.Context(), 6000); !fault.Is(err, fault.Busy) || !tenure.Lost() {
			t.Errorf("what another has: %v, lost %v", err, tenure.Lost())
		}
	})
}
