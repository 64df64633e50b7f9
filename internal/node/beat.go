package node

import (
	"context"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// Join makes this process one of the nodes, in place of an earlier run of the same name. While
// a run of that name may still live it waits for it to be silent for a lease. Faults: Busy
// (another process has the name), Unsupported (the stored form is newer than this program),
// TooLarge (no number is left), those of the engine. On an engine that is not shared it does
// nothing.
func (n *Node) Join(ctx context.Context) error {
	if !n.shared {
		return nil
	}
	if err := n.wait(ctx); err != nil {
		return err
	}
	began := n.opt.Elapsed()
	var me member
	s, err := n.change(ctx, func(w engine.Writer, s *snapshot) error {
		if err := n.knows(s.format); err != nil {
			return err
		}
		old, ok := s.members[n.opt.Name]
		me = n.member()
		if me.number = old.number; !ok {
			if me.number = s.next; me.number > MaxNumber {
				return fault.Newf(fault.TooLarge, "there were %d names of nodes already; give this one the name of one that is gone", MaxNumber+1)
			}
			s.next++
		}
		if s.format == 0 {
			s.format = n.opt.Format
		}
		return s.put(w, me)
	})
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.number, n.joined = me.number, true
	n.mu.Unlock()
	n.beaten(began, s)
	n.opt.Log.Info("joined", "node", me.name, "number", me.number, "nodes", len(s.members))
	return nil
}

// member is this node's record as it begins.
func (n *Node) member() member {
	return member{
		name: n.opt.Name, run: n.run, beat: 1, version: n.opt.Version, format: n.opt.Format, addresses: n.opt.Addresses,
		started: n.seconds(), at: n.seconds(),
	}
}

// knows returns a fault if this program cannot read what is written.
func (n *Node) knows(format uint64) error {
	if format <= n.opt.Format {
		return nil
	}
	return fault.Newf(fault.Unsupported, "the nodes write records of form %d by now, and this program (%s) knows %d; start a newer one", format, n.opt.Version, n.opt.Format)
}

// wait returns once no earlier run of this node can be alive.
func (n *Node) wait(ctx context.Context) error {
	pause := max(n.opt.Lease/10, time.Millisecond)
	var first member
	var since time.Duration
	for told := false; ; {
		s, err := n.read(ctx)
		if err != nil {
			return err
		}
		if err := n.knows(s.format); err != nil {
			return err
		}
		m, ok := s.members[n.opt.Name]
		now := n.opt.Elapsed()
		switch {
		case !ok || m.stopped || n.isDead(m.run):
			return nil
		case first.name == "":
			first, since = m, now
		case m.run != first.run || m.beat != first.beat:
			return fault.Newf(fault.Busy, "another process runs as the node %q; give this one a name of its own in [cluster] node", n.opt.Name)
		case now-since >= n.opt.Lease:
			return nil
		}
		if !told {
			told = true
			n.opt.Log.Info("an earlier run of this node did not say good-bye; this one begins when nothing was heard of it for a lease", "node", n.opt.Name, "lease", n.opt.Lease)
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Run keeps the node alive until ctx ends; then it does not say good-bye yet: Leave does, once
// all While have returned. It returns a fault if the node may not go on: Busy if another
// process has taken its name, Unsupported if the others write what it cannot read.
func (n *Node) Run(ctx context.Context) error {
	if !n.shared {
		<-ctx.Done()
		return nil
	}
	ticks, stop := n.eng.Watch(Shard)
	defer stop()
	for ctx.Err() == nil {
		every := n.opt.Lease / 3
		err := n.beat(ctx)
		switch {
		case ctx.Err() != nil:
		case fault.Is(err, fault.Busy) || fault.Is(err, fault.Unsupported):
			return err
		case err != nil:
			n.opt.Log.Warn("the other nodes cannot be told that this one lives", "err", err, "left", n.fresh().Round(time.Millisecond))
			every = n.opt.Lease / 12
		}
		n.listen(ctx, every, ticks)
	}
	return nil
}

// listen looks around when something has changed, for a time.
func (n *Node) listen(ctx context.Context, long time.Duration, ticks <-chan struct{}) {
	end := time.NewTimer(long)
	defer end.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-end.C:
			return
		case <-ticks:
		}
		n.look(ctx)
		if sleep(ctx, min(n.opt.Lease/30, time.Second)) != nil { // every beat of every node is a tick
			return
		}
	}
}

// look reads what others have changed.
func (n *Node) look(ctx context.Context) {
	c, cancel := n.within(ctx)
	defer cancel()
	s, err := n.read(c)
	if err != nil {
		n.blind()
		return
	}
	n.saw(s)
}

// within bounds one call of the engine: a beat that takes longer than until the next is late.
func (n *Node) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(engine.Patient(ctx, n.opt.Lease/6), n.opt.Lease/3)
}

// beat tells the others that this node lives, and reads what they tell.
func (n *Node) beat(ctx context.Context) error {
	c, cancel := n.within(ctx)
	defer cancel()
	began := n.opt.Elapsed()
	s, err := n.change(c, func(w engine.Writer, s *snapshot) error {
		me, ok := s.members[n.opt.Name]
		if !ok || me.run != n.run {
			return fault.Newf(fault.Busy, "another process has become the node %q; this one ends", n.opt.Name)
		}
		if err := n.knows(s.format); err != nil {
			return err
		}
		me.beat, me.at = me.beat+1, n.seconds()
		s.format = max(s.format, n.least(s))
		if err := n.tidy(w, s); err != nil {
			return err
		}
		return s.put(w, me)
	})
	if err != nil {
		n.blind()
		return err
	}
	n.beaten(began, s)
	return nil
}

// tidy gives up leases that nobody here uses any more: giving them up has failed.
func (n *Node) tidy(w engine.Writer, s *snapshot) error {
	n.mu.Lock()
	var left []string
	for name, l := range s.leases {
		if l.holder == n.opt.Name && l.run == n.run && n.using[name] == 0 {
			left = append(left, name)
		}
	}
	n.mu.Unlock()
	for _, name := range left {
		if err := s.free(w, name); err != nil {
			return err
		}
	}
	return nil
}

// least is the newest form that all nodes that live can read.
func (n *Node) least(s *snapshot) uint64 {
	least := n.opt.Format
	for _, m := range s.members {
		if m.name != n.opt.Name && n.alive(m) {
			least = min(least, m.format)
		}
	}
	return least
}

// alive tells whether a node that is not this one may live.
func (n *Node) alive(m member) bool {
	if m.stopped || n.isDead(m.run) {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	is, ok := n.seen[nodeSight(m.name)]
	return !ok || is.run != m.run || is.beat != m.beat || n.opt.Elapsed()-is.since < n.opt.Lease
}

func nodeSight(name string) string  { return "n" + name }
func leaseSight(name string) string { return "l" + name }

// beaten notes a beat that went well, and what was read with it.
func (n *Node) beaten(began time.Duration, s snapshot) {
	n.mu.Lock()
	n.begun = began
	n.mu.Unlock()
	n.saw(s)
}

// blind forgets what was watched: while nothing can be read nobody counts as silent.
func (n *Node) blind() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.seen)
}

