package node

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// A node that cannot reach the engine stops before another can begin, and goes on by itself
// after an outage of all, in which nobody is taken over from.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		var r roll
		a, b := w.node(0, "a"), w.node(1, "b")
		a.work(&r, Lease{Name: "x"})
		synctest.Wait()
		b.work(&r, Lease{Name: "x"})
		time.Sleep(time.Minute)
		a.engine.Down(true) // a alone
		time.Sleep(leaseTime/3*2 + time.Second)
		if r.now() != "[]" {
			t.Errorf("cut off for two thirds of a lease, at work: %s", r.now())
		}
		time.Sleep(leaseTime)
		if r.now() != "[b]" {
			t.Errorf("at work: %s", r.now())
		}
		a.engine.Down(false)
		time.Sleep(time.Minute)
		a.engine.Down(true) // everybody, for as long as you like
		b.engine.Down(true)
		time.Sleep(time.Hour)
		if r.now() != "[]" {
			t.Errorf("while nobody can be told, at work: %s", r.now())
		}
		a.engine.Down(false)
		time.Sleep(time.Second)
		b.engine.Down(false)
		time.Sleep(leaseTime / 2)
		if r.now() != "[b]" || r.most != 1 {
			t.Errorf("after the outage, at work: %s; %v", r.now(), r.at)
		}
	})
}

// A lease with a home is its home's whenever that lives and stays.
func TestHome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		var r roll
		home := Lease{Name: "queue/1", Homed: true, Home: 1}
		a, b := w.node(0, "a"), w.node(1, "b")
		a.work(&r, home)
		synctest.Wait()
		time.Sleep(leaseTime)
		if r.now() != "[]" {
			t.Errorf("a has what is b's: %s", r.now())
		}
		b.work(&r, home)
		time.Sleep(time.Second)
		if r.now() != "[b]" {
			t.Errorf("at work: %s", r.now())
		}
		if err := a.Drain(t.Context(), "b", true); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if r.now() != "[a]" || !b.Draining() {
			t.Errorf("b drains (%v), at work: %s", b.Draining(), r.now())
		}
		if err := b.Drain(t.Context(), "b", false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(leaseTime / 3)
		if r.now() != "[b]" || b.Draining() {
			t.Errorf("b stays, at work: %s", r.now())
		}
		b.die()
		time.Sleep(2 * leaseTime)
		if r.now() != "[a]" {
			t.Errorf("b is dead, at work: %s", r.now())
		}
		b = w.node(1, "b") // waits until its former run must be over
		if b.Number() != 1 {
			t.Errorf("b is number %d now", b.Number())
		}
		b.work(&r, home)
		time.Sleep(leaseTime)
		if r.now() != "[b]" || r.most != 1 {
			t.Errorf("b is back, at work: %s; %v", r.now(), r.at)
		}
	})
}

// A run that is known to have ended is not waited for; one that lives is not replaced. Whoever waits
// says for what, and for how long.
func TestSameName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		var r roll
		a := w.node(0, "a")
		a.work(&r, Lease{Name: "x"})
		other, err := w.open(1, "a")
		if err == nil {
			err = other.Join(t.Context())
		}
		if !fault.Is(err, fault.Busy) {
			t.Errorf("two processes are one node: %v", err)
		}
		a.die()
		began := time.Now()
		next := w.node(1, "a", func(o *Options) { o.Dead = a.Identity() })
		next.work(&r, Lease{Name: "x"})
		synctest.Wait()
		if r.now() != "[a]" || time.Since(began) > 0 {
			t.Errorf("after %v at work: %s", time.Since(began), r.now())
		}
		// The control: one of which nothing is known.
		next.die()
		began = time.Now()
		var said bytes.Buffer
		last := w.node(2, "a", func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&said, nil)) })
		if time.Since(began) < leaseTime {
			t.Errorf("a run that may live was replaced after %v", time.Since(began))
		}
		last.stop()
		waits, joins := strings.Index(said.String(), "did not say good-bye"), strings.Index(said.String(), "msg=joined")
		if waits < 0 || joins < waits || strings.Count(said.String(), "lease="+leaseTime.String()) != 1 {
			t.Errorf("while it waited it said %q", said.String())
		}
	})
}

// A process whose name was taken over while it was frozen ends when it goes on.
func TestReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		a := w.node(0, "a")
		a.engine.Down(true)
		w.node(1, "a")
		a.engine.Down(false)
		time.Sleep(leaseTime)
		select {
		case err := <-a.ended:
			if !fault.Is(err, fault.Busy) {
				t.Errorf("it ends with %v", err)
			}
			a.ended <- err
		default:
			t.Error("it goes on")
		}
	})
}

