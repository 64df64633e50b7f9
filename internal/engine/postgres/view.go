package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
)

// view runs fn on what is known of the shard, if the database says that it is still true. What
// is not known is read bit by bit; if the shard changes meanwhile, fn runs again, in a
// transaction that holds one moment still.
func (g *group) view(ctx context.Context, id engine.Shard, fn func(engine.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s := g.enter(id)
	defer g.leave(s)
	v := &viewing{g: g, s: s, ctx: ctx, retry: g.pool.retry(ctx)}
	defer v.retry.stop()
	defer v.end()
	for {
		err := v.attempt(fn)
		switch {
		case err == nil:
			return v.failed
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errAgain):
			g.stats.Reruns.Add(1)
		case final(ctx, err):
			return err
		default:
			if err := v.retry.again(err); err != nil {
				return err
			}
		}
	}
}

// viewing is one View.
type viewing struct {
	g      *group
	s      *shard
	ctx    context.Context
	retry  *retry
	misses int
	still  bool   // a moment is to be held still
	tx     *conn  // where it is
	seq    uint64 // the shard's before that
	r      *reader
	at     head // the state that the function is shown
	proven bool // the database has said so
	held   head // what it says in tx, which may be newer
	failed error
}

// attempt runs fn once. The error is not fn's; that is failed.
func (v *viewing) attempt(fn func(engine.Reader) error) error {
	v.misses, v.proven = 0, false
	t, err := v.begin()
	if err != nil {
		return err
	}
	r := &reader{g: v.g, ctx: v.ctx, t: t}
	r.ask, v.r = v.ask, r
	v.retry.begins()
	v.failed = fn(r)
	v.retry.rests()
	if r.err != nil {
		if errors.Is(r.err, errAgain) {
			v.still = true
		}
		return r.err
	}
	return nil
}

// begin finds a state to run on.
func (v *viewing) begin() (*tree, error) {
	for range 3 {
		if v.still {
			break
		}
		v.s.mu.Lock()
		known, seq := v.s.base.known, v.s.seq
		was := v.s.base.head
		var t, upon *tree
		if known {
			t = v.s.base.tree.copy()
		}
		fly := v.s.flying
		if fly != nil {
			upon = fly.tree.copy()
		}
		v.s.mu.Unlock()
		if !known {
			return newTree(), nil // the first answer says which state it is of
		}
		now, err := v.g.prove(v.ctx, v.retry, v.s.id)
		if err != nil {
			return nil, err
		}
		if err := v.g.mayRead(v.ctx, v.s.id, now); err != nil {
			return nil, err
		}
		v.at, v.proven = now, true
		switch {
		case now.identity == was.identity, v.g.opt.without.token && now.version == was.version:
			return t, nil
		case fly != nil && fly.token == now.token:
			return upon, nil
		}
		if t := v.s.adopt(now, seq); t != nil {
			return t, nil
		}
	}
	v.still = true
	return v.hold()
}

// ask is the reader's, for what is not known.
func (v *viewing) ask(q query) (answer, error) {
	v.retry.rests()
	defer v.retry.begins()
	v.misses++
	if v.tx == nil && v.misses > 1 {
		// More may follow: from now on the moment does not pass. If it has, the function
		// begins again, this once.
		if err := v.open(); err != nil {
			return answer{}, err
		}
		now, err := v.headNow()
		if err != nil {
			return answer{}, err
		}
		v.held = now
	}
	if v.tx != nil {
		return v.askHeld(q)
	}
	v.s.mu.Lock()
	seq := v.s.seq
	v.s.mu.Unlock()
	a, err := v.s.ask(v.ctx, v.retry, q, v.at.token)
	if err == nil {
		err = v.g.mayRead(v.ctx, v.s.id, a.head)
	}
	switch {
	case err != nil:
		return a, err
	case !v.proven:
		v.proven, v.at = true, a.head
		v.s.adoptOrTell(a.head, seq)
	}
	err = v.learn(q, &a) // which may change a
	return a, err
}

