package queue

import (
	"bytes"
	"sync"
)

// heads remembers where lists in the store begin. What was taken off the front of a list
// leaves marks behind, which a look would walk over one by one until the engine has tidied
// up: after a rush these are many thousands. All it says is a lower bound, held in memory,
// and may be forgotten at any time.
type heads struct {
	mu         sync.Mutex
	gen        uint64
	young, old map[string]*head
}

// head is the front of one list: nothing lies before low. high is the greatest front
// that a change under way has found; a key that is put before it ends that change's right
// to raise low, for which gen stands.
type head struct {
	low, high []byte
	gen       uint64
}

// maxHeads bounds the lists that are remembered; the ones looked at longest ago go.
const maxHeads = 4096

func (h *heads) get(prefix []byte) *head {
	if e := h.young[string(prefix)]; e != nil {
		return e
	}
	e := h.old[string(prefix)]
	if e != nil {
		h.keep(prefix, e)
	}
	return e
}

func (h *heads) keep(prefix []byte, e *head) {
	if len(h.young) >= maxHeads/2 {
		h.old, h.young = h.young, nil
	}
	if h.young == nil {
		h.young = map[string]*head{}
	}
	h.young[string(prefix)] = e
}

// from returns the key at which a scan of a list may begin, and the generation.
func (h *heads) from(prefix []byte) (low []byte, gen uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.get(prefix)
	if e == nil {
		h.gen++
		e = &head{low: bytes.Clone(prefix), gen: h.gen}
		h.keep(prefix, e)
	}
	return e.low, e.gen
}

// forget forgets all: others have changed the lists.
func (h *heads) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.young, h.old = nil, nil
}

// added is told of a key before it is put, in the Update that puts it.
func (h *heads) added(prefix, key []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.get(prefix)
	if e == nil {
		return
	}
	if bytes.Compare(key, e.low) < 0 {
		e.low = bytes.Clone(key)
	}
	if bytes.Compare(key, e.high) < 0 {
		h.gen++
		e.high, e.gen = nil, h.gen
	}
}

// found is told of the front of a list by the Update that has looked at it.
func (h *heads) found(r raise) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.get(r.prefix); e != nil && e.gen == r.gen && bytes.Compare(r.key, e.high) > 0 {
		e.high = r.key
	}
}

// raise is the front of a list after a change that is not yet made.
type raise struct {
	prefix, key []byte
	gen         uint64
}

// apply takes a front over, once the change is made.
func (h *heads) apply(r raise) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.get(r.prefix); e != nil && e.gen == r.gen && bytes.Compare(r.key, e.low) > 0 {
		e.low = r.key
	}
}
