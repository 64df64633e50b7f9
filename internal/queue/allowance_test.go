package queue

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

func (b *bench) allowance(log *bytes.Buffer, own map[string]Limits, l Limits) *Allowance {
	return NewAllowance(AllowanceOptions{Engine: b.eng, Default: l, Own: own, Now: b.clock.now, Log: slog.New(slog.NewTextHandler(log, nil))})
}

// TestAllowance: in no hour and no day more is sent than may be, a restart changes nothing,
// and what was sent yesterday does not count.
func TestAllowance(t *testing.T) {
	b := newBench(t, nil)
	var log bytes.Buffer
	l := Limits{MessagesPerHour: 10, RecipientsPerDay: 100}
	a := b.allowance(&log, nil, l)
	ctx := t.Context()
	sent := 0
	for range 20 {
		if a.Spend(ctx, "Mallory@martlet.test", 3, false) == nil {
			sent++
		}
	}
	if sent != 10 {
		t.Errorf("%d sent in an hour", sent)
	}
	if err := a.Check(ctx, "mallory@martlet.test", 1, false); !fault.Is(err, fault.Limited) || !strings.Contains(fault.Say(err), "mallory@martlet.test may send 10 messages in a hour, and has") {
		t.Errorf("%v", err)
	}
	if a.Check(ctx, "alice@martlet.test", 1, false) != nil || a.Check(ctx, "mallory@martlet.test", 1, true) != nil {
		t.Error("somebody else, or a trusted network, is held up")
	}
	if n := strings.Count(log.String(), "unusually much"); n != 1 {
		t.Errorf("%d warnings of unusual sending: %s", n, log.String())
	}
	if !strings.Contains(log.String(), "more than it may") && !strings.Contains(log.String(), "unusually") {
		t.Error("nobody is told")
	}
	if err := a.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	a = b.allowance(&log, nil, l) // a new process
	if err := a.Spend(ctx, "mallory@martlet.test", 1, false); !fault.Is(err, fault.Limited) {
		t.Errorf("after a restart: %v", err)
	}
	total := 30
	for range 22 { // each hour as much as goes
		b.clock.add(66 * time.Minute)
		for a.Spend(ctx, "mallory@martlet.test", 3, false) == nil {
			total += 3
		}
	}
	if total > 100 || total < 90 {
		t.Errorf("%d recipients in a day", total)
	}
	b.clock.add(26 * time.Hour)
	if err := a.Spend(ctx, "mallory@martlet.test", 100, false); err != nil {
		t.Errorf("a day later: %v", err)
	}
	if err := a.Check(ctx, "mallory@martlet.test", 101, false); !fault.Is(err, fault.Limited) {
		t.Errorf("too many at once: %v", err)
	}
	list, err := a.Sent(ctx)
	if err != nil || len(list) != 1 || list[0].RecipientsInDay != 100 || list[0].Limits != l {
		t.Errorf("%+v, %v", list, err)
	}
	b.sound()
}

// TestAllowanceOwn: accounts, domains and everybody may have their own limits.
func TestAllowanceOwn(t *testing.T) {
	b := newBench(t, nil)
	var log bytes.Buffer
	a := b.allowance(&log, map[string]Limits{"List@martlet.test": {}, "martlet.test": {MessagesPerDay: 50}, "*": {MessagesPerDay: 5}}, Limits{MessagesPerDay: 1})
	count := func(who string) (n int) {
		for n < 100 && a.Spend(t.Context(), who, 1, true) == nil {
			n++
		}
		return n
	}
	if n := count("alice@martlet.test"); n != 5 {
		t.Errorf("an account: %d", n)
	}
	if n := count("bob@other.test"); n != 5 {
		t.Errorf("of another domain: %d", n)
	}
	if n := count("list@martlet.test"); n != 45 { // what the domain has left
		t.Errorf("one without limit: %d", n)
	}
	if err := a.Check(t.Context(), "carol@martlet.test", 1, true); !strings.Contains(fault.Say(err), "martlet.test may send 50 messages") {
		t.Errorf("%v", err)
	}
}

// What is set for a domain counts for all its accounts together, from the next message on;
// of it and the configuration the lower one. Whoever cannot say what is set lets nobody pass.
func TestAllowanceOfDomain(t *testing.T) {
	b := newBench(t, nil)
	set, fails := map[string]Limits{"martlet.test": {MessagesPerHour: 10}}, error(nil)
	a := NewAllowance(AllowanceOptions{
		Engine: b.eng, Now: b.clock.now, Own: map[string]Limits{"martlet.test": {MessagesPerHour: 20, MessagesPerDay: 12}},
		Domain: func(_ context.Context, domain string) (Limits, error) { return set[domain], fails },
	})
	send := func(want int, who ...string) {
		t.Helper()
		n := 0
		for i := range 30 {
			if a.Spend(t.Context(), who[i%len(who)], 1, true) == nil {
				n++
			}
		}
		if n != want {
			t.Errorf("%v sent %d, not %d", who, n, want)
		}
	}
	send(10, "alice@martlet.test", "Bob@Martlet.test")
	send(30, "carol@other.test")
	if l, err := a.Sent(t.Context()); err != nil || len(l) != 1 || l[0].Limits != (Limits{MessagesPerHour: 10, MessagesPerDay: 12}) {
		t.Errorf("%+v, %v", l, err)
	}
	delete(set, "martlet.test")
	send(2, "alice@martlet.test") // of the day's
	fails = fault.New(fault.Unavailable, "the disk is gone")
	if err := a.Check(t.Context(), "carol@other.test", 1, true); !fault.Is(err, fault.Unavailable) {
		t.Errorf("%v", err)
	}
}

