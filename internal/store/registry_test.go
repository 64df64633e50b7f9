package store

import "testing"

// What a sweep and the keeping of deleted mail note in the list of accounts is known to
// verify.
func TestVerifyKnowsTheRegistry(t *testing.T) {
	w := newWorld(t)
	if _, err := w.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Verify(ctx, func(p Problem) { t.Errorf("%+v", p) }, nil); err != nil {
		t.Fatal(err)
	}
}
