package store

import (
	"container/list"
	"sync"
)

// pictureCache bounds the memory of pictures that no session holds. A session's own
// picture lives as long as the session wants.
type pictureCache struct {
	mu    sync.Mutex
	limit int64
	size  int64
	order list.List // of *boxState, the most recently used in front
}

// pictureUse is a boxState's entry in the cache; guarded by the cache's mutex.
type pictureUse struct {
	element *list.Element
	cost    int64
}

// used marks s as just used, with s.mu held, and drops what has not been used for
// longest if memory is short.
func (c *pictureCache) used(s *boxState) {
	cost := s.picture.bytes()
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.use.element == nil {
		s.use.element = c.order.PushFront(s)
	} else {
		c.order.MoveToFront(s.use.element)
	}
	c.size += cost - s.use.cost
	s.use.cost = cost
	for e := c.order.Back(); c.size > c.limit && e != nil; {
		victim, next := e.Value.(*boxState), e.Prev()
		if victim != s && victim.mu.TryLock() { // one in use is no victim
			victim.picture, victim.base = nil, nil
			victim.mu.Unlock()
			c.order.Remove(e)
			c.size -= victim.use.cost
			victim.use = pictureUse{}
		}
		e = next
	}
}

// bytes estimates the memory of a picture. It looks at few sheets only: it is asked each
// time that a picture is.
func (p *Picture) bytes() int64 {
	const looks = 8
	n := int64(0)
	step := len(p.sheets)/looks + 1
	for i := 0; i < len(p.sheets); i += step {
		n += int64(p.sheets[i].bytes() * min(step, len(p.sheets)-i))
	}
	return 300 + int64(len(p.sheets))*20 + n
}
