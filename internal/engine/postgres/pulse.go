package postgres

import (
	"context"
	"errors"
	"time"
)

// A commit whose replica does not answer waits, maybe for long, and nothing but the server
// can end that. A server that hangs itself is to be left for another. The pulse, a connection
// for nothing else but looks at what is new, tells the one from the other.

const pulseSlot = -1

// onPulse carries out a read on the pulse, which it makes anew where it has broken. It is
// called every now and then: so a server that is gone is noticed also by a node that has
// nothing to do, before a connection that waits shows it the past.
func (p *pool) onPulse(ctx context.Context, fill func(*conn), each func(i int, row [][]byte) error) error {
	p.beat.Lock()
	defer p.beat.Unlock()
	if p.pulse != nil && (p.pulse.broken != nil || !p.current(p.pulse)) {
		_ = p.pulse.wire.Close()
		p.pulse = nil
	}
	if p.pulse == nil {
		c, err := p.connect(ctx, pulseSlot)
		if err != nil {
			return err
		}
		p.pulse = c
	}
	fill(p.pulse)
	_, err := p.pulse.run(p.opt.statement, each)
	p.failing(p.pulse, err)
	if err == nil {
		p.down.Store(nil)
	} else {
		p.down.Store(&err)
	}
	if p.pulse.broken != nil {
		p.mu.Lock()
		p.outdate(p.pulse.age)
		p.mu.Unlock()
	}
	return err
}

// beats tells whether the server of a connection works, and still works for it: else what was
// sent has not arrived, or the answer was lost on its way.
func (p *pool) beats(c *conn) bool {
	p.beat.Lock()
	defer p.beat.Unlock()
	if p.pulse == nil || p.pulse.broken != nil || p.pulse.age != c.age {
		return false
	}
	active := false
	p.pulse.bind(stActive, 1)
	p.pulse.int64(int64(c.process))
	p.pulse.execute()
	_, err := p.pulse.run(min(2*time.Second, p.opt.statement), func(_ int, row [][]byte) error {
		active = string(row[0]) == "active"
		return nil
	})
	var unheard *refusal // of a database that has no such view
	return active && err == nil || errors.As(err, &unheard)
}

// watchful returns what tells whether an answer that is late is worth waiting for, as long as
// the patience of Open lasts.
func (p *pool) watchful(c *conn) func() bool {
	left := p.opt.Patience
	return func() bool {
		left -= p.opt.statement
		return left > 0 && p.current(c) && p.beats(c)
	}
}
