package postgres

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// little is a patience, and how long a caller stays, where what is waited for does not come before
// the test has seen the end of them.
const little = 50 * time.Millisecond

// ends returns how a call ended, which is not to wait for what the test holds.
func ends(t *testing.T, call func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- call() }()
	select {
	case err := <-done:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for what this test holds")
		return nil
	}
}

// patientOnly has a call wait for what the test holds: it fails when its patience is over, and when
// its caller has gone.
func patientOnly(t *testing.T, call func(ctx context.Context) error) {
	t.Helper()
	if err := ends(t, func() error { return call(engine.Patient(t.Context(), little)) }); !fault.Is(err, fault.Unavailable) {
		t.Errorf("without patience: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), little)
	defer cancel()
	if err := ends(t, func() error { return call(ctx) }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("whose caller has gone: %v", err)
	}
}

// stopCarriers has commits lie in the outbox for the test to carry. Carriers of before may not have
// gone yet, and would carry on.
func stopCarriers(o *outbox) {
	for {
		o.mu.Lock()
		free := o.running == 0
		if free {
			o.running = carriers
		}
		o.mu.Unlock()
		if free {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// noCarriers has commits lie in the outbox until release, or until the test carries them.
func noCarriers(e *Engine) (release func()) {
	g := e.member(0).group
	o := &g.outbox
	stopCarriers(o)
	return sync.OnceFunc(func() {
		o.mu.Lock()
		o.running = 1
		o.mu.Unlock()
		g.work.Go(g.carry)
	})
}

// lies waits until so many commits lie in the outbox.
func lies(e *Engine, n int) {
	o := &e.member(0).outbox
	for there := -1; there != n; time.Sleep(time.Millisecond) {
		o.mu.Lock()
		there = len(o.list)
		o.mu.Unlock()
	}
}

// TestUnsentIsGivenUp: a change that no carrier has taken is given up, whether it is the next of its
// shard or gathers behind that one, and is not made afterwards.
func TestUnsentIsGivenUp(t *testing.T) {
	a, b, _ := beside(t)
	for id := range engine.Shard(2) {
		putAll(t, a, id, "first", "0", "second", "0")
		look(t, b, id, "first")
	}
	release := noCarriers(b)
	defer release()
	patientOnly(t, func(ctx context.Context) error { return b.Update(ctx, 0, putting("first", "1")) })
	lies(b, 0)
	first := make(chan error, 1)
	go func() { first <- b.Update(t.Context(), 1, putting("first", "1")) }()
	lies(b, 1)
	patientOnly(t, func(ctx context.Context) error { return b.Update(ctx, 1, putting("second", "1")) })
	release()
	if err := <-first; err != nil {
		t.Error(err)
	}
	for id, want := range []string{"0", "1"} {
		if got := look(t, a, engine.Shard(id), "first"); got != want {
			t.Errorf("shard %d: %s, not %s", id, got, want)
		}
		if got := look(t, a, engine.Shard(id), "second"); got != "0" {
			t.Errorf("shard %d: what was given up is there: %s", id, got)
		}
	}
	putAll(t, b, 0, "first", "2") // it goes on
	if got := look(t, a, 0, "first"); got != "2" {
		t.Error(got)
	}
}

// TestUnsentOfOthers: what the patient have written beside one who gives up comes to be.
func TestUnsentOfOthers(t *testing.T) {
	a, b, _ := beside(t)
	putAll(t, a, 1, "n", "0")
	look(t, b, 1, "n")
	release := noCarriers(b)
	defer release()
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- b.Update(ctx, 1, putting("first", "1")) }()
	lies(b, 1)
	go func() { second <- b.Update(t.Context(), 1, putting("second", "1")) }()
	s := used(t, b, 1)
	for gathers := false; !gathers; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		gathers = s.waiting != nil
		s.mu.Unlock()
	}
	leave()
	if err := ends(t, func() error { return <-first }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	lies(b, 1)
	release()
	if err := <-second; err != nil {
		t.Error(err)
	}
	if first, second := look(t, a, 1, "first"), look(t, a, 1, "second"); first != "" || second != "1" {
		t.Errorf("first %q, second %q", first, second)
	}
}

// TestUnsentWithoutConnection: what waits for a connection, maybe together with what more patient callers
// have written to other shards, has not been sent.
func TestUnsentWithoutConnection(t *testing.T) {
	a, b, _ := beside(t)
	for id := range engine.Shard(2) {
		putAll(t, a, id, "x", "0")
		look(t, b, id, "x")
	}
	p := b.member(0).pool
	goOn := noCarriers(b)
	defer goOn()
	runs, other := 0, make(chan error, 1)
	go func() {
		other <- b.Update(t.Context(), 1, func(w engine.Writer) error { runs++; return putting("x", "1")(w) })
	}()
	lies(b, 1)
	var slots []int
	for range cap(p.short) {
		slots = append(slots, <-p.short)
	}
	goOn()
	patientOnly(t, func(ctx context.Context) error { return b.Update(ctx, 0, putting("x", "1")) })
	for _, slot := range slots {
		p.short <- slot
	}
	if err := <-other; err != nil || runs != 1 {
		t.Errorf("the other one, run %d times: %v", runs, err)
	}
	_ = ends(t, func() error { // carriers that found nothing any more have given theirs back
		for len(p.short) < cap(p.short) {
			time.Sleep(time.Millisecond)
		}
		return nil
	})
	for id, want := range []string{"0", "1"} {
		if got := look(t, a, engine.Shard(id), "x"); got != want {
			t.Errorf("shard %d: %s, not %s", id, got, want)
		}
	}
}

// TestSentIsWaitedFor: what a carrier has taken is waited for though the caller has gone, since it
// may come to be.
func TestSentIsWaitedFor(t *testing.T) {
	a, b, _ := beside(t)
	for id := range engine.Shard(2) {
		putAll(t, a, id, "x", "0")
		look(t, b, id, "x")
	}
	defer noCarriers(b)()
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	sent := make(chan error, 1)
	go func() { sent <- b.Update(ctx, 0, putting("x", "1")) }()
	lies(b, 1)
	g := b.member(0).group
	c, err := g.vehicle()
	if err != nil {
		t.Fatal(err)
	}
	load := g.outbox.take()
	leave()
	patientOnly(t, func(ctx context.Context) error { return b.Update(ctx, 1, putting("x", "1")) }) // the first one has noticed by now
	select {
	case err := <-sent:
		t.Fatalf("it has ended before anybody knows how: %v", err)
	default:
	}
	g.send(load, c)
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if got := look(t, a, 0, "x"); got != "1" {
		t.Error(got)
	}
}

// TestProofIsPatientOnly: who has only read, and waits for another's commit to prove what that was,
// leaves when the patience is over; the other's commit stays.
func TestProofIsPatientOnly(t *testing.T) {
	a, b, _ := beside(t)
	putAll(t, a, 1, "x", "0")
	look(t, b, 1, "x")
	release := noCarriers(b)
	defer release()
	writes := make(chan error, 1)
	go func() { writes <- b.Update(t.Context(), 1, putting("x", "1")) }()
	lies(b, 1)
	patientOnly(t, func(ctx context.Context) error {
		return b.Update(ctx, 1, func(w engine.Writer) error { _, _, err := w.Get([]byte("x")); return err })
	})
	lies(b, 1)
	release()
	if err := <-writes; err != nil {
		t.Error(err)
	}
}

// TestSlotIsPatientOnly: who waits for a connection that others have does so as long as he is
// patient.
func TestSlotIsPatientOnly(t *testing.T) {
	a, b, _ := beside(t)
	putAll(t, a, 1, "x", "0", "y", "0", "z", "0")
	p := b.member(0).pool
	for name, c := range map[string]struct {
		slots chan int
		call  func(ctx context.Context) error
	}{
		"a View": {p.short, func(ctx context.Context) error {
			return b.View(ctx, 77, func(r engine.Reader) error { _, _, err := r.Get([]byte("x")); return err })
		}},
		"a moment": {p.long, func(ctx context.Context) error {
			return b.View(ctx, 1, func(r engine.Reader) error {
				for _, k := range []string{"x", "y", "z"} {
					if _, _, err := r.Get([]byte(k)); err != nil {
						return err
					}
				}
				return nil
			})
		}},
		"a place": {p.long, func(ctx context.Context) error {
			_, err := b.ground(0).read(ctx, call{stPlace, []any{int64(acct)}})
			return err
		}},
		"a mark": {p.long, func(ctx context.Context) error {
			return b.ground(0).tx(ctx, nil, func(rows) ([]call, error) { return []call{{stMeta, []any{groupMark}}}, nil })
		}},
		"a body": {p.short, func(ctx context.Context) error {
			return poolShelf{p}.ask(ctx, nil, stMeta, groupMark)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			for range cap(c.slots) {
				slot := <-c.slots
				defer func() { c.slots <- slot }()
			}
			patientOnly(t, c.call)
		})
	}
}

// TestSuretyIsPatientOnly: who waits for a commit that proves that the server is the primary does
// so as long as he is patient.
func TestSuretyIsPatientOnly(t *testing.T) {
	_, b, wire := beside(t, func(o *Options) { o.statement = time.Hour })
	id := atomic.Uint64{} // of shards that nobody knows
	see := func(ctx context.Context) error {
		s := &b.member(0).pool.surety
		s.mu.Lock()
		s.sent = time.Time{} // long ago
		s.mu.Unlock()
		return b.View(ctx, engine.Shard(id.Add(1)), func(r engine.Reader) error { _, _, err := r.Get([]byte("x")); return err })
	}
	if err := see(t.Context()); err != nil { // for which it makes a connection
		t.Fatal(err)
	}
	caught, release := wire.Hold("m_fence")
	defer release()
	first := make(chan error, 1)
	go func() { first <- see(t.Context()) }()
	<-caught
	patientOnly(t, see)
	release()
	if err := <-first; err != nil {
		t.Error(err)
	}
}

// TestPatienceBeginsWithTheCall: what the first attempt took counts.
func TestPatienceBeginsWithTheCall(t *testing.T) {
	_, b, _ := beside(t)
	r := b.member(0).pool.retry(engine.Patient(t.Context(), 2*firstPause))
	defer r.stop()
	time.Sleep(3 * firstPause) // the first attempt
	if err := r.again(errReach); !fault.Is(err, fault.Unavailable) {
		t.Errorf("there is to be another attempt: %v", err)
	}
}

// TestWorkIsNoWaiting: a function that takes longer than the call is patient does not wear out its
// patience: the database is well.
func TestWorkIsNoWaiting(t *testing.T) {
	a, b, _ := beside(t)
	putAll(t, a, 1, "x", "0", "y", "0", "z", "0")
	look(t, b, 1, "x")
	const patience = time.Second // enough for what is waited for, on any machine
	for i := range 3 {
		err := b.Update(engine.Patient(t.Context(), patience), 1, func(w engine.Writer) error {
			time.Sleep(patience + 20*time.Millisecond)
			return w.Put([]byte("x"), []byte(strconv.Itoa(i)))
		})
		if err != nil {
			t.Error(err)
		}
	}
	putAll(t, a, 1, "x", "1") // b knows nothing of y and z
	err := b.View(engine.Patient(t.Context(), patience), 1, func(r engine.Reader) error {
		for _, k := range []string{"x", "y", "z"} {
			if _, _, err := r.Get([]byte(k)); err != nil {
				return err
			}
			time.Sleep(suretyLasts + patience) // so that the server is asked again whether it is the primary
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestPatienceIsOne: what a function misses is waited for with what is left of the call's patience: one
// that has waited for the proof of what it knows does not wait as long again where the database goes then.
func TestPatienceIsOne(t *testing.T) {
	for name, call := range map[string]func(s *shard, fn func(r engine.Reader, wait *retry) error) error{
		"a View": func(s *shard, fn func(engine.Reader, *retry) error) error {
			v := &viewing{g: s.g, s: s, ctx: t.Context(), retry: s.g.pool.retry(t.Context())}
			defer v.retry.stop()
			return v.attempt(func(r engine.Reader) error { return fn(r, v.retry) })
		},
		"an Update": func(s *shard, fn func(engine.Reader, *retry) error) error {
			u := &updating{g: s.g, s: s, ctx: t.Context(), retry: s.g.pool.retry(t.Context())}
			defer u.retry.stop()
			return u.attempt(func(w engine.Writer) error { return fn(w, u.retry) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b, wire := beside(t, func(o *Options) { o.Patience = time.Hour })
			putAll(t, a, 1, "x", "0", "y", "0")
			look(t, b, 1, "x")
			err := ends(t, func() error {
				return call(used(t, b, 1), func(r engine.Reader, wait *retry) error {
					wait.until = time.Now() // it has been waited for so long
					wire.Refuse(true)
					wire.Cut()
					_, _, err := r.Get([]byte("y"))
					return err
				})
			})
			if !fault.Is(err, fault.Unavailable) {
				t.Error(err)
			}
		})
	}
}

// TestReadingIsNoWaiting: a call that reads for longer than it is patient is not at its end with that.
func TestReadingIsNoWaiting(t *testing.T) {
	a, b, wire := beside(t)
	keys := strings.Fields("a b c d e f g h i j k l")
	for _, k := range keys {
		putAll(t, a, 1, k, "0")
	}
	p := &b.member(0).pool.surety
	p.mu.Lock()
	p.sent = time.Time{} // so that it has its connection
	p.mu.Unlock()
	look(t, b, 1, "n")
	const patience = 3 * time.Second
	wire.Delay(patience / 10) // in each direction
	err := b.Update(engine.Patient(t.Context(), patience), 1, func(w engine.Writer) error {
		for _, k := range keys {
			if _, _, err := w.Get([]byte(k)); err != nil {
				return err
			}
		}
		return w.Put([]byte("x"), []byte("1"))
	})
	if err != nil {
		t.Error(err)
	}
}
