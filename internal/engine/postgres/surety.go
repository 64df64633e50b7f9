package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// A primary that has been replaced and does not know it (whoever was to stop it was killed, or
// stood still) goes on to answer what it is asked, as of the past. It cannot confirm commits,
// since its replica has left it. So what a server says counts only if it has confirmed a
// commit that was sent not long before it was asked. Commits of any kind do; a node that makes
// none has one of its own made, for all who wait.

// suretyLasts is how long before a question that commit may have been sent. Another primary
// confirms commits at the earliest when it has been chosen and has found a replica: until then
// there is nothing that could be missed.
const suretyLasts = time.Second

const suretySlot = -2

// surety is the last confirmed commit.
type surety struct {
	mu     sync.Mutex
	age    uint64    // of its connection
	sent   time.Time // no later than it
	asking *question // under way

	c *conn // of question alone
}

// question is a commit for all who wait for one.
type question struct {
	done chan struct{}
	err  error
}

// confirmed notes that a commit which was sent then, over a connection of that age, is there
// for good.
func (s *surety) confirmed(age uint64, sent time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if age > s.age || age == s.age && sent.After(s.sent) {
		s.age, s.sent = age, sent
	}
}

// holds tells whether what was asked then over a connection of that age may be believed. If
// not, it returns the question to wait for, which is the caller's if mine.
func (s *surety) holds(age uint64, asked time.Time) (ok bool, q *question, mine bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.age > age:
		return false, nil, false, fmt.Errorf("%w: another server is asked now", errReach)
	case s.age == age && s.sent.After(asked.Add(-suretyLasts)):
		return true, nil, false, nil
	}
	if q = s.asking; q == nil {
		q, mine = &question{done: make(chan struct{})}, true
		s.asking = q
	}
	return false, q, mine, nil
}

func (s *surety) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asking == nil && s.c != nil {
		_ = s.c.wire.Close()
	}
}

// assured waits until what was asked then, over a connection of that age, may be believed, as
// long as the call is patient. An error says that it may not.
func (p *pool) assured(ctx context.Context, r *retry, age uint64, asked time.Time) error {
	if p.opt.without.surety {
		return nil
	}
	for {
		ok, q, mine, err := p.surety.holds(age, asked)
		if ok || err != nil {
			return err
		}
		if mine {
			go p.ask(q)
		}
		rest := restOf(ctx)
		select {
		case <-q.done:
			rest()
		case <-ctx.Done():
			rest()
			return ctx.Err()
		case <-r.limit():
			rest()
			r.over = true
			return errSure
		}
		if q.err != nil {
			return q.err
		}
	}
}

// ask makes the commit of a question.
func (p *pool) ask(q *question) {
	s := &p.surety
	c, err := s.c, error(nil)
	if c != nil && (c.broken != nil || !p.current(c)) {
		_ = c.wire.Close()
		c = nil
	}
	if c == nil {
		ctx, cancel := context.WithTimeout(context.Background(), 4*connectTimeout)
		c, err = p.connect(ctx, suretySlot) // which begins with a commit
		cancel()
	} else {
		err = p.sure(c)
	}
	s.mu.Lock()
	s.c, s.asking = c, nil
	s.mu.Unlock()
	if err != nil && !errors.Is(err, errReach) {
		err = fmt.Errorf("%w: %w", errReach, err)
	}
	q.err = err
	close(q.done)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed && c != nil {
		_ = c.wire.Close()
	}
}

// sure makes a commit.
func (p *pool) sure(c *conn) error {
	err := p.confirm(c, suretySlot, p.opt.statement)
	if err == nil {
		return nil
	}
	p.mu.Lock()
	p.outdate(c.age)
	p.mu.Unlock()
	p.first.Add(1) // another host may be the primary
	return err
}

// confirm has the server make a commit that waits for the replica, and so for all before it.
//
// A refusal proves nothing: the disk of a primary that was replaced may be full, too. But reads
// are to go on where nothing can be written. So a server that refuses the commit is to make
// another, of a row that is locked and not changed: that needs no room but in the log (a server
// whose log has none is down), and its commit waits for the replica like any other.
func (p *pool) confirm(c *conn, slot int, limit time.Duration) error {
	sent := time.Now()
	p.fence(c, slot)
	_, err := c.run(limit, nil)
	p.failing(c, err)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p.wonder(c)
	}
	var r *refusal
	if errors.As(err, &r) && c.broken == nil && !p.opt.without.graze {
		var locked []int64
		sent = time.Now()
		c.call(stGraze, []any{p.fenceKey(slot)})
		locked, err = c.run(limit, nil)
		p.failing(c, err)
		if err == nil && locked[0] == 0 {
			err = errors.New("there was no row to lock, so that nothing was committed")
		}
	}
	if err == nil && c.warned {
		err = c.breaks(errors.New("the wait for the replica was cancelled"))
	}
	if err == nil {
		p.surety.confirmed(c.age, sent)
	}
	return err
}
