package node

import (
	"context"
	"errors"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// Lease names what one node does at a time.
type Lease struct {
	Name string
	// Homed tells that it belongs to the node of a number: others have it only while that one
	// is silent, stopped or draining, and give it back.
	Homed bool
	Home  uint64

	drains bool // a node that drains may have it, too: a lock, which is for a moment
}

// Why the context of a Tenure ends before its parent.
var (
	errTaken = errors.New("another node has taken the lease")
	errStale = errors.New("the other nodes could not be told in time that this one lives")
	errAsked = errors.New("the lease goes to another node")
)

// Tenure is a lease that this node has. A nil one is that of a process alone: it has
// everything, and for ever.
type Tenure struct {
	n    *Node
	name string
	term uint64 // n.mu is held
}

// Term returns how often the lease has been taken, 0 for a process alone. Who writes with a
// lower one than another has written with is too late.
func (t *Tenure) Term() uint64 {
	if t == nil {
		return 0
	}
	t.n.mu.Lock()
	defer t.n.mu.Unlock()
	return t.term
}

// Holder names the run of the node that has the lease: terms can come again when an engine
// loses changes, runs do not.
func (t *Tenure) Holder() string {
	if t == nil {
		return ""
	}
	return string(t.n.run[:])
}

// Above makes the term higher than another: one that was found where work under the lease
// writes, whose shard is older or younger than the lease's record. Faults: Busy (the lease is
// lost), those of the engine. After one that left the outcome open it may be called again.
func (t *Tenure) Above(ctx context.Context, term uint64) error {
	n, mine := t.n, t.Term()
	var higher uint64
	s, err := n.change(ctx, func(w engine.Writer, s *snapshot) error {
		is := s.leases[t.name]
		// One of this run with a higher term is this tenure's, too: an earlier call was in doubt.
		if is.holder != n.opt.Name || is.run != n.run || is.term < mine {
			return fault.New(fault.Busy, "another node has the lease")
		}
		higher = max(term, is.term) + 1
		is.term = higher
		return s.putLease(w, t.name, is)
	})
	if fault.Is(err, fault.Busy) {
		n.look(ctx) // so that the tenure is known to be lost
	}
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	t.term = higher
	n.believe(s)
	return nil
}

// Begin tells whether something may still be begun: no other node can have taken the lease for
// a third of it. It costs nothing, and is to be asked before everything that others would
// see twice.
func (t *Tenure) Begin() bool { return t == nil || t.left() > t.n.opt.Lease/3 }

// End tells whether what was begun may still be brought to its end: no other node can have
// taken the lease for a twelfth of it.
func (t *Tenure) End() bool { return t == nil || t.left() > t.n.opt.Lease/12 }

// Lost tells whether it is known that the lease is no longer that of this tenure.
func (t *Tenure) Lost() bool {
	if t == nil {
		return false
	}
	t.n.mu.Lock()
	defer t.n.mu.Unlock()
	return !t.n.holds(t.name, t.term)
}

func (t *Tenure) left() time.Duration {
	if t.Lost() {
		return 0
	}
	return t.n.fresh()
}

// holds tells whether this node has the lease by what was read last. n.mu is held.
func (n *Node) holds(name string, term uint64) bool {
	l := n.leases[name]
	return l.holder == n.opt.Name && l.run == n.run && l.term == term && n.here.run == n.run
}

// While runs fn as long as this node has the lease, again and again, until ctx ends. The
// context that fn is given ends when the lease is no longer this node's or goes to another;
// the lease is given up when fn has returned. It returns early if fn returns while its context
// has not ended.
func (n *Node) While(ctx context.Context, l Lease, fn func(context.Context, *Tenure)) {
	if !n.shared {
		fn(ctx, nil)
		return
	}
	n.use(l.Name, 1)
	defer n.use(l.Name, -1)
	for ctx.Err() == nil {
		t := n.await(ctx, l)
		if t == nil {
			return
		}
		why := n.during(ctx, l, t, fn)
		if why == nil || !errors.Is(why, errStale) {
			n.release(ctx, t)
		}
		if why == nil && ctx.Err() == nil {
			return
		}
	}
}

// use counts who has a lease here or waits for it: what nobody uses is given up with the next
// beat if it could not be before.
func (n *Node) use(name string, more int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.using[name] += more; n.using[name] == 0 {
		delete(n.using, name)
	}
}

// during runs fn under a tenure, and returns why it ended; nil if fn has by itself.
func (n *Node) during(ctx context.Context, l Lease, t *Tenure, fn func(context.Context, *Tenure)) error {
	c, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.guard(c, l, t, cancel)
	}()
	fn(c, t)
	why := context.Cause(c)
	cancel(nil)
	<-done
	return why
}

// guard ends a tenure when its time is over.
func (n *Node) guard(ctx context.Context, l Lease, t *Tenure, end context.CancelCauseFunc) {
	for {
		looked := n.Looked()
		why := error(nil)
		switch {
		case t.Lost():
			why = errTaken
		case !t.Begin():
			why = errStale
		case !n.eligible(l):
			why = errAsked
		}
		if why != nil {
			n.opt.Log.Info("a lease ends here", "lease", l.Name, "node", n.opt.Name, "why", why)
			end(why)
			return
		}
		timer := time.NewTimer(max(t.left()-n.opt.Lease/3, time.Millisecond))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-looked:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// await returns a tenure once this node has the lease, nil when ctx ends.
func (n *Node) await(ctx context.Context, l Lease) *Tenure {
	for ctx.Err() == nil {
		looked := n.Looked()
		seen, free := n.free(l)
		switch {
		case !free || n.fresh() <= n.opt.Lease/3:
		case !n.eligible(l):
			if old := (&Tenure{n, l.Name, seen.term}); !old.Lost() { // since before the others could not be told of this node
				n.release(ctx, old)
			}
		default:
			t, err := n.take(ctx, l, seen)
			if err == nil && t != nil {
				return t
			}
			if err != nil && ctx.Err() == nil {
				n.opt.Log.Warn("a lease cannot be taken", "lease", l.Name, "err", err)
			}
		}
		select {
		case <-ctx.Done():
		case <-looked:
		}
	}
	return nil
}

// releaseTime is how long giving up a lease may take. Others get it later if that fails.
const releaseTime = time.Second

// release gives a lease up.
func (n *Node) release(ctx context.Context, t *Tenure) {
	c, cancel := context.WithTimeout(engine.Patient(context.WithoutCancel(ctx), releaseTime), releaseTime)
	defer cancel()
	term := t.Term()
	s, err := n.change(c, func(w engine.Writer, s *snapshot) error {
		is := s.leases[t.name]
		if is.holder != n.opt.Name || is.run != n.run || is.term != term {
			return errSame
		}
		return s.free(w, t.name)
	})
	if err != nil {
		if !fault.Is(err, fault.Closed) {
			n.opt.Log.Warn("a lease cannot be given up; others have it when it has run out", "lease", t.name, "err", err)
		}
		return
	}
	n.saw(s)
}
