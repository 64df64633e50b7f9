package postgres

import (
	"errors"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// enduring is for nodes that hold rows while a test looks at others, which the server would end, and
// that may wait for several.
func enduring(o *Options) { o.hold, o.Connections = time.Hour, 16 }

// allRows waits until all that rows are locked by has been given back.
func allRows(t *testing.T, p *pool) {
	t.Helper()
	_ = ends(t, func() error {
		for len(p.rows) < cap(p.rows) {
			time.Sleep(time.Millisecond)
		}
		return nil
	})
}

// givesUp wants a shard's row and leaves, while a test sees to it that no answer comes.
func givesUp(t *testing.T, s *shard) {
	t.Helper()
	if err := clashed(engine.Patient(t.Context(), little), s, putting("n", "given up")); !fault.Is(err, fault.Unavailable) {
		t.Errorf("without patience: %v", err)
	}
}

// takesOver has somebody wait for a row that was asked for already.
func takesOver(t *testing.T, s *shard, fn func(engine.Writer) error) chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- clashed(t.Context(), s, fn) }()
	for wanted := false; !wanted; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		wanted = s.asked != nil && s.asked.wanted
		s.mu.Unlock()
	}
	return done
}

// TestHeldRowKeepsOneConnection: callers who give up on a row that is held leave one question behind,
// not one each. Other rows are locked meanwhile, and the row itself when it is free.
func TestHeldRowKeepsOneConnection(t *testing.T) {
	a, b, _ := beside(t, enduring)
	for id := range engine.Shard(2) {
		putAll(t, a, id, "n", "0")
		look(t, b, id, "n")
	}
	release := holdRows(t, a, 0)
	defer release()
	held, free, p := used(t, b, 0), used(t, b, 1), b.member(0).pool
	for range cap(p.rows) + 1 {
		givesUp(t, held)
	}
	if n := len(p.rows); n != cap(p.rows)-1 {
		t.Errorf("%d of %d are left", n, cap(p.rows))
	}
	if err := ends(t, func() error { return clashed(t.Context(), free, putting("n", "1")) }); err != nil {
		t.Errorf("another row: %v", err)
	}
	done := takesOver(t, held, putting("n", "2"))
	release()
	if err := <-done; err != nil {
		t.Errorf("when it is free: %v", err)
	}
	if n := b.Stats().RowLocks.Load(); n != 2 {
		t.Errorf("%d questions for two rows", n)
	}
	if err := clashed(t.Context(), held, putting("n", "3")); err != nil {
		t.Errorf("after that: %v", err)
	}
	if got := look(t, a, 0, "n"); got != "3" {
		t.Error(got)
	}
	allRows(t, p)
}

// TestLockForNobody: a lock that comes when all have left is given back.
func TestLockForNobody(t *testing.T) {
	a, b, wire := beside(t)
	putAll(t, a, 1, "n", "0")
	look(t, b, 1, "n")
	s := used(t, b, 1)
	caught, release := wire.Answer("m_lock")
	defer release()
	givesUp(t, s)
	<-caught
	release()
	allRows(t, b.member(0).pool)
	if err := clashed(t.Context(), used(t, a, 1), putting("n", "1")); err != nil {
		t.Error(err)
	}
	putAll(t, b, 1, "n", "2")
	if got := look(t, a, 1, "n"); got != "2" {
		t.Error(got)
	}
}

// TestLockJustWhenLeaving: a lock that comes just when the last one leaves, who has not seen it yet, is
// given back.
func TestLockJustWhenLeaving(t *testing.T) {
	a, b, _ := beside(t)
	putAll(t, a, 1, "n", "0")
	s, p := used(t, b, 1), b.member(0).pool
	<-p.rows
	late := s.askRow()
	<-late.done
	if late.err != nil {
		t.Fatal(late.err)
	}
	s.leaveAsk(late)
	allRows(t, p)
	if err := clashed(t.Context(), s, putting("n", "1")); err != nil {
		t.Error(err)
	}
}

