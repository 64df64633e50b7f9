package dnsx

import (
	"container/list"
	"sync"
	"time"
)

// cache keeps answers until they run out and at most a number of them: the least
// recently used makes room. It is safe for many goroutines.
type cache struct {
	mu    sync.Mutex
	max   int
	order *list.List // of *entry, most recently used first
	byKey map[question]*list.Element
}

type entry struct {
	key   question
	ans   answer
	until time.Time
}

func newCache(max int) *cache {
	return &cache{max: max, order: list.New(), byKey: make(map[question]*list.Element)}
}

// get returns the answer to q with its remaining time to live.
func (c *cache) get(q question, now time.Time) (answer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.byKey[q]
	if !ok {
		return answer{}, false
	}
	e := el.Value.(*entry)
	if left := e.until.Sub(now); left <= 0 || left > e.ans.ttl { // over, or set by a clock that was ahead
		c.remove(el)
		return answer{}, false
	}
	c.order.MoveToFront(el)
	ans := e.ans
	ans.ttl = e.until.Sub(now)
	return ans, true
}

func (c *cache) put(q question, ans answer, now time.Time) {
	if ans.ttl <= 0 || c.max <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.byKey[q]; ok {
		c.remove(el)
	}
	c.byKey[q] = c.order.PushFront(&entry{key: q, ans: ans, until: now.Add(ans.ttl)})
	for c.order.Len() > c.max {
		c.remove(c.order.Back())
	}
}

func (c *cache) remove(el *list.Element) {
	delete(c.byKey, el.Value.(*entry).key)
	c.order.Remove(el)
}
