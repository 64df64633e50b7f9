package postgres

// rowAsk is a question for a shard's row, which somebody may hold for long. It cannot be taken back: who
// gives up leaves it to whoever has the turn next. Were there one for each who has given up, those for
// one row would take all the connections that rows are locked by.
type rowAsk struct {
	row  *rowLock
	seq  uint64        // the shard's from before it was asked
	err  error         // why there is no lock
	done chan struct{} // closed when it is answered

	wanted bool // of the shard's lock: whoever has the turn waits for it
}

// askForRow waits for the lock as long as the Update is patient. It is called with the turn: of
// those who want a row one asks at a time.
func (u *updating) askForRow() (*rowAsk, error) {
	a := u.s.takeAsk()
	if a == nil {
		if err := u.until(u.g.pool.rows); err != nil {
			return nil, err
		}
		a = u.s.askRow()
	}
	if gone := u.until(a.done); gone != nil {
		u.s.leaveAsk(a)
		return nil, gone
	}
	return a, a.err
}

// takeAsk returns the question that is not answered yet, nil if there is none.
func (s *shard) takeAsk() *rowAsk {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked != nil {
		s.asked.wanted = true
	}
	return s.asked
}

// askRow asks, with one of the pool's rows. The shard stays in memory until there is an answer, or who
// comes next would not know of the question. That is nobody's alone, so no caller's context ends it.
func (s *shard) askRow() *rowAsk {
	a := &rowAsk{row: &rowLock{g: s.g}, done: make(chan struct{}), wanted: true}
	s.g.hold(s.id)
	s.mu.Lock()
	s.asked, a.seq = a, s.seq
	s.mu.Unlock()
	s.g.work.Go(func() {
		a.err = a.row.ask(s.g.life, s.id)
		s.answered(a)
		s.g.leave(s)
	})
	return a
}

// answered gives the lock to who waits for it. If nobody does, it is given back: nobody may hold a row
// and wait for something else.
func (s *shard) answered(a *rowAsk) {
	s.mu.Lock()
	wanted := a.wanted
	s.asked = nil
	s.mu.Unlock()
	close(a.done)
	if !wanted {
		a.row.unlock()
	}
}

// leaveAsk is for who waits no longer. If the answer has come just now, the lock is his to give back.
func (s *shard) leaveAsk(a *rowAsk) {
	s.mu.Lock()
	a.wanted = false
	came := s.asked != a
	s.mu.Unlock()
	if came {
		a.row.unlock()
	}
}