// learn keeps what was read for those who come. If the shard has changed since the moment of
// this View, the answer still holds for that moment if nothing in it was touched but what is
// known; else the function has to begin again.
func (v *viewing) learn(q query, a *answer) error {
	note := a.note(q)
	v.s.mu.Lock()
	if v.r.keeps() {
		v.s.learn(a.identity, note)
	}
	v.s.mu.Unlock()
	if a.identity == v.at.identity {
		return nil
	}
	a.more = nil // it may be of later than this moment
	list, ok := since(v.at.token, a.recent)
	if !ok || v.g.opt.without.recent {
		return errAgain
	}
	known := v.r.t
	if q.key == nil {
		// A scan goes on with what it knew when it began, which may not be all that this View
		// has shown since.
		known = newTree()
	}
	from, to := a.reach(q)
	for _, t := range list {
		if !known.hides(&t, from, to) {
			return errAgain
		}
	}
	return nil
}

// open begins a transaction in which nothing changes.
func (v *viewing) open() error {
	c, err := v.g.pool.take(v.ctx, v.retry, v.g.pool.long)
	if err != nil {
		return err
	}
	v.s.mu.Lock()
	v.seq = v.s.seq
	v.s.mu.Unlock()
	v.tx = c
	c.bind(stSnapshot, 0)
	c.execute()
	if c.hurries {
		c.bind(stLinger, 0)
		c.execute()
	}
	return nil
}

// headNow returns what the shard's row says in the transaction.
func (v *viewing) headNow() (now head, err error) {
	now.home = v.g.home
	asked, age := time.Now(), v.tx.age
	bindHeads(v.tx, []engine.Shard{v.s.id})
	v.g.stats.Snapshots.Add(1)
	err = v.run(func(_ int, row [][]byte) error {
		now = headOf(row[1:])
		return nil
	})
	if err == nil {
		err = v.g.pool.assured(v.ctx, v.retry, age, asked)
	}
	if err == nil {
		err = v.g.mayRead(v.ctx, v.s.id, now)
	}
	return now, err
}

// run carries out what was gathered in the transaction. If that fails it is over.
func (v *viewing) run(each func(i int, row [][]byte) error) error {
	rest := restOf(v.ctx)
	defer rest()
	if !v.g.pool.current(v.tx) {
		_ = v.tx.breaks(errBroken) // of a server that may have been replaced
	}
	_, err := v.tx.run(v.g.opt.statement, each)
	if err != nil {
		v.g.pool.failing(v.tx, err)
		v.end()
	}
	return err
}

// hold opens the transaction and finds what is known of its state.
func (v *viewing) hold() (*tree, error) {
	if v.tx == nil {
		if err := v.open(); err != nil {
			return nil, err
		}
	}
	now, err := v.headNow()
	if err != nil {
		return nil, err
	}
	v.at, v.held, v.proven = now, now, true
	if t := v.s.adoptOrTell(now, v.seq); t != nil {
		return t, nil
	}
	return newTree(), nil
}

// askHeld reads in the transaction.
func (v *viewing) askHeld(q query) (a answer, err error) {
	gone := v.s.takeGone()
	v.s.bindAll(v.tx, q, v.held.token, gone)
	v.g.stats.Reads.Add(1)
	err = v.run(func(i int, row [][]byte) error { return a.take(i, q, row, gone) })
	if err != nil {
		return a, err
	}
	a.head = v.held
	err = v.learn(q, &a) // which may change a
	return a, err
}

// end ends the transaction, which nobody waits for.
func (v *viewing) end() {
	c := v.tx
	if c == nil {
		return
	}
	v.tx = nil
	if c.broken != nil {
		v.g.pool.give(v.g.pool.long, c)
		return
	}
	v.g.work.Go(func() {
		c.bind(stCommit, 0)
		c.execute()
		_, _ = c.run(v.g.opt.statement, nil) // what is refused is over as well
		v.g.pool.give(v.g.pool.long, c)
	})
}
