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
		for name, hold := range map[string]func(testing.TB, int, func()){"again": Bounded, "once": Once} {
			f := &failing{TB: t}
			hold(f, 64<<10, func() { kept = make([]byte, size) })
			if f.failed != want {
				t.Errorf("%d bytes, %s: %v", size, name, f.failed)
			}
		}
	}
}

// What somebody else asked for meanwhile is not held against what is looked at.
func TestBoundedLooksAgain(t *testing.T) {
	for name, c := range map[string]struct {
		hold func(testing.TB, int, func())
		want bool
	}{"again": {Bounded, false}, "once": {Once, true}} {
		f, times := &failing{TB: t}, 0
		c.hold(f, 64<<10, func() {
			if times++; times == 1 {
				kept = make([]byte, 8<<20)
			}
		})
		if f.failed != c.want {
			t.Errorf("%s: %v", name, f.failed)
		}
	}
}
