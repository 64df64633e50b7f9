package postgres

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
	"github.com/martlet-mail/martlet/internal/fault"
)

// beside returns two nodes of one database that hear nothing of each other, the second behind
// a wire.
func beside(t *testing.T, set ...func(*Options)) (a, b *Engine, wire *pgtest.Proxy) {
	t.Helper()
	url := pgtest.Shared(t)
	wire = pgtest.NewProxy(t, pgtest.SharedServer(t).Address())
	var list [2]*Engine
	for i, url := range []string{url, pgtest.By(url, wire.Address())} {
		opt := options(url)
		opt.poll, opt.without.hints = time.Hour, true
		for _, change := range set {
			change(&opt)
		}
		list[i] = open(t, opt)
	}
	warm(t, list[1], 4)
	return list[0], list[1], wire
}

// look reads a key.
func look(t *testing.T, e *Engine, id engine.Shard, key string) (value string) {
	t.Helper()
	err := e.View(t.Context(), id, func(r engine.Reader) error {
		v, _, err := r.Get([]byte(key))
		value = string(v)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// onItsWay has b change a shard that both nodes know, and keeps the answer until release.
func onItsWay(t *testing.T, a, b *Engine, wire *pgtest.Proxy, id engine.Shard, change func(engine.Writer) error) (first chan error, release func()) {
	t.Helper()
	putAll(t, a, id, "n", "0")
	look(t, b, id, "n")
	caught, release := wire.Answer("m_guarded")
	t.Cleanup(release)
	first = make(chan error, 1)
	go func() { first <- b.Update(t.Context(), id, change) }()
	<-caught
	return first, release
}

// putting changes one key.
func putting(key, value string) func(engine.Writer) error {
	return func(w engine.Writer) error { return w.Put([]byte(key), []byte(value)) }
}

// TestColdUpdate: what an Update has read of a shard that its node knew nothing of, and another
// node has changed since, is not what its commit follows, also if a View of its node has seen
// that change by then.
func TestColdUpdate(t *testing.T) {
	a, b, wire := beside(t)
	if err := a.Update(t.Context(), 1, add); err != nil {
		t.Fatal(err)
	}
	caught, release := wire.Answer("m_get") // to the first question
	defer release()
	done := make(chan error, 1)
	go func() { done <- b.Update(t.Context(), 1, add) }()
	<-caught
	if err := a.Update(t.Context(), 1, add); err != nil {
		t.Fatal(err)
	}
	look(t, b, 1, "other")
	release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := number1(t, a); n != 3 {
		t.Errorf("three were counted as %d", n)
	}
}

// TestUpdateSeesWhatIsOver: an Update that ends with what it found has not found what was old when
// it began, also if a commit of its node was made before that and is answered after it.
func TestUpdateSeesWhatIsOver(t *testing.T) {
	a, b, wire := beside(t)
	first, release := onItsWay(t, a, b, wire, 9, putting("x", "1"))
	putAll(t, a, 9, "x", "2")
	x, found := "", errors.New("what the function found")
	ran, second := make(chan struct{}, 100), make(chan error, 1)
	go func() {
		second <- b.Update(t.Context(), 9, func(w engine.Writer) error {
			v, _, err := w.Get([]byte("x"))
			x = string(v)
			ran <- struct{}{}
			return errors.Join(err, found)
		})
	}()
	<-ran
	s := b.member(0).group.enter(9)
	s.turn <- struct{}{} // its turn is over
	s.release()
	b.member(0).group.leave(s)
	release()
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	if err := <-second; !errors.Is(err, found) {
		t.Fatal(err)
	}
	if x != "2" {
		t.Errorf("what began when x=2 was there has found x=%s", x)
	}
}

// TestOvertakenIsPatientOnly: who waits for a commit that another node's has overtaken does so
// as long as it is patient, or wants to.
func TestOvertakenIsPatientOnly(t *testing.T) {
	a, b, wire := beside(t)
	first, release := onItsWay(t, a, b, wire, 9, putting("y", ""))
	put := func(ctx context.Context) error { return b.Update(ctx, 9, putting("y", "")) }
	putAll(t, a, 9, "x", "2")
	look(t, b, 9, "x")
	if err := put(engine.Patient(t.Context(), 50*time.Millisecond)); !fault.Is(err, fault.Unavailable) {
		t.Errorf("without patience: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := put(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("whose caller has gone: %v", err)
	}
	release()
	if err := <-first; err != nil {
		t.Fatal(err)
	}
}
