package queue

import (
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
)

// TestHeldDomainIsNotGivenUp: mail of a domain that a schedule holds lives on while it does,
// and for a day after; what has another domain or a deadline does not.
func TestHeldDomainIsNotGivenUp(t *testing.T) {
	hold := true
	b := newBench(t, func(o *Options) {
		o.DelayAfter = -1
		o.Rules = func(d string) Rules { return Rules{Hold: hold && d == "held.test"} }
	})
	b.courier.script = always(greylist)
	b.put("alice@martlet.test", "bob@held.test", "carol@example.org")
	b.asking(func(e *mail.Envelope) {
		e.By = mail.DeliverBy{Mode: mail.ByReturn, At: b.clock.now().Add(6 * 24 * time.Hour)}
	}, "dan@held.test")
	b.pass(5*24*time.Hour+time.Hour, 30*time.Minute)
	if r := b.reports.all(); len(r) != 1 || !strings.Contains(r[0], "carol@example.org") || strings.Contains(r[0], "bob@held.test") {
		t.Errorf("after five days: %q", r)
	}
	b.restart()
	b.pass(2*24*time.Hour, 30*time.Minute)
	if r := b.reports.all(); len(r) != 2 || !strings.Contains(r[1], "dan@held.test") {
		t.Errorf("after the deadline: %q", r)
	}
	b.pass(20*24*time.Hour, 6*time.Hour)
	for _, c := range b.courier.calls {
		if strings.HasSuffix(c.to[0], "@held.test") {
			t.Fatalf("%s was tried", c.to[0])
		}
	}
	if l := b.list(); len(l) != 1 || len(l[0].To) != 1 {
		t.Fatalf("%+v", l)
	}
	b.sound()
	hold = false
	before := b.courier.count()
	b.pass(23*time.Hour, 10*time.Minute)
	if n := b.courier.count() - before; n < 8 || len(b.list()) != 1 {
		t.Errorf("in a day after it there are %d attempts; %d wait", n, len(b.list()))
	}
	b.pass(6*time.Hour, 10*time.Minute)
	if n := len(b.reports.all()); n != 3 || len(b.list()) != 0 {
		t.Errorf("%d reports in the end, %d wait", n, len(b.list()))
	}
	b.sound()
}

// It is so however late in a message's life the hold ends: it is tried before it goes back.
func TestHoldThatEndsLate(t *testing.T) {
	for _, before := range []time.Duration{-30 * time.Minute, -5 * time.Minute, 5 * time.Minute, 20 * time.Minute, time.Hour} {
		hold := true
		b := newBench(t, func(o *Options) {
			o.DelayAfter = -1
			o.Rules = func(d string) Rules { return Rules{Hold: hold} }
		})
		b.put("alice@martlet.test", "bob@held.test")
		b.pass(5*24*time.Hour-before, time.Minute*5)
		hold = false
		b.pass(25*time.Hour, 5*time.Minute)
		if n := b.courier.count(); n != 1 || len(b.reports.all()) != 0 {
			t.Errorf("ends %v before: %d attempts, %q", before, n, b.reports.all())
		}
		b.empty()
	}
}

// The mail has a day after the hold, whenever that ends, and whether or not the server is
// started anew for it; and not much more.
func TestDayAfterHold(t *testing.T) {
	for i := range 13 {
		hold := true
		b := newBench(t, func(o *Options) {
			o.DelayAfter = -1
			o.Rules = func(d string) Rules { return Rules{Hold: hold} }
		})
		b.courier.script = always(greylist)
		b.put("alice@martlet.test", "bob@held.test")
		b.pass(6*24*time.Hour, time.Hour)
		b.pass(time.Duration(i)*130*time.Minute, 10*time.Minute)
		hold = false
		if i%2 == 0 {
			b.restart()
		}
		b.pass(24*time.Hour-20*time.Minute, 10*time.Minute)
		if len(b.reports.all()) != 0 {
			t.Errorf("%d: given up within a day", i)
		}
		b.pass(2*time.Hour, 10*time.Minute)
		if n := b.courier.count(); n < 8 || len(b.reports.all()) != 1 {
			t.Errorf("%d: %d attempts, %d reports", i, n, len(b.reports.all()))
		}
		b.empty()
	}
}
