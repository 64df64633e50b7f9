package postgres

import (
	"context"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
)

// rowLock is a transaction that holds a shard's row: nobody else commits to the shard as long
// as it is there. It is for shards that several nodes write to all the time, where who comes
// without it might always come too late.
type rowLock struct {
	g  *group
	c  *conn
	at head // what the row says
}

// lockRow locks the shard's row and brings what is known of the shard up to it.
func (u *updating) lockRow() (*rowLock, error) {
	s := u.s
	a, err := u.askForRow()
	if err != nil {
		return nil, err
	}
	row, seq := a.row, a.seq
	err = u.mayWrite(row.at)
	for err == nil && s.adopt(row.at, seq) == nil {
		// A View has brought something older here while the row was waited for. Nobody changes
		// the row now; but where there is none, nobody holds it either.
		if row.at.version == 0 {
			err = errAgain
		}
		s.mu.Lock()
		seq = s.seq
		s.mu.Unlock()
	}
	if err != nil {
		row.unlock()
		return nil, err
	}
	s.mu.Lock()
	s.suspect = s.suspect && s.base.identity != row.at.identity
	s.mu.Unlock()
	return row, nil
}

// ask asks for the lock. Who has it may keep it for longer than a statement takes, and than anybody is
// patient, while its commit waits for the replica: that says nothing against the connection.
func (r *rowLock) ask(ctx context.Context, id engine.Shard) error {
	p := r.g.pool
	c, err := p.take(ctx, nil, p.long)
	if err != nil {
		p.rows <- struct{}{}
		return err
	}
	r.c, r.at = c, head{home: r.g.home}
	r.g.stats.RowLocks.Add(1)
	c.bind(stBegin, 0)
	c.execute()
	c.bind(stLock, 1)
	c.int64(int64(id))
	c.execute()
	c.alive = func() bool { return r.g.life.Err() == nil && p.current(c) && p.beats(c) }
	_, err = c.run(p.opt.statement, func(_ int, row [][]byte) error {
		r.at = headOf(row[1:])
		return nil
	})
	c.alive = nil
	if err != nil {
		p.failing(c, err)
		r.unlock()
	}
	return err
}

// during runs a function under the lock, if there is one, and shows the server meanwhile that this
// node works: it ends the transaction of one that stands still.
func (r *rowLock) during(fn func() error) error {
	if r == nil || r.c == nil {
		return fn()
	}
	end, ended := make(chan struct{}), make(chan struct{})
	r.g.work.Go(func() {
		defer close(ended)
		r.beat(end)
	})
	defer func() { // also when fn panics
		close(end)
		<-ended
	}()
	return fn()
}

// beat gives signs of life until end. If one fails, the commit finds its connection broken.
func (r *rowLock) beat(end <-chan struct{}) {
	next := time.NewTimer(r.g.opt.hold / 4)
	defer next.Stop()
	for r.c.broken == nil {
		select {
		case <-end:
			return
		case <-next.C:
			r.c.call(stPulse, nil)
			if _, err := r.c.run(r.g.opt.statement, nil); err != nil {
				_ = r.c.breaks(err) // the lock is gone
			}
			next.Reset(r.g.opt.hold / 4)
		}
	}
}

// take hands the lock over to a commit.
func (r *rowLock) take() *rowLock {
	if r == nil || r.c == nil {
		return nil
	}
	given := &rowLock{r.g, r.c, r.at}
	r.c = nil
	return given
}

// unlock gives the row free if nobody has taken it over.
func (r *rowLock) unlock() {
	if r == nil || r.c == nil {
		return
	}
	given := r.take()
	r.g.work.Go(func() {
		given.c.bind(stRollback, 0)
		given.c.execute()
		_, _ = given.c.run(given.g.opt.statement, nil)
		given.end()
	})
}

// end gives the connection back when the transaction is over: committed, refused and so rolled
// back, or broken with its connection.
func (r *rowLock) end() {
	r.g.pool.give(r.g.pool.long, r.c)
	r.g.pool.rows <- struct{}{}
}
