package postgres

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// clashed makes one attempt at an Update that has clashed so often that it takes the row.
func clashed(ctx context.Context, s *shard, fn func(engine.Writer) error) error {
	u := &updating{g: s.g, s: s, ctx: ctx, retry: s.g.pool.retry(ctx), clashes: mostClashes}
	defer u.retry.stop()
	return u.attempt(fn)
}

func used(t *testing.T, e *Engine, id engine.Shard) *shard {
	g := e.member(0).group
	s := g.enter(id)
	t.Cleanup(func() { g.leave(s) })
	return s
}

// TestRowAfterLanding: who takes the row waits for what is on its way in the same turn: others
// of its node cannot come in between.
func TestRowAfterLanding(t *testing.T) {
	a, b, wire := beside(t)
	first, release := onItsWay(t, a, b, wire, 1, add)
	s := used(t, b, 1)
	s.turn <- struct{}{} // that one's is over
	s.release()
	second := make(chan error, 1)
	go func() { second <- clashed(t.Context(), s, add) }()
	for len(s.turn) == 0 {
		time.Sleep(time.Millisecond)
	}
	release()
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	if err := <-second; err != nil {
		t.Fatalf("it has to run again: %v", err)
	}
	if n := number1(t, a); n != 2 {
		t.Errorf("%d, not 2", n)
	}
}

// TestRowBesideViews: a row that was waited for is not given back because a View has seen
// something older meanwhile.
func TestRowBesideViews(t *testing.T) {
	a, b, wire := beside(t)
	putAll(t, a, 1, "n", "0")
	look(t, b, 1, "n")
	caught, release := wire.Hold("m_lock")
	defer release()
	s, done := used(t, b, 1), make(chan error, 1)
	go func() { done <- clashed(t.Context(), s, add) }()
	<-caught
	for range 2 {
		look(t, b, 1, "n")
		if err := a.Update(t.Context(), 1, add); err != nil {
			t.Fatal(err)
		}
	}
	release()
	if err := <-done; err != nil {
		t.Fatalf("it has to run again: %v", err)
	}
	if n := number1(t, a); n != 3 {
		t.Errorf("%d, not 3", n)
	}
}

// holdRows locks rows until release.
func holdRows(t *testing.T, e *Engine, ids ...engine.Shard) (release func()) {
	t.Helper()
	p := e.member(0).pool
	c, err := p.take(t.Context(), nil, p.long)
	if err != nil {
		t.Fatal(err)
	}
	c.bind(stBegin, 0)
	c.execute()
	for _, id := range ids {
		c.bind(stLock, 1)
		c.int64(int64(id))
		c.execute()
	}
	if _, err := c.run(p.opt.statement, nil); err != nil {
		t.Fatal(err)
	}
	return sync.OnceFunc(func() {
		c.bind(stRollback, 0)
		c.execute()
		if _, err := c.run(p.opt.statement, nil); err != nil {
			t.Error(err)
		}
		p.give(p.long, c)
	})
}

// TestViewsBesideRows: Views that need a moment held still do not stand behind those who wait
// for rows, and a row that is waited for longer than a statement may take, and than calls usually
// wait, breaks nothing.
func TestViewsBesideRows(t *testing.T) {
	a, b, _ := beside(t, enduring, func(o *Options) { o.statement, o.Patience = 3*time.Second, 6*time.Second })
	patient := engine.Patient(t.Context(), time.Minute)
	p := b.member(0).pool
	for id := range engine.Shard(5) {
		putAll(t, a, id, "x", "0", "y", "0", "z", "0")
	}
	release := holdRows(t, a, 0, 1, 2)
	defer release()
	generation := func() uint64 {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.generation
	}
	before := generation()
	put := func(w engine.Writer) error { return w.Put([]byte("x"), []byte("1")) }
	if err := clashed(engine.Patient(t.Context(), 50*time.Millisecond), used(t, b, 0), put); !fault.Is(err, fault.Unavailable) {
		t.Errorf("without patience: %v", err)
	}
	done := make(chan error, 3)
	for id := range engine.Shard(3) {
		s := used(t, b, id)
		go func() { done <- clashed(patient, s, put) }()
	}
	for b.Stats().RowLocks.Load() < int64(cap(p.rows)) {
		time.Sleep(time.Millisecond)
	}
	err := b.View(patient, 4, func(r engine.Reader) error {
		for _, k := range []string{"x", "y", "z"} {
			if _, _, err := r.Get([]byte(k)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if b.Stats().Snapshots.Load() == 0 {
		t.Error("the View held nothing still")
	}
	time.Sleep(2 * p.opt.statement)
	if now := generation(); now != before {
		t.Errorf("the connections were given up: %d, then %d", before, now)
	}
	release()
	for range 3 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
