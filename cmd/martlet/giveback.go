package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The garbage collector lets the heap grow to twice of what is in use, and keeps for two
// minutes what a burst of work has left: a login alone takes 19 MB for its password's
// hash. A mail server is idle most of the time, beside others on the same machine; so what
// is not in use goes back to the system as soon as it is quiet.

const (
	lookEvery = time.Second
	quietly   = 1 << 20 // bytes allocated between two looks, at most
	worth     = 8 << 20 // bytes allocated since memory was last given back, at least
)

// calm tells when to give memory back, from bytes ever allocated.
type calm struct{ last, back uint64 }

// due is asked at each look, with the bytes in use by the last count: a large heap costs
// more to look through, so there must be more to gain.
func (c *calm) due(allocated, live uint64) bool {
	quiet := allocated-c.last < quietly
	c.last = allocated
	return quiet && allocated-c.back >= max(worth, live/4)
}

// giveBack runs until ctx ends.
func giveBack(ctx context.Context) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var c calm
	heap := heapSamples()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
		if allocated, live := heapNow(heap); c.due(allocated, live) {
			debug.FreeOSMemory()
			c.back = allocated
		}
	}
}

func heapSamples() []metrics.Sample {
	return []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
}

func heapNow(heap []metrics.Sample) (allocated, live uint64) {
	metrics.Read(heap)
	return heap[0].Value.Uint64(), heap[1].Value.Uint64()
}
