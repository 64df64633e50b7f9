package postgres

import (
	"context"
	"errors"

	"github.com/martlet-mail/martlet/internal/engine"
)

// update runs fn on what is known of the shard and what is on its way, and commits what it
// wrote together with what others write meanwhile. If that comes too late, fn runs again.
func (g *group) update(ctx context.Context, id engine.Shard, fn func(engine.Writer) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s := g.enter(id)
	defer g.leave(s)
	u := &updating{g: g, s: s, ctx: ctx, retry: g.pool.retry(ctx)}
	defer u.retry.stop()
	s.mu.Lock()
	u.before = s.flying
	s.mu.Unlock()
	if err := u.foresee(); err != nil {
		return err
	}
	for {
		err := u.attempt(fn)
		switch {
		case err == nil:
			return u.result
		case errors.Is(err, errAgain) && !u.retry.over:
			g.stats.Reruns.Add(1)
			u.clashes++
		case final(ctx, err):
			return err
		default:
			if err := u.retry.again(err); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// updating is one Update.
type updating struct {
	g       *group
	s       *shard
	ctx     context.Context
	retry   *retry
	ahead   *foresight
	clashes int     // with other nodes
	result  error   // of fn
	watcher bool    // of a commit that is not its own
	before  *commit // on its way when the Update began
}

// Clashes in a row after which a shard's row is locked.
const mostClashes = 2

// attempt runs fn once and sees what it did through. An error is not fn's.
func (u *updating) attempt(fn func(engine.Writer) error) error {
	c, err := u.inTurn(fn)
	if err != nil || c == nil {
		return err
	}
	return u.await(c)
}

// inTurn runs fn alone on the shard. It returns the commit to wait for, nil if there is none.
func (u *updating) inTurn(fn func(engine.Writer) error) (*commit, error) {
	s := u.s
	if err := s.acquire(u.ctx, u.retry); err != nil {
		return nil, err
	}
	defer s.release() // also when fn panics
	if err := u.calm(); err != nil {
		return nil, err
	}
	row, err := u.fresh()
	if err != nil {
		return nil, err
	}
	defer row.unlock()
	w, fly := u.writer()
	if fly != nil {
		return nil, u.overtaken(fly)
	}
	u.watcher = false
	u.retry.begins()
	u.result = row.during(func() error { return fn(w) })
	u.retry.rests()
	switch {
	case w.reader.err != nil:
		u.outdated(w)
		return nil, w.reader.err
	case u.result == nil && w.refused != nil:
		u.result = w.refused // of a limit that fn did not heed
	}
	if u.result != nil || len(w.touched.keys)+len(w.touched.spans) == 0 {
		return u.onlyRead(w)
	}
	if err := u.known(w); err != nil {
		return nil, err
	}
	return u.join(w, row)
}

// calm waits until nothing is on its way, if something is to be forgotten that cannot be
// forgotten before.
func (u *updating) calm() error {
	s := u.s
	for {
		s.mu.Lock()
		c := s.waiting
		if c == nil {
			c = s.flying
		}
		sheds := s.sheds
		s.mu.Unlock()
		if sheds == shedNothing || c == nil {
			return nil
		}
		if err := u.until(c.done); err != nil {
			return err
		}
	}
}

// landed waits until nothing of the shard is on its way, in the same turn: else others of this
// node would send off the next commit before the caller's turn comes again.
func (u *updating) landed() error {
	s := u.s
	for {
		s.mu.Lock()
		fly := s.flying
		s.mu.Unlock()
		if fly == nil {
			return nil
		}
		if err := u.until(fly.done); err != nil {
			return err
		}
	}
}

// fresh sees to it that what fn will run on has not already turned out to be old. After
// clashes it takes the shard's row, so that nobody else can come in between.
func (u *updating) fresh() (*rowLock, error) {
	s := u.s
	s.mu.Lock()
	suspect, seq, fly := s.suspect, s.seq, s.flying
	base := s.base
	s.mu.Unlock()
	if u.clashes >= mostClashes && !u.g.opt.without.row {
		if err := u.landed(); err != nil {
			return nil, err
		}
		return u.lockRow()
	}
	if suspect && fly == nil {
		now, err := u.g.prove(u.ctx, u.retry, s.id)
		if err != nil {
			return nil, err
		}
		if err := u.mayWrite(now); err != nil {
			return nil, err
		}
		if s.adopt(now, seq) == nil {
			return nil, errAgain
		}
		s.mu.Lock()
		s.suspect = s.suspect && s.base.identity != now.identity
		s.mu.Unlock()
		return nil, nil
	}
	if base.known {
		return nil, u.mayWrite(base.head)
	}
	return nil, nil
}

// until waits for something to be done, as long as the Update is patient: others of the shard
// wait for its turn meanwhile.
func (u *updating) until(done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	default:
	}
	rest := restOf(u.ctx)
	defer rest()
	select {
	case <-done:
		return nil
	case <-u.ctx.Done():
		return u.ctx.Err()
	case <-u.retry.limit():
		return u.retry.ended(errTurn)
	}
}

func (u *updating) mayWrite(now head) error {
	err := u.g.mayRead(u.ctx, u.s.id, now)
	if err == nil && now.state == stateFrozen {
		err = errFrozen
	}
	if err != nil {
		u.s.mu.Lock()
		u.s.suspect = true // until it is here again
		u.s.mu.Unlock()
	}
	return err
}

// overtaken waits for the end of a commit after which another node's has been seen already: what
// is on its way is not the newest state then, and what is read is not of it.
func (u *updating) overtaken(fly *commit) error {
	if err := u.until(fly.done); err != nil {
		return err
	}
	return errAgain
}

// writer returns what fn is to write with, or the commit on its way that is to end first.
func (u *updating) writer() (*writer, *commit) {
	s := u.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if fly := s.flying; fly != nil && s.base.known && s.base.identity != fly.from {
		return nil, fly
	}
	from := s.base.tree
	if s.tip != nil {
		from = s.tip
	}
	w := &writer{line: s.line}
	w.reader = reader{g: u.g, ctx: u.ctx, t: from.copy()}
	if u.ahead != nil && s.stands(u.ahead) {
		u.ahead.note(w.t, engine.Foreseen(u.ctx))
	}
	w.ask = func(q query) (answer, error) {
		u.retry.rests()
		defer u.retry.begins()
		return u.ask(w, q)
	}
	return w, nil
}

// ask is the writer's, for what is not known. What the database says is of base, or of what
// is on its way; both lie below what fn has written.
func (u *updating) ask(w *writer, q query) (answer, error) {
	s := u.s
	s.mu.Lock()
	token, seq, was := s.base.token, s.seq, s.base.known
	s.mu.Unlock()
	a, err := s.ask(u.ctx, u.retry, q, token)
	if err != nil {
		return a, err
	}
	if err := u.mayWrite(a.head); err != nil {
		return a, err
	}
	note := a.note(q)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.base.known {
		s.mu.Unlock()
		s.adopt(a.head, seq)
		s.mu.Lock()
	}
	if s.line != w.line {
		return a, errAgain
	}
	switch {
	case s.base.known && s.base.identity == a.identity:
		w.proven = w.proven || s.flying == nil && s.waiting == nil
	case s.flying != nil && s.flying.token == a.token:
	case was && s.passed(a.identity): // a commit of this node has ended meanwhile, and what it wrote is known
	default:
		return a, errAgain
	}
	if w.keeps() {
		s.learn(a.identity, note)
	}
	return a, nil
}

// outdated notes that the shard is not as it was taken to be.
func (u *updating) outdated(w *writer) {
	s := u.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(w.reader.err, errAgain) && s.line == w.line && s.flying == nil {
		s.suspect = true
	}
}

// onlyRead proves what fn has read if it wrote nothing, or failed: it may have failed because
// of what is not true any more.
func (u *updating) onlyRead(w *writer) (*commit, error) {
	s := u.s
	s.mu.Lock()
	c, seq, base, line := s.waiting, s.seq, s.base, s.line
	if c == nil {
		c = s.flying
	}
	s.mu.Unlock()
	switch {
	case line != w.line:
		return nil, errAgain
	case c != nil:
		u.watcher = true // with it comes true what fn has seen
		return c, nil
	case w.proven || !base.known:
		return nil, nil
	}
	now, err := u.g.prove(u.ctx, u.retry, s.id)
	if err != nil {
		return nil, err
	}
	if now.identity == base.identity || u.g.opt.without.token && now.version == base.version {
		return nil, nil
	}
	s.adopt(now, seq)
	return nil, errAgain
}

// known sees to it that a commit knows what it is to follow, if fn has read nothing.
func (u *updating) known(w *writer) error {
	s := u.s
	s.mu.Lock()
	known, seq := s.base.known, s.seq
	s.mu.Unlock()
	if known {
		return nil
	}
	now, err := u.g.prove(u.ctx, u.retry, s.id)
	if err != nil {
		return err
	}
	if err := u.mayWrite(now); err != nil {
		return err
	}
	if s.adopt(now, seq) == nil {
		return errAgain
	}
	return nil
}

// join adds what fn wrote to the commit that gathers, and sends that off if nothing of the
// shard is on its way.
func (u *updating) join(w *writer, row *rowLock) (*commit, error) {
	s := u.s
	for {
		s.mu.Lock()
		if s.line != w.line {
			s.mu.Unlock()
			return nil, errAgain
		}
		c := s.waiting
		if c == nil || c.size+w.size <= mostCommit {
			break
		}
		fly := s.flying
		s.mu.Unlock()
		if err := u.until(fly.done); err != nil {
			return nil, err
		}
	}
	defer s.mu.Unlock()
	c := s.waiting
	if c == nil {
		c = &commit{shard: s, token: u.g.token(), done: make(chan struct{})}
		s.waiting = c
	}
	c.size += w.size
	c.members++
	c.keys = append(c.keys, w.touched.keys...)
	c.spans = append(c.spans, w.touched.spans...)
	c.tree = w.t
	s.tip = w.t
	if s.flying == nil {
		s.launch(s.base.head, row.take())
	}
	return c, nil
}

// await waits for a commit and tells whether fn is to run again. What a carrier has taken is
// waited for, whatever that takes; what has not been sent is given up when the patience is over,
// or the caller has gone. Others' commits, that only prove what fn has read, stay.
func (u *updating) await(c *commit) error {
	if u.watcher {
		// What was on its way before the Update began may have been made before it, and others'
		// changes after that: it proves nothing.
		if err := u.until(c.done); err != nil {
			return err
		}
		if c.err != nil || c == u.before {
			return errAgain
		}
		return nil
	}
	if u.until(c.done) != nil {
		u.s.abandon(c)
		rest := restOf(u.ctx)
		defer rest()
		if <-c.done; errors.Is(c.err, errUnsent) && u.ctx.Err() != nil {
			return u.ctx.Err()
		}
	}
	return c.err
}