// saw takes over what was read.
func (n *Node) saw(s snapshot) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.believe(s)
}

// believe is saw with mu held.
func (n *Node) believe(s snapshot) {
	now := n.opt.Elapsed()
	// What was read before what is known is not believed; what was read since is, though it be
	// older: the engine has lost changes.
	if s.changes < n.changes && s.began <= n.believed {
		return
	}
	n.changes, n.believed = s.changes, now
	seen := map[string]sighting{}
	sight := func(key string, is sighting) {
		if old, ok := n.seen[key]; ok && old.run == is.run && old.owner == is.owner && old.beat == is.beat {
			is.since = old.since
		} else {
			is.since = now
		}
		seen[key] = is
	}
	for name, m := range s.members {
		sight(nodeSight(name), sighting{run: m.run, beat: m.beat})
	}
	for name, l := range s.leases {
		if m := s.members[l.holder]; l.holder != "" && m.run != l.run { // a run that was replaced: no beat tells of it
			sight(leaseSight(name), sighting{run: m.run, owner: l.run})
		}
	}
	n.seen, n.members, n.leases, n.next = seen, s.members, s.leases, s.next
	n.format = n.inForce(s.format)
	n.here = s.members[n.opt.Name]
	n.noteDrain()
	close(n.looked)
	n.looked = make(chan struct{})
}

// Leave says good-bye: the others may have at once what this node did. It is to be called
// once all While have returned and Run has. On failure they wait for a lease.
func (n *Node) Leave(ctx context.Context) error {
	n.mu.Lock()
	joined := n.joined
	n.joined = false
	n.mu.Unlock()
	if !joined {
		return nil
	}
	_, err := n.change(ctx, func(w engine.Writer, s *snapshot) error {
		me := s.members[n.opt.Name]
		if me.run != n.run {
			return errSame
		}
		me.stopped, me.draining = true, false
		return s.put(w, me)
	})
	return err
}
