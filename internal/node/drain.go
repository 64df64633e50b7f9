package node

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// State is how a node stands.
type State string

const (
	Up       State = "up"
	Draining State = "draining" // it is about to leave: it has no leases, and wants no clients
	Silent   State = "silent"   // it was not heard for a lease, and did not say good-bye
	Stopped  State = "stopped"  // it said good-bye
	Unheard  State = "unheard"  // it is not known yet whether it lives: nobody has listened for long enough
)

// Member is a node as others see it.
type Member struct {
	Name      string
	Number    uint64
	State     State
	Here      bool // it is this process
	Version   string
	Format    uint64
	Addresses []string
	Leases    []string
	Started   time.Time // by its own clock, as Last
	Last      time.Time // beat
}

// List returns all nodes there ever were, by name.
func (n *Node) List(ctx context.Context) ([]Member, error) {
	s, err := n.read(ctx)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	listens := n.joined
	n.mu.Unlock()
	var list []Member
	for _, name := range slices.Sorted(maps.Keys(s.members)) {
		m := s.members[name]
		e := Member{
			Name: name, Number: m.number, State: n.state(m, listens), Here: m.run == n.run, Version: m.version, Format: m.format,
			Addresses: m.addresses, Started: second(m.started), Last: second(m.at),
		}
		for _, l := range slices.Sorted(maps.Keys(s.leases)) {
			if is := s.leases[l]; is.holder == name && is.run == m.run {
				e.Leases = append(e.Leases, l)
			}
		}
		list = append(list, e)
	}
	return list, nil
}

func (n *Node) state(m member, listens bool) State {
	up := Up
	if m.draining {
		up = Draining
	}
	switch {
	case m.stopped:
		return Stopped
	case m.run == n.run:
		return up
	case !listens:
		return Unheard
	case !n.alive(m):
		return Silent
	}
	return up
}

// Drain tells a node to leave, or, with on false, that it need not: it gives its leases up,
// and whoever asks it for more than it has to do is told to go elsewhere. It ends, too, when
// the node starts again. Faults: NotFound, Unsupported (the engine is not shared), Invalid
// (the node has stopped), those of the engine.
func (n *Node) Drain(ctx context.Context, name string, on bool) error {
	if !n.shared {
		return fault.New(fault.Unsupported, "this store belongs to one machine, which has nobody to hand over to")
	}
	s, err := n.change(ctx, func(w engine.Writer, s *snapshot) error {
		m, ok := s.members[name]
		switch {
		case !ok:
			return fault.Newf(fault.NotFound, "there is no node %q; see martlet cluster status", name)
		case m.draining == on:
			return errSame
		case m.stopped:
			return fault.Newf(fault.Invalid, "the node %q has stopped", name)
		}
		m.draining = on
		return s.put(w, m)
	})
	if err == nil {
		n.saw(s)
	}
	return err
}

// Draining tells whether this node is to leave.
func (n *Node) Draining() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.here.draining && n.here.run == n.run
}

// Drained returns a channel that is closed when this node is told to leave; after it was told
// to stay there is another.
func (n *Node) Drained() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.drained
}

// noteDrain is called with mu held.
func (n *Node) noteDrain() {
	select {
	case <-n.drained:
		if !n.here.draining {
			n.drained = make(chan struct{})
			n.opt.Log.Info("this node stays", "node", n.opt.Name)
		}
	default:
		if n.here.draining && n.here.run == n.run {
			close(n.drained)
			n.opt.Log.Info("this node is to leave", "node", n.opt.Name)
		}
	}
}

// Holder returns the node that has a lease, "" if none has, and whether it is this process.
func (n *Node) Holder(ctx context.Context, lease string) (name string, here bool, err error) {
	if !n.shared {
		return "", false, nil
	}
	s, err := n.read(ctx)
	is := s.leases[lease]
	return is.holder, is.run == n.run, err
}

// Forget removes the name of a node that has stopped. Its number stays among Numbers, and is
// nobody's again: a process that was frozen may still write under it before it finds out.
// empty tells whether nothing of the number is left; it is asked first. Faults: NotFound, Busy (it may live),
// Invalid (something is left), those of the engine and of empty.
func (n *Node) Forget(ctx context.Context, name string, empty func(ctx context.Context, number uint64) (bool, error)) error {
	all, err := n.List(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(m Member) bool { return m.Name == name })
	switch {
	case i < 0:
		return fault.Newf(fault.NotFound, "there is no node %q; see martlet cluster status", name)
	case all[i].State != Stopped && all[i].State != Silent:
		return fault.Newf(fault.Busy, "the node %q may live; stop it first", name)
	}
	is, err := empty(ctx, all[i].Number)
	if err != nil {
		return err
	}
	if !is {
		return fault.Newf(fault.Invalid, "mail that the node %q has queued is not all sent yet; the other nodes send it", name)
	}
	_, err = n.change(ctx, func(w engine.Writer, s *snapshot) error {
		m, ok := s.members[name]
		if !ok {
			return errSame
		}
		if !m.stopped && n.alive(m) {
			return fault.Newf(fault.Busy, "the node %q has come back", name)
		}
		delete(s.members, name)
		return w.Delete(nodeKey(name))
	})
	return err
}
