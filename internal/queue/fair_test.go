package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// before returns how many attempts came before the first one for a recipient.
func (c *courier) before(to string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n, k := range c.calls {
		if k.to[0] == to {
			return n
		}
	}
	return -1
}

// flood queues many messages of one account and then one of another, to the same domain.
func flood(t *testing.T, many int, last string) *bench {
	b := newBench(t, func(o *Options) { o.Workers, o.PerDomain = 4, 2 })
	p := b.parcel(sample)
	var entries []Entry
	for range many {
		env := envelope("big@martlet.test", "x@example.org")
		env.Login = "big@martlet.test"
		entries = append(entries, Entry{Envelope: env, Parcel: p})
	}
	if _, err := b.q.Enqueue(t.Context(), entries...); err != nil {
		t.Fatal(err)
	}
	env := envelope("small@martlet.test", "y@example.org")
	env.Login = last
	b.enqueue(Entry{Envelope: env, Parcel: p})
	b.pump()
	b.sound()
	b.empty()
	return b
}

// A sender with much mail holds up nobody else's, not even to the same domain.
func TestSenderHoldsUpNobody(t *testing.T) {
	if n := flood(t, 500, "small@martlet.test").courier.before("y@example.org"); n < 0 || n > 10 {
		t.Errorf("%d attempts came before that of the other sender", n)
	}
	// The control: more mail of the same account waits for its turn.
	if n := flood(t, 500, "big@martlet.test").courier.before("y@example.org"); n < 450 {
		t.Errorf("only %d attempts came before", n)
	}
}

// Domains take turns, however much waits for each.
func TestDomainsTakeTurns(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Workers, o.PerDomain = 8, 8 })
	p := b.parcel(sample)
	for i := range 400 {
		b.enqueue(Entry{Envelope: envelope("", fmt.Sprintf("x@d%d.test", i%4)), Parcel: p})
	}
	b.enqueue(Entry{Envelope: envelope("", "y@late.test"), Parcel: p})
	b.pump()
	if n := b.courier.before("y@late.test"); n < 0 || n > 20 {
		t.Errorf("%d attempts came before that for another domain", n)
	}
	b.empty()
}

// What is urgent goes first, within a domain.
func TestPriorityOrder(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Workers, o.PerDomain = 1, 1 })
	p := b.parcel(sample)
	for _, n := range []int{-4, 0, 9, 3, -9} {
		for i := range 3 {
			env := envelope(fmt.Sprintf("s%d@martlet.test", i), fmt.Sprintf("p%d@example.org", n+10))
			env.Priority = n
			b.enqueue(Entry{Envelope: env, Parcel: p})
		}
	}
	b.pump()
	got := ""
	for _, c := range b.courier.calls {
		got += strings.TrimSuffix(c.to[0], "@example.org") + " "
	}
	// The eighth is the share of what is less urgent, of which p6 has waited for longest.
	if want := "p19 p19 p19 p13 p13 p13 p10 p6 p10 p10 p6 p6 p1 p1 p1 "; got != want {
		t.Errorf("%s", got)
	}
	b.empty()
}

