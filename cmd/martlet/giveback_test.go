package main

import "testing"

func TestCalm(t *testing.T) {
	const mb = 1 << 20
	var c calm
	for i, step := range []struct {
		allocated, live uint64
		back            bool // memory is given back
	}{
		{30 * mb, 10 * mb, false}, // the start was no quiet second
		{30 * mb, 10 * mb, true},
		{30 * mb, 10 * mb, false}, // nothing new
		{31*mb - 1, 10 * mb, false},
		{39*mb - 1, 10 * mb, false}, // busy
		{39 * mb, 10 * mb, true},
		{60 * mb, 100 * mb, false},
		{60*mb + 1, 100 * mb, false}, // too little for a large heap
		{64 * mb, 100 * mb, false},
		{64*mb + 1, 100 * mb, true},
	} {
		back := c.due(step.allocated, step.live)
		if back != step.back {
			t.Errorf("step %d: %v", i, back)
		}
		if back {
			c.back = step.allocated
		}
	}
}

// The names are the runtime's, which may change.
func TestHeapIsMeasured(t *testing.T) {
	allocated, live := heapNow(heapSamples())
	if allocated == 0 || live > allocated {
		t.Error(allocated, live)
	}
}
