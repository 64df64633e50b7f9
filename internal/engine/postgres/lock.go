package postgres

// rowLock is a transaction that holds a shard's row: nobody else commits to the shard as long
// as it is there. It is for shards that several nodes write to all the time, where who comes
// without it might always come too late.
type rowLock struct {
	g *group
	c *conn
}

// lockRow locks the shard's row and brings what is known of the shard up to it.
func (u *updating) lockRow() (*rowLock, error) {
	s := u.s
	c, err := u.g.pool.take(u.ctx, u.g.pool.long)
	if err != nil {
		return nil, err
	}
	row := &rowLock{u.g, c}
	u.g.stats.RowLocks.Add(1)
	s.mu.Lock()
	seq := s.seq
	s.mu.Unlock()
	c.bind(stBegin, 0)
	c.execute()
	c.bind(stLock, 1)
	c.int64(int64(s.id))
	c.execute()
	now := head{home: u.g.home}
	rest := restOf(u.ctx)
	_, err = c.run(u.g.opt.statement, func(_ int, r [][]byte) error {
		now = headOf(r[1:])
		return nil
	})
	rest()
	if err == nil {
		err = u.mayWrite(now)
	}
	if err == nil && s.adopt(now, seq) == nil {
		err = errAgain
	}
	if err != nil {
		u.g.pool.failing(c, err)
		row.unlock()
		return nil, err
	}
	s.mu.Lock()
	s.suspect = s.suspect && s.base.identity != now.identity
	s.mu.Unlock()
	return row, nil
}

// take hands the lock over to a commit.
func (r *rowLock) take() *rowLock {
	if r == nil || r.c == nil {
		return nil
	}
	given := &rowLock{r.g, r.c}
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
func (r *rowLock) end() { r.g.pool.give(r.g.pool.long, r.c) }
