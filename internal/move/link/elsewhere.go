package link

import (
	"context"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// Where several nodes share the store, one carries the links out; an order may be given on
// any, and lies in the store then. The one that carries out takes over what it finds there that
// it has not written itself.

// elsewhere takes part in what other nodes change, until stop.
func (l *Links) elsewhere() (stop func()) {
	shared, ok := l.opt.Engine.(engine.Shared)
	if !ok {
		return func() {}
	}
	return shared.Foreign(Shard, func() {
		l.foreign.Store(true)
		l.signal()
	})
}

// catchUp takes over what other nodes have changed, if they have.
func (l *Links) catchUp(ctx context.Context) {
	if !l.foreign.Swap(false) {
		return
	}
	type both struct {
		r Rule
		s state
	}
	var list []both
	err := l.opt.Engine.View(ctx, Shard, func(r engine.Reader) error {
		list = nil
		return eachRule(r, func(rule Rule) bool {
			if _, s, err := readBoth(r, rule.ID); err == nil {
				list = append(list, both{rule, s})
			}
			return true
		}, nil)
	})
	if err != nil {
		l.foreign.Store(true) // with the next
		return
	}
	there := map[ID]bool{}
	for _, b := range list {
		there[b.r.ID] = true
		l.mu.Lock()
		e := l.known[b.r.ID]
		same := e != nil && (string(b.s.encode()) == e.stored || string(b.s.encode()) == e.earlier)
		l.mu.Unlock()
		if !same {
			l.opt.Log.Info("a link was changed on another node", "link", b.r.ID)
			l.changed(b.r, b.s)
		}
	}
	var gone []ID
	l.mu.Lock()
	for id := range l.known {
		if !there[id] {
			gone = append(gone, id)
		}
	}
	l.mu.Unlock()
	for _, id := range gone {
		l.vanished(id)
	}
}

// is notes the state that is stored. It needs the lock.
func (e *entry) is(s state) {
	e.stored = string(s.encode())
	e.earlier = e.stored
}

// writes notes that a state is about to be written by this process: until that is done the one
// before may be found, too. It needs the lock, as written does.
func (e *entry) writes(s state) { e.stored = string(s.encode()) }

func (e *entry) written(err error) {
	if err != nil {
		e.stored = e.earlier
	}
	e.earlier = e.stored
}

// byNode has the node that carries links out run one, if that is another.
func (l *Links) byNode(ctx context.Context, id ID) error {
	if l.opt.Elsewhere == nil {
		return nil
	}
	where, err := l.opt.Elsewhere(ctx)
	if err != nil || where == "" {
		return err
	}
	err = l.update(ctx, id, func(s *state) { s.Next = l.opt.Now() })
	if err != nil {
		return err
	}
	return fault.Newf(fault.Busy, "the node %s carries the links out, and was told to run link %d now; see: martlet link show %d", where, id, id)
}