// A newer form of records comes into force when every node that lives knows it; who does not
// know it then neither joins nor goes on.
func TestFormats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		format := func(f uint64) func(*Options) { return func(o *Options) { o.Format = f } }
		a, b := w.node(0, "a", format(1)), w.node(1, "b", format(1))
		time.Sleep(leaseTime)
		b.leave()
		b = w.node(1, "b", format(2))
		time.Sleep(time.Minute)
		if a.Format() != 1 || b.Format() != 1 {
			t.Errorf("with an old node, %d and %d may be written", a.Format(), b.Format())
		}
		a.engine.Down(true) // it is frozen, say
		time.Sleep(2 * leaseTime)
		if b.Format() != 2 {
			t.Errorf("with new nodes only, %d may be written", b.Format())
		}
		a.engine.Down(false)
		time.Sleep(leaseTime)
		select {
		case err := <-a.ended:
			if !fault.Is(err, fault.Unsupported) || !strings.Contains(fault.Say(err), "form 2") {
				t.Errorf("the old node ends with %v", err)
			}
			a.ended <- err
		default:
			t.Error("the old node goes on")
		}
		old, err := w.open(2, "c", format(1))
		if err == nil {
			err = old.Join(t.Context())
		}
		if !fault.Is(err, fault.Unsupported) {
			t.Errorf("an old node joins: %v", err)
		}
		if n, err := w.open(2, "c", format(3)); err != nil || n.Join(t.Context()) != nil || n.Format() != 2 {
			t.Errorf("a newer node writes %d (%v)", n.Format(), err)
		}
	})
}

// A process that has its engine alone gets everything at once, writes nothing and watches
// nothing.
func TestAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		pebble := w.handles[0].Engine
		n, err := Open(t.Context(), pebble, Options{Name: "a", Lease: leaseTime, Format: 1, Now: time.Now, Random: strings.NewReader("12345678"), Elapsed: func() time.Duration { return 0 }})
		if err == nil {
			err = n.Join(t.Context())
		}
		if err != nil || n.Shared() {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- n.Run(ctx) }()
		ran := 0
		n.While(ctx, Lease{Name: "x"}, func(_ context.Context, tenure *Tenure) {
			ran++
			if tenure.Term() != 0 || !tenure.Begin() || !tenure.End() || tenure.Lost() {
				t.Error("it is not alone")
			}
		})
		time.Sleep(time.Hour)
		stop()
		if err := <-done; err != nil || n.Leave(t.Context()) != nil || ran != 1 {
			t.Error(err, ran)
		}
		if err := n.Drain(t.Context(), "a", true); !fault.Is(err, fault.Unsupported) {
			t.Error(err)
		}
		if list, err := n.List(t.Context()); err != nil || len(list) > 0 || fmt.Sprint(n.KnownNumbers()) != "[0]" || n.Number() != 0 {
			t.Error(list, err)
		}
		if shards, err := pebble.Shards(t.Context()); err != nil || len(shards) > 0 {
			t.Errorf("%v were written (%v)", shards, err)
		}
	})
}

// Names that are gone are forgotten when nothing is left of them.
func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		a, b := w.node(0, "a"), w.node(1, "b")
		empty := false
		is := func(_ context.Context, number uint64) (bool, error) { return empty && number == 1, nil }
		if err := a.Forget(t.Context(), "b", is); !fault.Is(err, fault.Busy) {
			t.Errorf("a node that lives: %v", err)
		}
		b.leave()
		if err := a.Forget(t.Context(), "b", is); !fault.Is(err, fault.Invalid) {
			t.Errorf("a node with mail: %v", err)
		}
		empty = true
		if err := a.Forget(t.Context(), "b", is); err != nil {
			t.Error(err)
		}
		if err := a.Forget(t.Context(), "b", is); !fault.Is(err, fault.NotFound) {
			t.Error(err)
		}
		if b = w.node(1, "b"); b.Number() != 2 {
			t.Errorf("a number is given again: %d", b.Number())
		}
	})
}

