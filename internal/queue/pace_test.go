package queue

import (
	"fmt"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
)

// TestStopAfterWholeMessage: a stop while a host has the whole message and has not answered
// leaves the mail waiting as any such loss does, or each restart would make another copy at
// once; what was cut before that goes on at once.
func TestStopAfterWholeMessage(t *testing.T) {
	for _, unsure := range []bool{false, true} {
		b := newBench(t, nil)
		id := b.put("alice@martlet.test", "bob@example.org")
		picks, _, err := b.q.due(t.Context())
		if err != nil || len(picks) != 1 {
			t.Fatal(err, len(picks))
		}
		res := Result{Code: 451, Enhanced: "4.4.2", Text: "the connection was lost", Unsure: unsure}
		if err := b.q.record(t.Context(), picks[0], []Result{res}, false, true); err != nil {
			t.Fatal(err)
		}
		b.restart()
		b.clock.add(5 * time.Second)
		b.pump()
		d, err := b.q.Show(t.Context(), id)
		if unsure && (err != nil || b.courier.count() != 0 || d.Attempts != 1 || d.Reason == "") {
			t.Errorf("%d attempts after the restart; %+v, %v", b.courier.count(), d, err)
		}
		if !unsure && b.courier.count() != 1 {
			t.Error("what was cut short is not sent on at once")
		}
		b.sound()
	}
}

// TestWishesPauseNobody: a message that asks for more than the hosts of its destination give,
// or that cannot be read, does not hold up the others; one that finds no host does.
func TestWishesPauseNobody(t *testing.T) {
	secure := func(e *mail.Envelope) { e.RequireTLS = true }
	for name, tc := range map[string]struct {
		wish   func(*mail.Envelope)
		result Result
		pauses bool
	}{
		"no REQUIRETLS": {secure, Result{Code: 450, Enhanced: "4.7.30"}, false},
		"unsafe":        {secure, Result{Code: 454, Enhanced: "4.7.5"}, false},
		"no DELIVERBY": {func(e *mail.Envelope) {
			e.By = mail.DeliverBy{Mode: mail.ByReturn, At: time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)}
		}, Result{Code: 450, Enhanced: "4.3.3"}, false},
		"unreadable":           {func(*mail.Envelope) {}, Result{Code: 451, Enhanced: "4.3.0"}, false},
		"unsafe for all":       {func(*mail.Envelope) {}, Result{Code: 454, Enhanced: "4.7.5"}, true},
		"no host":              {func(*mail.Envelope) {}, Result{Code: 421, Enhanced: "4.4.1"}, true},
		"REQUIRETLS, no host":  {secure, Result{Code: 421, Enhanced: "4.4.1"}, true},
		"REQUIRETLS, no names": {secure, Result{Code: 451, Enhanced: "4.4.3"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, nil)
			first := b.asking(tc.wish, "bob@example.org")
			b.courier.script = func(j Job, _ mail.Recipient) Result {
				if j.ID == first {
					return tc.result
				}
				return ok
			}
			b.pump()
			b.put("carol@martlet.test", "dan@example.org")
			b.pump()
			if paused := b.courier.count() == 1; paused != tc.pauses {
				t.Errorf("%d attempts", b.courier.count())
			}
			b.sound()
		})
	}
}

// TestPacesAreForgotten: what a rate holds up is remembered for as long as it does, however
// many destinations there are, and no longer; the looks for what can go are few.
func TestPacesAreForgotten(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Rules = func(string) Rules { return Rules{PerMinute: 1} } })
	spend := func(round int) (looks int) {
		b.q.mu.Lock()
		defer b.q.mu.Unlock()
		for i := range 2 * maxPaces {
			dest := fmt.Sprintf("r%d-%d.test", round, i)
			if b.q.room(dest, b.q.now()) != 1 {
				t.Fatalf("%s may not begin", dest)
			}
			was := b.q.forgot
			b.q.spend(dest, b.q.now())
			b.q.paces[dest].active--
			if b.q.room(dest, b.q.now()) != 0 {
				t.Fatalf("%s may go on at once", dest)
			}
			if b.q.forgot != was {
				looks++
			}
			if i%100 == 0 {
				b.clock.add(50 * time.Millisecond)
			}
		}
		return looks
	}
	for round := range 3 {
		if looks := spend(round); looks > 12 {
			t.Errorf("%d looks in ten seconds", looks)
		}
		if n := len(b.q.paces); n > 2*maxPaces+200 {
			t.Errorf("%d are remembered after round %d", n, round)
		}
		b.clock.add(2 * time.Minute)
	}
}

// Nor does a walk over all pauses leave one out, wherever the clock has put them.
func TestClockAndManyPauses(t *testing.T) {
	b := newBench(t, nil)
	b.courier.script = alwaysOff
	b.clock.add(10 * year)
	const many = 2*walkUpdate + 50
	for i := range many {
		b.put("alice@martlet.test", fmt.Sprintf("bob@d%d.test", i))
	}
	b.pump()
	b.clock.add(-10 * year)
	b.courier.script = alwaysOK
	before := b.courier.count()
	b.pass(13*time.Minute, time.Minute)
	if n := b.courier.count() - before; n != many {
		t.Errorf("%d of %d were sent", n, many)
	}
	b.empty()
	b.sound()
}
