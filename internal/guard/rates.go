package guard

import (
	"net/netip"
	"sync"
	"time"
)

// maxBlocks bounds the memory of rates: when there are more, those that are full again go,
// and if there are none, all.
const maxBlocks = 100_000

// rates are buckets that fill evenly, and are full after a minute.
type rates struct {
	mu sync.Mutex
	of map[netip.Prefix]*bucket
}

// bucket holds what a block of addresses may still send.
type bucket struct {
	left float64
	at   time.Time
}

// fill brings a bucket to the present.
func (b *bucket) fill(most int, now time.Time) {
	if passed := now.Sub(b.at); passed > 0 {
		b.left = min(float64(most), b.left+float64(most)*passed.Minutes())
	}
	b.at = now
}

// take takes one message out of a block's bucket, if there is one.
func (r *rates) take(block netip.Prefix, most int, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.of[block]
	if b == nil {
		r.makeRoom(now)
		b = &bucket{left: float64(most), at: now}
		r.of[block] = b
	}
	b.fill(most, now)
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

func (r *rates) makeRoom(now time.Time) {
	if len(r.of) < maxBlocks {
		return
	}
	for block, b := range r.of {
		if now.Sub(b.at) > time.Minute {
			delete(r.of, block)
		}
	}
	if len(r.of) >= maxBlocks {
		clear(r.of)
	}
}