// What a clock that ran ahead has counted counts for a day once it is right, and no longer;
// whether or not the server was started anew.
func TestAllowanceAndClock(t *testing.T) {
	for _, restart := range []bool{false, true} {
		b := newBench(t, nil)
		var log bytes.Buffer
		a := b.allowance(&log, nil, Limits{MessagesPerDay: 10})
		send := func(want int) {
			t.Helper()
			n := 0
			for range 20 {
				if a.Spend(t.Context(), "alice@martlet.test", 1, false) == nil {
					n++
				}
			}
			if n != want {
				t.Errorf("restart %v: %d sent, not %d", restart, n, want)
			}
		}
		b.clock.add(10 * year)
		for range 6 {
			b.clock.add(20 * time.Minute)
			if err := a.Spend(t.Context(), "alice@martlet.test", 1, false); err != nil {
				t.Fatal(err)
			}
		}
		b.clock.add(-10 * year)
		if restart {
			if err := a.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			a = b.allowance(&log, nil, Limits{MessagesPerDay: 10})
		}
		if l, err := a.Sent(t.Context()); err != nil || len(l) != 1 || l[0].MessagesInDay != 6 {
			t.Errorf("restart %v: %+v, %v", restart, l, err)
		}
		send(4)
		b.clock.add(20 * time.Hour)
		send(0)
		for range 30 {
			b.clock.add(26 * time.Hour)
			send(10)
		}
	}
}

// TestAllowanceAtOnce: many sessions at the same time send no more, and the counts may be
// written down beside them.
func TestAllowanceAtOnce(t *testing.T) {
	b := newBench(t, nil)
	var log bytes.Buffer
	a := b.allowance(&log, nil, Limits{MessagesPerHour: 100})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { a.Run(ctx); close(done) }()
	var wg sync.WaitGroup
	var mu sync.Mutex
	sent := 0
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if a.Spend(ctx, "alice@martlet.test", 1, false) == nil {
					mu.Lock()
					sent++
					mu.Unlock()
				}
			}
			if err := a.Flush(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	cancel()
	<-done
	if sent != 100 {
		t.Errorf("%d sent", sent)
	}
	if again := b.allowance(&log, nil, Limits{MessagesPerHour: 100}); again.Check(t.Context(), "alice@martlet.test", 1, false) == nil {
		t.Error("the end of the process forgot it all")
	}
}

// A damaged count is begun anew, and holds nobody up.
func TestAllowanceDamaged(t *testing.T) {
	b := newBench(t, nil)
	var log bytes.Buffer
	if err := b.q.update(t.Context(), func(t tx) error { return t.Put(sentKey("alice@martlet.test"), []byte("nonsense")) }); err != nil {
		t.Fatal(err)
	}
	a := b.allowance(&log, nil, Limits{MessagesPerHour: 1})
	if a.Spend(t.Context(), "alice@martlet.test", 1, false) != nil || a.Spend(t.Context(), "alice@martlet.test", 1, false) == nil {
		t.Error("it does not count")
	}
}

// Domains have their own schedules.
func TestRules(t *testing.T) {
	held := true
	b := newBench(t, func(o *Options) {
		o.Workers, o.PerDomain = 20, 10
		o.Rules = func(domain string) Rules {
			switch domain {
			case "slow.test":
				return Rules{Gaps: []time.Duration{time.Hour}, Lifetime: 10 * time.Hour}
			case "paced.test":
				return Rules{PerMinute: 6}
			case "held.test":
				return Rules{Hold: held}
			}
			return Rules{}
		}
	})
	b.courier.script = func(_ Job, r mail.Recipient) Result {
		if r.Address.Domain == "slow.test" {
			return greylist
		}
		return ok
	}
	start := b.clock.now()
	b.put("alice@martlet.test", "x@slow.test")
	b.put("", "x@held.test")
	for i := range 12 {
		b.put("", fmt.Sprintf("x%d@paced.test", i))
	}
	count := func(domain string) (n int) {
		b.courier.mu.Lock()
		defer b.courier.mu.Unlock()
		for _, c := range b.courier.calls {
			if strings.HasSuffix(c.to[0], domain) {
				n++
			}
		}
		return n
	}
	b.pass(time.Minute, time.Second)
	if n := count("paced.test"); n < 5 || n > 7 {
		t.Errorf("%d in the first minute", n)
	}
	b.pass(time.Minute, time.Second)
	if n := count("paced.test"); n != 12 {
		t.Errorf("%d in two minutes", n)
	}
	if l := b.list(); len(l) != 2 || !strings.HasPrefix(l[1].Reason, "its domain is held by a [[queue.schedule]]; next try in") {
		t.Errorf("%+v", l)
	}
	b.pass(12*time.Hour, 10*time.Minute)
	if n := count("slow.test"); n < 10 || n > 11 || len(b.reports.all()) != 2 {
		t.Errorf("%d attempts in %v, %d reports", n, b.clock.now().Sub(start), len(b.reports.all()))
	}
	if count("held.test") != 0 {
		t.Error("what is held was tried")
	}
	b.sound()
	held = false
	b.pass(20*time.Minute, time.Minute)
	if count("held.test") != 1 {
		t.Error("what was held is not sent")
	}
	b.empty()
}