// Ever new mail of the highest priority, more than goes out, leaves an eighth to the rest; of
// that nobody waits for ever either.
func TestPriorityStarvesNobody(t *testing.T) {
	for _, window := range []bool{false, true} {
		b := newBench(t, func(o *Options) {
			if o.Workers, o.PerDomain = 1, 1; !window {
				o.Workers, o.PerDomain = 20, 10
				o.Rules = func(string) Rules { return Rules{PerMinute: 1} }
			}
		})
		p := b.parcel(sample)
		put := func(who string, priority, n int) {
			env := envelope("", who+"@example.org")
			env.Login, env.Priority = who+"@martlet.test", priority
			for range n {
				b.enqueue(Entry{Envelope: env, Parcel: p})
			}
		}
		put("low", -9, 3)
		b.clock.add(time.Second)
		put("plain", 0, 20)
		for range 160 {
			put("urgent", 9, 2)
			b.clock.add(time.Minute)
			picks, _, err := b.q.due(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range picks {
				b.q.attempt(t.Context(), k)
				b.q.land(k)
			}
		}
		n := map[string]int{}
		for _, c := range b.courier.calls {
			n[strings.TrimSuffix(c.to[0], "@example.org")]++
		}
		if total := n["low"] + n["plain"] + n["urgent"]; total != 160 || n["low"] != 3 || n["plain"] != 17 {
			t.Errorf("window %v: %v", window, n)
		}
		b.sound()
	}
}

// The attempts at a time follow the answers, between one and the limit.
func TestPace(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Workers, o.PerDomain = 100, 12 })
	k := pick{lane: laneOf("rexample.org", &mail.Envelope{})}
	begin := func() pick {
		b.q.mu.Lock()
		defer b.q.mu.Unlock()
		p := k
		p.epoch = b.q.spend("rexample.org", 1)
		return p
	}
	end := func(p pick, r Result) (window int, down bool) {
		down = b.q.learn(p, []Result{r})
		b.q.mu.Lock()
		defer b.q.mu.Unlock()
		b.q.paces["rexample.org"].active--
		return b.q.room("rexample.org", 1), down
	}
	window := 0
	for range 20 {
		window, _ = end(begin(), ok)
	}
	if window != 12 {
		t.Errorf("after 20 successes: %d", window)
	}
	busy := Result{Code: 421, Enhanced: "4.7.0", Text: "Too many connections", Host: "mx"}
	a, c := begin(), begin()
	if window, _ = end(a, busy); window != 5 { // 6, and one is under way
		t.Errorf("after trouble: %d", window)
	}
	if window, _ = end(c, busy); window != 6 {
		t.Errorf("the same trouble counts twice: %d", window)
	}
	if window, _ = end(begin(), unknown); window != 6 {
		t.Errorf("after an answer: %d", window)
	}
	for range 7 {
		window, _ = end(begin(), ok)
	}
	if window != 7 {
		t.Errorf("after some successes: %d", window)
	}
	if window, _ = end(begin(), greylist); window < 7 {
		t.Errorf("greylisting is no trouble: %d", window)
	}
	down := false
	for range 10 {
		window, down = end(begin(), busy)
	}
	if window != 1 || !down {
		t.Errorf("after much trouble: %d, left alone: %v", window, down)
	}
}

// A host that says 421 to everything is left alone as one that does not answer.
func TestBusyHostIsLeftAlone(t *testing.T) {
	b := newBench(t, nil)
	b.courier.script = always(Result{Code: 421, Enhanced: "4.3.2", Text: "busy", Host: "mx.example.org"})
	p := b.parcel(sample)
	for range 200 {
		b.enqueue(Entry{Envelope: envelope("", "x@example.org"), Parcel: p})
	}
	b.pump()
	if n := b.courier.count(); n > 20 {
		t.Errorf("%d attempts", n)
	}
	b.sound()
}

// Mail in lanes of earlier versions is sent, beside new mail.
func TestOldLane(t *testing.T) {
	b := newBench(t, nil)
	b.courier.script = always(greylist)
	old, recent := b.put("alice@martlet.test", "old@example.org"), b.put("alice@martlet.test", "new@example.org")
	b.pump()
	b.clock.add(-5 * time.Minute)
	err := b.q.update(t.Context(), func(t tx) error {
		g, err := t.look().group(old, 0)
		if err != nil {
			return err
		}
		was := *g
		g.lane = "rexample.org"
		m, _, err := t.message(old)
		if err != nil {
			return err
		}
		return t.relist(m, 0, true, &was, g)
	})
	if err != nil {
		t.Fatal(err)
	}
	b.sound()
	b.restart()
	b.courier.script = alwaysOK
	b.pass(20*time.Minute, time.Minute)
	for id, to := range map[ID]string{old: "old", recent: "new"} {
		if n := b.courier.taken[id.String()+" "+to+"@example.org"]; n != 1 {
			t.Errorf("%s: %d copies", to, n)
		}
	}
	b.empty()
}