// Which state nodes are said to be in.
func TestStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4)
		a, b := w.node(0, "a"), w.node(1, "b")
		c, d := w.node(2, "c"), w.node(3, "d")
		c.leave()
		d.die()
		if err := a.Drain(t.Context(), "b", true); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * leaseTime)
		states := func(n *Node) (s string) {
			list, err := n.List(t.Context())
			if err != nil {
				t.Error(err)
			}
			for _, m := range list {
				s += fmt.Sprintf("%s %s;", m.Name, m.State)
			}
			return s
		}
		if got := states(a.Node); got != "a up;b draining;c stopped;d silent;" || states(b.Node) != got {
			t.Error(got)
		}
		looker, err := w.open(2, "looker")
		if err != nil {
			t.Fatal(err)
		}
		if got := states(looker.Node); got != "a unheard;b unheard;c stopped;d unheard;" {
			t.Error(got)
		}
		for name, kind := range map[string]fault.Kind{"nobody": fault.NotFound, "c": fault.Invalid} {
			if err := a.Drain(t.Context(), name, true); !fault.Is(err, kind) {
				t.Errorf("drain %s: %v", name, err)
			}
		}
	})
}

// Records of any bytes are read safely, and as they were written.
func FuzzRecords(f *testing.F) {
	m := member{name: "a", number: 3, run: run{1}, beat: 9, draining: true, version: "1.0", format: 1, addresses: []string{"smtp :25"}, started: 5, at: 6}
	l := lease{holder: "a", run: run{2}, term: 7}
	s := snapshot{next: 4, format: 1, changes: 99}
	for _, b := range [][]byte{m.encode(), l.encode(), s.encode(), encodeFile(5, []byte("data"))} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := decodeMember("a", b); err == nil {
			if again, err := decodeMember("a", m.encode()); err != nil || fmt.Sprint(again) != fmt.Sprint(m) {
				t.Errorf("%+v becomes %+v, %v", m, again, err)
			}
		}
		if l, err := decodeLease(b); err == nil {
			if again, err := decodeLease(l.encode()); err != nil || again != l {
				t.Errorf("%+v becomes %+v, %v", l, again, err)
			}
		}
		var s, again snapshot
		if s.decode(b) == nil && (again.decode(s.encode()) != nil || fmt.Sprint(again) != fmt.Sprint(s)) {
			t.Errorf("%+v becomes %+v", s, again)
		}
		if at, data, err := decodeFile(b); err == nil {
			if at2, data2, err := decodeFile(encodeFile(at, data)); err != nil || at2 != at || string(data2) != string(data) {
				t.Error("a file is not the same")
			}
		}
	})
}

// twoJoined are two nodes that do not run: nobody but the test beats and looks.
func twoJoined(t *testing.T) (a, b *process) {
	t.Helper()
	w := newWorld(t, 2)
	var both [2]*process
	for i, name := range []string{"a", "b"} {
		p, err := w.open(i, name)
		if err == nil {
			err = p.Join(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		both[i] = p
	}
	return both[0], both[1]
}

// A holder that shows itself after it was judged to be silent, and before its lease is taken, keeps
// it, also when the one who judged has read that it lives.
func TestTakeByWhatWasJudged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := twoJoined(t)
		l := Lease{Name: "x"}
		a.use(l.Name, 1) // as While does
		tenure := a.await(t.Context(), l)
		b.look(t.Context())
		time.Sleep(leaseTime + time.Second)
		if err := b.beat(t.Context()); err != nil { // a was silent for a lease, b was not
			t.Fatal(err)
		}
		seen, free := b.free(l)
		if err := a.beat(t.Context()); err != nil || !free {
			t.Fatal(free, err)
		}
		b.look(t.Context()) // as Run does meanwhile
		if taken, err := b.take(t.Context(), l, seen); err != nil || taken != nil || tenure.Lost() {
			t.Errorf("taken from a node that lives: %+v, %v", taken, err)
		}
	})
}

// What is about to be taken over is looked at again: its holder may have come back, and what
// is read late says nothing against what was read since.
func TestTakeLooksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := twoJoined(t)
		l := Lease{Name: "x"}
		a.use(l.Name, 1) // as While does
		if tenure, err := a.take(t.Context(), l, judged{}); err != nil || tenure == nil {
			t.Fatal(tenure, err)
		}
		b.look(t.Context())
		early, err := b.read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * leaseTime) // a is silent, and b reads nothing
		seen, free := b.free(l)
		if err := a.beat(t.Context()); err != nil || !free {
			t.Fatal(free, err)
		}
		if tenure, err := b.take(t.Context(), l, seen); err != nil || tenure != nil {
			t.Errorf("taken from a node that lives: %+v, %v", tenure, err)
		}
		if _, free := b.free(l); free {
			t.Error("b has not seen that a lives")
		}
		b.saw(early)
		if b.members["a"].beat == early.members["a"].beat {
			t.Error("b believes what it read before")
		}
	})
}