// TestTakenOverAfterChanges: a question that was asked before others changed the shard, and before
// this node saw that, is as good as one of now.
func TestTakenOverAfterChanges(t *testing.T) {
	a, b, wire := beside(t)
	putAll(t, a, 1, "n", "0")
	look(t, b, 1, "n")
	s := used(t, b, 1)
	caught, release := wire.Hold("m_lock")
	defer release()
	givesUp(t, s)
	<-caught
	if err := a.Update(t.Context(), 1, add); err != nil {
		t.Fatal(err)
	}
	look(t, b, 1, "n")
	if err := a.Update(t.Context(), 1, add); err != nil {
		t.Fatal(err)
	}
	done := takesOver(t, s, add)
	release()
	if err := <-done; err != nil {
		t.Errorf("it has to run again: %v", err)
	}
	if n := number1(t, a); n != 3 {
		t.Errorf("%d, not 3", n)
	}
}

// TestTakenOverFromBefore: that there was no row, when it was asked for, is not believed by who has
// seen it since.
func TestTakenOverFromBefore(t *testing.T) {
	a, b, wire := beside(t)
	const id = engine.Shard(7300) // nobody has written it
	s := used(t, b, id)
	caught, release := wire.Answer("m_lock")
	defer release()
	givesUp(t, s)
	<-caught
	putAll(t, a, id, "n", "1")
	look(t, b, id, "n")
	done := takesOver(t, s, putting("n", "2"))
	release()
	if err := <-done; !errors.Is(err, errAgain) {
		t.Errorf("it ran on what was before: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.base.version != 1 {
		t.Errorf("the newest state is %d, not 1", s.base.version)
	}
}

// TestAskBreaks: a question whose connection breaks is asked anew by who comes next.
func TestAskBreaks(t *testing.T) {
	a, b, wire := beside(t)
	putAll(t, a, 1, "n", "0")
	look(t, b, 1, "n")
	s, p := used(t, b, 1), b.member(0).pool
	caught, release := wire.Hold("m_lock")
	defer release()
	givesUp(t, s)
	<-caught
	done := takesOver(t, s, putting("n", "1"))
	wire.Cut()
	release()
	if err := <-done; !errors.Is(err, errBroken) {
		t.Errorf("its connection is gone: %v", err)
	}
	allRows(t, p)
	if err := clashed(t.Context(), s, putting("n", "2")); err != nil {
		t.Error(err)
	}
	allRows(t, p)
}

// TestAskWithoutConnection: a question that there is no connection for leaves nothing behind.
func TestAskWithoutConnection(t *testing.T) {
	a, b, wire := beside(t)
	putAll(t, a, 1, "n", "0")
	look(t, b, 1, "n")
	s, p := used(t, b, 1), b.member(0).pool
	wire.Refuse(true)
	wire.Cut()
	for n := 0; n <= cap(p.rows); { // those that were there before go first
		err := ends(t, func() error { return clashed(t.Context(), s, putting("n", "1")) })
		if errors.Is(err, errReach) {
			n++
		} else if !errors.Is(err, errBroken) {
			t.Fatalf("without a connection: %v", err)
		}
	}
	allRows(t, p)
	wire.Refuse(false)
	if err := clashed(t.Context(), s, putting("n", "2")); err != nil {
		t.Error(err)
	}
	allRows(t, p)
}

// TestAskKeepsItsShard: a question is known to who comes next also where memory is short.
func TestAskKeepsItsShard(t *testing.T) {
	a, b, _ := beside(t, enduring)
	for id := range engine.Shard(2) {
		putAll(t, a, id, "n", "0")
		look(t, b, id, "n")
	}
	release := holdRows(t, a, 0)
	defer release()
	g := b.member(0).group
	g.most.Store(1)
	for range 2 {
		s := g.enter(0)
		givesUp(t, s)
		g.leave(s)
		look(t, b, 1, "n") // which makes room
	}
	if n := len(g.pool.rows); n != cap(g.pool.rows)-1 {
		t.Errorf("%d of %d are left", n, cap(g.pool.rows))
	}
	release()
	allRows(t, g.pool)
	look(t, b, 1, "n")
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shards[0] != nil {
		t.Error("the shard stays for ever")
	}
}

// TestAskEnds: who closes the engine does not wait for a row that somebody holds.
func TestAskEnds(t *testing.T) {
	a, b, _ := beside(t, enduring, func(o *Options) { o.statement = time.Second })
	putAll(t, a, 0, "n", "0")
	look(t, b, 0, "n")
	release := holdRows(t, a, 0)
	defer release()
	givesUp(t, used(t, b, 0))
	if err := ends(t, b.Close); err != nil {
		t.Error(err)
	}
}
