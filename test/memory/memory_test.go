package memory

import "testing"

var kept []byte

type failing struct {
	testing.TB
	failed bool
}

func (f *failing) Helper()               {}
func (f *failing) Fatalf(string, ...any) { f.failed = true }

// A length that is believed is seen, and what is within the limit is not.
func TestBounded(t *testing.T) {
	for size, want := range map[int]bool{1 << 10: false, 64 << 10: false, 8 << 20: true} {
		f := &failing{TB: t}
		Bounded(f, 64<<10, func() { kept = make([]byte, size) })
		if f.failed != want {
			t.Errorf("%d bytes: %v", size, f.failed)
		}
	}
}