// A destination of version 1 has a lane with its name, and is read.
func TestOldDestinationRecord(t *testing.T) {
	l := lane{due: 4, notBefore: 9, fails: 2, reason: "y"}
	e := newEnc()
	e.I(l.due)
	e.I(l.notBefore)
	e.U(uint64(l.fails))
	e.Str(l.reason)
	got, err := decodeLane(e.seal())
	if l.classes = plain; err != nil || *got != l {
		t.Errorf("%+v, %v", got, err)
	}
}

// Changes that are made together do not share their fate.
func TestChangesTogether(t *testing.T) {
	b := newBench(t, nil)
	bad := fault.New(fault.Corrupt, "no good")
	gate := make(chan struct{})
	errs := make(chan error, 20)
	go func() { errs <- b.q.outcomes.do(t.Context(), 1, func(tx) error { <-gate; return nil }) }()
	for until := time.Now().Add(10 * time.Second); ; {
		b.q.outcomes.mu.Lock()
		begun := b.q.outcomes.busy && len(b.q.outcomes.waiting) == 0
		b.q.outcomes.mu.Unlock()
		if begun || time.Now().After(until) {
			break
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancelled := make(chan error)
	for n := range 10 {
		go func() {
			errs <- b.q.outcomes.do(t.Context(), 1, func(t tx) error {
				if n == 3 {
					return bad
				}
				return t.Put(engine.Key('z', uint64(n)), nil)
			})
		}()
	}
	go func() {
		cancelled <- b.q.outcomes.do(gone, 1, func(t tx) error { return t.Put(engine.Key('z', 99), nil) })
	}()
	for n := 0; n < 11; {
		b.q.outcomes.mu.Lock()
		n = len(b.q.outcomes.waiting)
		b.q.outcomes.mu.Unlock()
	}
	cancel()
	if err := <-cancelled; !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	close(gate)
	failed := 0
	for range 11 {
		if err := <-errs; err != nil {
			failed++
			if !fault.Is(err, fault.Corrupt) {
				t.Error(err)
			}
		}
	}
	if failed != 1 || b.keys("z") != 9 {
		t.Errorf("%d failed, %d records", failed, b.keys("z"))
	}
}

// What was taken off the front of a lane is not walked over, and what is put there again
// is found.
func TestHeads(t *testing.T) {
	b := newBench(t, nil)
	p := b.parcel(sample)
	var ids []ID
	for range 20 {
		ids = append(ids, b.enqueue(Entry{Envelope: envelope("", "x@example.org"), Parcel: p}))
		b.clock.add(time.Second)
	}
	lane := laneOf("rexample.org", &mail.Envelope{})
	low := func() int64 {
		key, _ := b.q.heads.from(lanePrefix(lane))
		if len(key) < 24 {
			return 0
		}
		_, at, _, _ := splitWaiting(key)
		return at
	}
	for _, id := range ids[:10] {
		if err := b.q.Drop(t.Context(), id, false); err != nil {
			t.Fatal(err)
		}
	}
	front := low()
	if want := b.list()[0].Next.UnixMilli(); front != want {
		t.Fatalf("the front is at %d, not %d", front, want)
	}
	b.clock.add(-time.Hour) // and now one comes before all others
	b.put("", "x@example.org")
	if got := low(); got >= front {
		t.Errorf("the front is still at %d", got)
	}
	b.pump()
	if n := b.courier.count(); n != 1 {
		t.Errorf("%d attempts", n)
	}
	// A change that fails moves nothing.
	front = low()
	_ = b.q.update(t.Context(), func(t tx) error {
		g, err := t.look().group(ids[10], 0)
		if err == nil {
			err = t.unlist(ids[10], 0, g)
		}
		if err == nil {
			err = t.settle()
		}
		return errors.Join(err, errors.New("no"))
	})
	b.clock.add(time.Hour)
	b.pump()
	if got := b.courier.taken[ids[10].String()+" x@example.org"]; got != 1 {
		t.Errorf("%d copies; the front was at %d", got, front)
	}
	b.empty()
}
