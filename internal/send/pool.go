package send

import (
	"context"
	"crypto/tls"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Reuse bounds the use of one connection for several messages. Zero fields have the
// values given.
type Reuse struct {
	Idle     time.Duration // that a connection waits for the next message: 4 s; negative: none does
	Messages int           // over one connection: 100
	Kept     int           // connections that wait at the same time: 100
}

func (r Reuse) filled() Reuse {
	if r.Idle == 0 {
		r.Idle = 4 * time.Second
	}
	if r.Messages <= 0 {
		r.Messages = 100
	}
	if r.Kept <= 0 {
		r.Kept = 100
	}
	return r
}

// pool keeps connections that wait for another message. One is taken only for mail that
// would be sent to the same address, from the same one of ours, under the same rule.
type pool struct {
	mu     sync.Mutex
	idle   map[string][]*session // by key, the one used last at the end
	order  []*session            // oldest first
	at     map[netip.AddrPort]int
	closed bool
}

// has tells whether a connection to an address waits.
func (p *pool) has(a netip.AddrPort) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at[a] > 0
}

// take returns a connection that waits, or nil. It is the caller's now.
func (p *pool) take(key string) *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.idle[key]
	if len(list) == 0 {
		return nil
	}
	s := list[len(list)-1]
	p.remove(s)
	return s
}

// remove forgets a connection; the pool is locked.
func (p *pool) remove(s *session) bool {
	i := slices.Index(p.order, s)
	if i < 0 {
		return false
	}
	p.order = slices.Delete(p.order, i, i+1)
	list := p.idle[s.key]
	list = slices.DeleteFunc(list, func(o *session) bool { return o == s })
	if p.idle[s.key] = list; len(list) == 0 {
		delete(p.idle, s.key)
	}
	if p.at[s.t.addr]--; p.at[s.t.addr] == 0 {
		delete(p.at, s.t.addr)
	}
	s.timer.Stop()
	return true
}

// put lets a connection wait. It returns one that has to go instead, or nil.
func (p *pool) put(s *session, reuse Reuse) (out *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return s
	}
	if p.idle == nil {
		p.idle, p.at = map[string][]*session{}, map[netip.AddrPort]int{}
	}
	if len(p.order) >= reuse.Kept {
		out = p.order[0]
		p.remove(out)
	}
	p.order = append(p.order, s)
	p.idle[s.key] = append(p.idle[s.key], s)
	p.at[s.t.addr]++
	s.timer = time.AfterFunc(reuse.Idle, func() {
		p.mu.Lock()
		defer p.mu.Unlock() // held, so that Close waits for the goodbye
		if p.remove(s) {
			s.quit()
		}
	})
	return out
}

// close says goodbye on all that wait.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	all := slices.Clone(p.order)
	for _, s := range all {
		p.remove(s)
	}
	p.mu.Unlock()
	for _, s := range all {
		s.farewell()
	}
}

// key is what connections must have in common to be as good as each other.
func (c *Courier) key(j *job, t target, r *rule) string {
	return t.host + "|" + t.addr.String() + "|" + c.source(j, t).String() + "|" + r.key()
}

// reused takes a connection that waits, for a call with ctx; nil if there is none.
func (c *Courier) reused(ctx context.Context, key string) *session {
	if c.opt.Reuse.Idle < 0 {
		return nil
	}
	for s := c.pool.take(key); s != nil; s = c.pool.take(key) {
		s.reused, s.dotted = true, false
		s.stop = context.AfterFunc(ctx, func() { s.conn.Close() })
		return s
	}
	return nil
}

// leave lets a session wait for the next message if it can serve one, and ends it if not.
func (c *Courier) leave(s *session) {
	// A host that says more than it was asked is not talked to any further.
	if s.dead || !s.ready || s.r.Buffered() > 0 || c.opt.Reuse.Idle < 0 || s.mails >= s.mailMax() || !s.stop() {
		s.quit()
		return
	}
	if out := c.pool.put(s, c.opt.Reuse); out != nil {
		out.quit()
	}
}

// tickets keeps what TLS sessions are resumed with, by what they were proved to be.
type tickets struct {
	mu    sync.Mutex
	kept  map[string]*tls.ClientSessionState
	order []string // oldest first
}

const maxTickets = 1000

// ticket is the place of one key.
type ticket struct {
	of  *tickets
	key string
}

// Get implements tls.ClientSessionCache.
func (t ticket) Get(string) (*tls.ClientSessionState, bool) {
	t.of.mu.Lock()
	defer t.of.mu.Unlock()
	s, ok := t.of.kept[t.key]
	return s, ok
}

// Put implements tls.ClientSessionCache.
func (t ticket) Put(_ string, s *tls.ClientSessionState) {
	t.of.mu.Lock()
	defer t.of.mu.Unlock()
	_, there := t.of.kept[t.key]
	switch {
	case s == nil:
		if there {
			delete(t.of.kept, t.key)
			t.of.order = slices.DeleteFunc(t.of.order, func(k string) bool { return k == t.key })
		}
		return
	case !there:
		if t.of.kept == nil {
			t.of.kept = map[string]*tls.ClientSessionState{}
		}
		if len(t.of.order) >= maxTickets {
			delete(t.of.kept, t.of.order[0])
			t.of.order = slices.Delete(t.of.order, 0, 1)
		}
		t.of.order = append(t.of.order, t.key)
	}
	t.of.kept[t.key] = s
}
