package node

import (
	"context"

	"github.com/martlet-mail/martlet/internal/engine"
)

// eligible tells whether this node is one to have the lease.
func (n *Node) eligible(l Lease) bool {
	n.mu.Lock()
	here, home := n.here, member{}
	for _, m := range n.members {
		if l.Homed && m.number == l.Home {
			home = m
		}
	}
	n.mu.Unlock()
	if here.draining && !l.drains || here.run != n.run {
		return false
	}
	return home.name == "" || home.name == here.name || home.draining || !n.alive(home)
}

// judged is a lease, and the node that has it, as they were when it was judged to be free.
type judged struct {
	lease
	by member
}

// free tells whether the lease may be taken, by what was read last, and what that was.
func (n *Node) free(l Lease) (is judged, free bool) {
	n.mu.Lock()
	is.lease = n.leases[l.Name]
	by, known := n.members[is.holder]
	is.by = by
	n.mu.Unlock()
	switch {
	case is.holder == "" || !known || n.isDead(is.run):
		return is, true
	case is.run == n.run:
		return is, true
	case by.run == is.run:
		return is, !n.alive(by)
	}
	// The holder's run was replaced by another of the same name, and may still live.
	n.mu.Lock()
	defer n.mu.Unlock()
	at, ok := n.seen[leaseSight(l.Name)]
	return is, ok && at.owner == is.run && n.opt.Elapsed()-at.since >= n.opt.Lease
}

// take takes a lease if it is still as free looked at it: what was read since says that its
// holder lives.
func (n *Node) take(ctx context.Context, l Lease, was judged) (t *Tenure, err error) {
	c, cancel := n.within(ctx)
	defer cancel()
	s, err := n.change(c, func(w engine.Writer, s *snapshot) error {
		t = nil
		is, now := s.leases[l.Name], s.members[was.holder]
		switch {
		case is != was.lease || s.members[n.opt.Name].run != n.run:
			return errSame // somebody was faster
		case is.holder == n.opt.Name && is.run == n.run:
			t = &Tenure{n, l.Name, is.term}
			return errSame
		case is.holder != "" && now.run == is.run && now.beat != was.by.beat && !now.stopped && !n.isDead(is.run):
			return errSame // it lives
		}
		t = &Tenure{n, l.Name, is.term + 1}
		return s.putLease(w, l.Name, lease{n.opt.Name, n.run, is.term + 1})
	})
	if err != nil {
		return nil, err
	}
	n.saw(s)
	if t != nil && was.holder != n.opt.Name && was.holder != "" {
		n.opt.Log.Warn("a lease is taken over from a node that is silent", "lease", l.Name, "node", n.opt.Name, "from", was.holder)
	}
	return t, nil
}
