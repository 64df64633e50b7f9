package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/record"
)

func TestDeliveredAndGone(t *testing.T) {
	b := newBench(t, nil)
	var mu sync.Mutex // an attempt for each domain
	var got string
	b.courier.script = func(job Job, r mail.Recipient) Result {
		rc, err := job.Message.Open(t.Context())
		if err != nil {
			t.Error(err)
			return refused
		}
		defer rc.Close()
		body, err := io.ReadAll(rc)
		if err != nil || job.Message.Size != int64(len(body)) {
			t.Error(err, job.Message.Size)
		}
		p, err := job.Parcel(t.Context())
		if err != nil || p.Message().Subject != "Dinner" {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		got = string(body)
		return ok
	}
	b.put("alice@martlet.test", "bob@example.org", "eve@EXAMPLE.org", "carol@example.net")
	b.sound()
	b.pump()
	if got != sample {
		t.Errorf("%q", got)
	}
	if len(b.courier.calls) != 2 {
		t.Errorf("%v", b.courier.calls) // one for each domain
	}
	b.empty()
	if r := b.reports.all(); len(r) != 0 {
		t.Errorf("%q", r)
	}
}

func TestSchedule(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Lifetime = 20 * time.Hour; o.DelayAfter = -1 })
	b.courier.script = always(greylist)
	start := b.clock.now()
	b.put("alice@martlet.test", "bob@example.org")
	b.pump()
	b.pass(24*time.Hour, 5*time.Minute)
	want := "[0s 5m0s 15m0s 35m0s 1h15m0s 2h15m0s 4h15m0s 8h15m0s 12h15m0s 16h15m0s]"
	if got := b.courier.times(start); got != want {
		t.Errorf("%s", got)
	}
	b.empty()
	r := b.reports.all()
	if len(r) != 1 || !strings.Contains(r[0], "Status: 5.4.7\r\n") {
		t.Errorf("%q", r)
	}
}

func TestJitter(t *testing.T) {
	for _, random := range []float64{0, 0.999} {
		b := newBench(t, func(o *Options) { o.Rand = func() float64 { return random } })
		d := time.Duration(b.q.gap(1)) * time.Millisecond
		if d < 4*time.Minute+30*time.Second || d > 5*time.Minute+30*time.Second || d == 5*time.Minute {
			t.Errorf("%v", d)
		}
	}
}

// A group that was chosen from a look older than the record of its last attempt is
// not tried again at once.
func TestStaleChoice(t *testing.T) {
	b := newBench(t, nil)
	b.courier.script = always(greylist)
	id := b.put("", "bob@example.org")
	b.pump()
	b.q.attempt(t.Context(), pick{flight: flight{id, 0}, lane: "rexample.org"})
	if n := b.courier.count(); n != 1 {
		t.Errorf("%d attempts", n)
	}
	b.sound()
	b.pass(5*time.Minute, 5*time.Minute)
	if n := b.courier.count(); n != 2 {
		t.Errorf("%d attempts", n)
	}
}

// Each recipient has its own fate, and only those who wait are tried again.
func TestRecipientsAlone(t *testing.T) {
	b := newBench(t, nil)
	b.courier.script = func(job Job, r mail.Recipient) Result {
		switch {
		case r.Address.Local == "bad":
			return unknown
		case r.Address.Local == "grey" && job.Attempt == 1:
			return greylist
		}
		return ok
	}
	id := b.put("alice@martlet.test", "bob@example.org", "bad@example.org", "grey@example.org")
	b.pump()
	b.sound()
	d, err := b.q.Show(t.Context(), id)
	if err != nil || len(d.Recipients) != 3 {
		t.Fatalf("%+v %v", d, err)
	}
	var states []string
	for _, r := range d.Recipients {
		states = append(states, r.State)
	}
	if fmt.Sprint(states) != "[delivered failed waiting]" {
		t.Errorf("%v", states)
	}
	if want := "mx1.example.org answered 451 4.7.1 Greylisted; next try in 5 min"; d.Reason != want || d.Recipients[2].Reason != want {
		t.Errorf("%q %q", d.Reason, d.Recipients[2].Reason)
	}
	if d.Recipients[1].Reason != "mx1.example.org answered 550 5.1.1 User unknown" {
		t.Errorf("%q", d.Recipients[1].Reason)
	}
	if fmt.Sprint(d.To) != "[grey@example.org]" || d.Attempts != 1 {
		t.Errorf("%+v", d.Info)
	}
	b.restart()
	b.pass(5*time.Minute, 5*time.Minute)
	if c := b.courier.calls[len(b.courier.calls)-1]; fmt.Sprint(c.to) != "[grey@example.org]" || c.attempt != 2 {
		t.Errorf("%+v", c)
	}
	b.empty()
	if len(b.reports.all()) != 1 {
		t.Errorf("%d reports", len(b.reports.all()))
	}
}

// A courier that gives nonsense loses no mail.
func TestNonsenseResults(t *testing.T) {
	for _, r := range []Result{{}, {Code: 354}, {Code: 99}, {Code: 700}} {
		b := newBench(t, nil)
		b.courier.script = always(r)
		b.put("alice@martlet.test", "bob@example.org")
		b.pump()
		if l := b.list(); len(l) != 1 || l[0].Attempts != 1 {
			t.Errorf("%+v: %+v", r, l)
		}
		b.sound()
	}
}

func TestExpiryWhileUnreachable(t *testing.T) {
	b := newBench(t, nil)
	b.courier.script = alwaysOff
	b.put("alice@martlet.test", "bob@example.org")
	b.put("", "bob@example.org")
	b.pump()
	b.pass(6*24*time.Hour, time.Hour)
	b.empty()
	r := b.reports.all()
	if len(r) != 2 { // delayed, then failed; nothing to the null sender
		t.Fatalf("%d reports", len(r))
	}
	for _, want := range []string{"Action: failed", "Status: 5.4.7", "Tried for 5 days, the last time: mx1.example.org [192.0.2.1]: connection refused"} {
		if !strings.Contains(r[1], want) {
			t.Errorf("no %q in %s", want, r[1])
		}
	}
}

// After a time of being switched off, mail is tried before anybody is told that it
// is late or lost.
func TestLongDowntime(t *testing.T) {
	for _, away := range []time.Duration{12 * time.Hour, 30 * 24 * time.Hour} {
		b := newBench(t, nil)
		b.courier.script = always(greylist)
		b.put("alice@martlet.test", "bob@example.org")
		b.pump()
		b.clock.add(away)
		b.courier.script = alwaysOK
		b.restart()
		b.pump()
		b.empty()
		if r := b.reports.all(); len(r) != 0 {
			t.Errorf("%q", r)
		}
	}
}

// A dead domain with many messages holds up nobody else, and is not hammered.
func TestDeadDomainHoldsUpNobody(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Workers, o.PerDomain = 4, 2 })
	b.courier.script = func(_ Job, r mail.Recipient) Result {
		if r.Address.Domain == "dead.test" {
			return refused
		}
		return ok
	}
	p := b.parcel(sample)
	for range 300 {
		b.enqueue(Entry{Envelope: envelope("alice@martlet.test", "x@dead.test"), Parcel: p})
	}
	for i := range 50 {
		b.enqueue(Entry{Envelope: envelope("alice@martlet.test", fmt.Sprintf("x@alive%d.test", i)), Parcel: p})
	}
	b.pump()
	alive, dead := 0, 0
	for _, c := range b.courier.calls {
		if c.to[0] == "x@dead.test" {
			dead++
		} else {
			alive++
		}
	}
	if alive != 50 || dead > 2 {
		t.Errorf("%d alive, %d dead attempts", alive, dead)
	}
	b.sound()
	if l := b.list(); len(l) != 300 || !strings.Contains(l[299].Reason, "connection refused; next try in 60 s") {
		t.Errorf("%d: %+v", len(l), l[len(l)-1])
	}
	// While it is dead it is tried once a pause; new mail elsewhere goes at once.
	before := b.courier.count()
	b.pass(time.Hour, time.Minute)
	if n := b.courier.count() - before; n < 5 || n > 12 {
		t.Errorf("%d attempts in an hour", n)
	}
	// It comes back, and all its mail goes.
	b.courier.script = alwaysOK
	b.pass(10*time.Minute, time.Minute)
	b.pass(4*time.Hour, 10*time.Minute) // those that were tried wait for their own time
	b.empty()
}

func TestLimits(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Workers, o.PerDomain = 10, 2 })
	var mu sync.Mutex
	now, most := map[string]int{}, map[string]int{}
	b.courier.script = func(_ Job, r mail.Recipient) Result {
		mu.Lock()
		for _, k := range []string{"all", r.Address.Domain} {
			now[k]++
			most[k] = max(most[k], now[k])
		}
		mu.Unlock()
		time.Sleep(time.Millisecond)
		mu.Lock()
		now["all"]--
		now[r.Address.Domain]--
		mu.Unlock()
		return ok
	}
	p := b.parcel(sample)
	for i := range 60 {
		b.enqueue(Entry{Envelope: envelope("", fmt.Sprintf("x@d%d.test", i%4)), Parcel: p})
	}
	b.pump()
	if most["all"] > 10 || most["all"] < 6 || most["d0.test"] > 2 || most["d0.test"] < 2 {
		t.Errorf("%v", most)
	}
	b.empty()
}

// A few domains that never answer do not take all the workers.
func TestSlowDomainsLeaveRoom(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Workers, o.PerDomain = 20, 5 })
	release := make(chan struct{})
	b.q.opt.Remote = deliverFunc(func(ctx context.Context, job Job) []Result {
		if job.Envelope.To[0].Address.Local == "slow" {
			<-release
		}
		return b.courier.Deliver(ctx, job)
	})
	p := b.parcel(sample)
	for i := range 80 {
		b.enqueue(Entry{Envelope: envelope("", fmt.Sprintf("slow@d%d.test", i%8)), Parcel: p})
	}
	b.enqueue(Entry{Envelope: envelope("", "x@quick.test"), Parcel: p})
	if _, err := b.q.dispatch(t.Context()); err != nil {
		t.Fatal(err)
	}
	for until := time.Now().Add(10 * time.Second); b.courier.count() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("the quick domain waits for the slow ones")
		}
	}
	close(release)
	b.q.jobs.Wait()
	b.pump()
	b.empty()
}

// What a courier tells during an attempt is recorded then, not at its end.
func TestSettledEarly(t *testing.T) {
	b := newBench(t, nil)
	var id ID
	b.q.opt.Remote = deliverFunc(func(_ context.Context, job Job) []Result {
		job.Settled([]int{0, 2, 99, -1}, ok)
		job.Settled([]int{3}, unknown)
		job.Settled([]int{1}, greylist)
		d, err := b.q.Show(t.Context(), id)
		if err != nil || fmt.Sprint(d.To) != "[b@example.org]" {
			t.Errorf("%v %v", d.To, err)
		}
		b.sound()
		job.Settled([]int{0, 2}, ok) // again: no harm
		return []Result{ok, greylist, ok, unknown}
	})
	id = b.put("alice@martlet.test", "a@example.org", "b@example.org", "c@example.org", "d@example.org")
	b.pump()
	b.sound()
	if l := b.list(); len(l) != 1 || l[0].Attempts != 1 || fmt.Sprint(l[0].To) != "[b@example.org]" {
		t.Errorf("%+v", l)
	}
	if c, err := b.q.Count(t.Context()); c != (Counts{Messages: 1}) || err != nil {
		t.Errorf("%+v %v", c, err)
	}
	if len(b.reports.all()) != 1 {
		t.Errorf("%d reports", len(b.reports.all()))
	}
	b.q.opt.Remote = deliverFunc(func(_ context.Context, job Job) []Result {
		job.Settled([]int{0}, ok)
		return []Result{ok}
	})
	b.pass(5*time.Minute, 5*time.Minute)
	b.empty()
}

// A full mailbox here says nothing of the next one.
func TestLocalLaneHasNoPause(t *testing.T) {
	b := newBench(t, nil)
	full := Result{Code: 452, Enhanced: "4.2.2", Text: "mailbox is full"}
	b.local.script = func(_ Job, r mail.Recipient) Result {
		if r.Address.Local == "full" {
			return full
		}
		return ok
	}
	p := b.parcel(sample)
	for _, who := range []string{"full@martlet.test", "bob@martlet.test"} {
		b.enqueue(Entry{Envelope: envelope("a@example.org", who), Parcel: p, Road: Local, Reason: "the mailbox is busy"})
	}
	b.pump()
	if b.local.count() != 0 {
		t.Error("tried at once although it was tried already")
	}
	if l := b.list(); l[1].Reason != "the mailbox is busy; next try in 5 min" {
		t.Errorf("%+v", l[1])
	}
	b.pass(5*time.Minute, 5*time.Minute)
	if l := b.list(); len(l) != 1 || l[0].Reason != "mailbox is full; next try in 5 min" {
		t.Errorf("%+v", l)
	}
	if b.courier.count() != 0 {
		t.Error("went out")
	}
}

func TestOperations(t *testing.T) {
	ctx := t.Context()
	b := newBench(t, nil)
	b.courier.script = always(greylist)
	one := b.put("alice@martlet.test", "bob@example.org")
	two := b.put("Carol@martlet.test", "x@example.net", "y@dead.test")
	b.pump()

	for f, want := range map[Filter]int{
		{}: 2, {Domain: "EXAMPLE.net"}: 1, {Sender: "carol"}: 1, {Recipient: "bob@"}: 1, {Held: true}: 0, {Domain: "example.com"}: 0,
	} {
		n := 0
		if err := b.q.List(ctx, f, func(Info) bool { n++; return true }); err != nil || n != want {
			t.Errorf("%+v: %d, %v", f, n, err)
		}
	}

	if err := b.q.Retry(ctx, one); err != nil {
		t.Fatal(err)
	}
	before := b.courier.count()
	b.pump()
	if b.courier.count() != before+1 {
		t.Error("Retry")
	}
	if n, err := b.q.RetryAll(ctx); n != 2 || err != nil {
		t.Errorf("%d %v", n, err)
	}
	before = b.courier.count()
	b.pump()
	if b.courier.count() != before+3 {
		t.Error("RetryAll")
	}
	b.sound()

	if err := b.q.Hold(ctx, two); err != nil {
		t.Fatal(err)
	}
	b.sound()
	b.restart()
	if c, err := b.q.Count(ctx); c != (Counts{Messages: 2, Held: 1}) || err != nil {
		t.Errorf("%+v %v", c, err)
	}
	b.courier.script = alwaysOK
	b.pass(30*24*time.Hour, 24*time.Hour)
	if l := b.list(); len(l) != 1 || !l[0].Held || !strings.Contains(l[0].Reason, "held") || !l[0].Next.IsZero() {
		t.Errorf("%+v", l)
	}
	if err := b.q.Retry(ctx, two); !fault.Is(err, fault.Invalid) {
		t.Errorf("%v", err)
	}
	if err := b.q.Release(ctx, two); err != nil {
		t.Fatal(err)
	}
	b.sound()
	b.pump()
	b.empty()
	if len(b.reports.all()) != 0 {
		t.Errorf("%q", b.reports.all())
	}

	b.courier.script = always(greylist)
	for _, bounce := range []bool{false, true} {
		id := b.put("alice@martlet.test", "bob@example.org")
		b.pump()
		if err := b.q.Drop(ctx, id, bounce); err != nil {
			t.Fatal(err)
		}
		b.sound()
		b.pump()
		b.empty()
		if err := b.q.Drop(ctx, id, bounce); !fault.Is(err, fault.NotFound) {
			t.Errorf("%v", err)
		}
	}
	held := b.put("alice@martlet.test", "bob@example.org")
	if err := errors.Join(b.q.Hold(ctx, held), b.q.Drop(ctx, held, true)); err != nil {
		t.Fatal(err)
	}
	b.pump()
	b.empty()
	if r := b.reports.all(); len(r) != 2 || !strings.Contains(r[0], "administrator") {
		t.Errorf("%q", r)
	}
	if _, err := b.q.Show(ctx, 12345); !fault.Is(err, fault.NotFound) {
		t.Errorf("%v", err)
	}
}

// A message that is dropped or held while a courier has it stays so.
func TestOperationsDuringAnAttempt(t *testing.T) {
	ctx := t.Context()
	for name, op := range map[string]func(b *bench, id ID) error{
		"drop":    func(b *bench, id ID) error { return b.q.Drop(ctx, id, false) },
		"bounce":  func(b *bench, id ID) error { return b.q.Drop(ctx, id, true) },
		"hold":    func(b *bench, id ID) error { return b.q.Hold(ctx, id) },
		"release": func(b *bench, id ID) error { return errors.Join(b.q.Hold(ctx, id), b.q.Release(ctx, id)) },
		"retry":   func(b *bench, id ID) error { return b.q.Retry(ctx, id) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, nil)
			var id ID
			b.courier.script = func(Job, mail.Recipient) Result {
				if err := op(b, id); err != nil {
					t.Error(err)
				}
				return greylist
			}
			id = b.put("alice@martlet.test", "bob@example.org")
			b.pump()
			b.sound()
			if n := b.courier.count(); n != 1 {
				t.Errorf("%d attempts", n)
			}
			l := b.list()
			switch name {
			case "drop", "bounce":
				b.empty()
			case "hold":
				if len(l) != 1 || !l[0].Held {
					t.Errorf("%+v", l)
				}
			default:
				if len(l) != 1 || l[0].Held || l[0].Attempts != 1 {
					t.Errorf("%+v", l)
				}
			}
		})
	}
}

func TestIdempotencyKey(t *testing.T) {
	b := newBench(t, nil)
	e := Entry{Envelope: envelope("", "bob@example.org"), Parcel: b.parcel(sample), Key: "delivery-1"}
	first := b.enqueue(e)
	if second := b.enqueue(e); second != first {
		t.Errorf("%v and %v", first, second)
	}
	b.pump()
	b.restart()
	if again := b.enqueue(e); again != first {
		t.Errorf("%v and %v", first, again)
	}
	b.pump()
	if b.courier.count() != 1 {
		t.Errorf("%d copies", b.courier.count())
	}
	b.sound()
	b.pass(8*24*time.Hour, 24*time.Hour)
	if n := b.keys("ak"); n != 0 {
		t.Errorf("%d records are left", n)
	}
}

func TestEnqueueRefuses(t *testing.T) {
	b := newBench(t, nil)
	p := b.parcel(sample)
	many := envelope("")
	for i := range maxRecipients + 1 {
		many.To = append(many.To, mail.Recipient{Address: address(fmt.Sprintf("a%d@example.org", i))})
	}
	for _, c := range []struct {
		e    Entry
		kind fault.Kind
	}{
		{Entry{Parcel: p}, fault.Invalid},
		{Entry{Parcel: p, Envelope: many}, fault.TooLarge},
		{Entry{Parcel: p, Envelope: envelope("", "a@b.test"), Key: strings.Repeat("x", 201)}, fault.Invalid},
	} {
		if _, err := b.q.Enqueue(t.Context(), Entry{Parcel: p, Envelope: envelope("", "a@b.test")}, c.e); !fault.Is(err, c.kind) {
			t.Errorf("%v, want %v", err, c.kind)
		}
	}
	b.empty() // all or none
}

// The longest header, the most recipients, the longest addresses fit.
func TestLargestEntry(t *testing.T) {
	b := newBench(t, nil)
	var noise strings.Builder
	for i := range 8000 {
		fmt.Fprintf(&noise, "X-%d-%x: %x\r\n", i, i*2654435761, uint64(i)*0x9e3779b97f4a7c15)
	}
	env := envelope("alice@martlet.test")
	for i := range maxRecipients {
		domain := fmt.Sprintf("%s.d%d.test", strings.Repeat("a", 60), i%600)
		env.To = append(env.To, mail.Recipient{Address: mail.Address{Local: strings.Repeat("l", 64), Domain: domain}, ORcpt: "rfc822;" + strings.Repeat("o", 480)})
	}
	p := b.parcel(noise.String() + "\r\nbody\r\n")
	id := b.enqueue(Entry{Envelope: env, Parcel: p})
	b.sound()
	if n, err := b.q.RetryAll(t.Context()); n != 1 || err != nil {
		t.Error(n, err)
	}
	if err := errors.Join(b.q.Hold(t.Context(), id), b.q.Release(t.Context(), id), b.q.Drop(t.Context(), id, false)); err != nil {
		t.Error(err)
	}
	b.empty()
}

// Groups are no larger than a transaction.
func TestGroups(t *testing.T) {
	b := newBench(t, nil)
	env := envelope("")
	for i := range 250 {
		env.To = append(env.To, mail.Recipient{Address: address(fmt.Sprintf("a%d@example.org", i))})
	}
	b.enqueue(Entry{Envelope: env, Parcel: b.parcel(sample)})
	b.pump()
	var sizes []int
	for _, c := range b.courier.calls {
		sizes = append(sizes, len(c.to))
	}
	slices.Sort(sizes)
	if fmt.Sprint(sizes) != "[50 100 100]" {
		t.Errorf("%v", sizes)
	}
	b.empty()
}

// The sweep is told of every body in the queue, and of none that has left it.
func TestBlobs(t *testing.T) {
	b := newBench(t, nil)
	p := b.parcel(sample + strings.Repeat("more than a small body\r\n", 2000))
	b.courier.script = always(greylist)
	id := b.enqueue(Entry{Envelope: envelope("", "bob@example.org"), Parcel: p})
	b.clock.add(24 * time.Hour)
	if done, err := b.store.Sweep(t.Context()); err != nil || done.Removed != 0 {
		t.Errorf("%+v %v", done, err)
	}
	b.sound()
	if err := b.q.Drop(t.Context(), id, false); err != nil {
		t.Fatal(err)
	}
	removed := 0
	for range 3 {
		b.clock.add(24 * time.Hour)
		done, err := b.store.Sweep(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		removed += done.Removed
	}
	if removed != 1 {
		t.Errorf("%d removed", removed)
	}
}

// Run sends what comes in and what becomes due, and stops.
func TestRun(t *testing.T) {
	b := newBench(t, func(o *Options) {
		o.Now = time.Now
		o.Gaps = []time.Duration{30 * time.Millisecond}
	})
	b.courier.script = func(job Job, r mail.Recipient) Result {
		if job.Attempt < 3 {
			return greylist
		}
		return ok
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { b.q.Run(ctx); close(done) }()
	for i := range 20 {
		b.put("alice@martlet.test", fmt.Sprintf("x@d%d.test", i))
	}
	for until := time.Now().Add(10 * time.Second); len(b.list()) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("%+v", b.list())
		}
	}
	cancel()
	<-done
	if n := b.courier.count(); n != 60 {
		t.Errorf("%d attempts", n)
	}
	b.empty()
}

// At the end of Run an attempt gets its grace; what it does not finish counts as
// not tried, what it finishes counts.
func TestStop(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Now = time.Now })
	started := make(chan struct{}, 2)
	b.q.opt.Remote = deliverFunc(func(ctx context.Context, job Job) []Result {
		started <- struct{}{}
		<-ctx.Done()
		if job.Envelope.To[0].Address.Domain == "slow.test" {
			return []Result{{Code: 421, Enhanced: "4.4.2", Text: "the connection was lost"}}
		}
		return []Result{ok}
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { b.q.Run(ctx); close(done) }()
	b.put("", "a@slow.test")
	b.put("", "a@quick.test")
	<-started
	<-started
	cancel()
	<-done
	l := b.list()
	if len(l) != 1 || l[0].Attempts != 0 || l[0].To[0].Domain != "slow.test" || !strings.HasPrefix(l[0].Reason, "not tried yet") {
		t.Errorf("%+v", l)
	}
	b.sound()
}

type deliverFunc func(context.Context, Job) []Result

func (f deliverFunc) Deliver(ctx context.Context, job Job) []Result { return f(ctx, job) }

// Verify finds each kind of damage.
func TestVerifyFinds(t *testing.T) {
	for name, damage := range map[string]func(t tx, m *message) error{
		"flipped bit": func(t tx, m *message) error {
			k := engine.Key(famRecipient, uint64(m.id), 0)
			v, _, _ := t.Get(k)
			v = slices.Clone(v)
			v[3] ^= 1
			return t.Put(k, v)
		},
		"miscounted":     func(t tx, m *message) error { t.count(0, 1); return nil },
		"message gone":   func(t tx, m *message) error { return t.Delete(engine.Key(famMessage, uint64(m.id))) },
		"group gone":     func(t tx, m *message) error { return t.Delete(engine.Key(famGroup, uint64(m.id), 0)) },
		"recipient gone": func(t tx, m *message) error { return t.Delete(engine.Key(famRecipient, uint64(m.id), 1)) },
		"piece gone":     func(t tx, m *message) error { return t.Delete(engine.Key(famPiece, uint64(m.id), 0)) },
		"alarm gone":     func(t tx, m *message) error { return t.Delete(alarmKey(alarmExpiry, m.id, m.expiryAt)) },
		"lane gone":      func(t tx, m *message) error { return t.Delete(engine.KeyString(famLane, "rexample.org")) },
		"not listed": func(t tx, m *message) error {
			g, _ := t.look().group(m.id, 0)
			return t.Delete(waitingKey(g.lane, g.next, m.id, 0))
		},
		"not due": func(t tx, m *message) error {
			g, _ := t.look().group(m.id, 0)
			l, _, _ := t.look().lane(g.lane)
			return t.Delete(dueKey(l.due, destOf(g.lane)))
		},
		"lane record gone": func(t tx, m *message) error {
			g, _ := t.look().group(m.id, 0)
			return t.Delete(engine.KeyString(famFlow, g.lane))
		},
		"no turn": func(t tx, m *message) error {
			g, _ := t.look().group(m.id, 0)
			at, _, _ := t.look().turn(g.lane)
			return t.Delete(turnKey(g.lane, at.at))
		},
		"stray turn":  func(t tx, m *message) error { g, _ := t.look().group(m.id, 0); return t.Put(turnKey(g.lane, 5), nil) },
		"stray alarm": func(t tx, m *message) error { return t.setAlarm(alarmReport, m.id, 0, 77) },
		"stray lane":  func(t tx, m *message) error { return t.Put(dueKey(5, "rexample.com"), nil) },
		"wrong count": func(t tx, m *message) error { m.open++; return t.putMessage(m) },
		"newer version": func(t tx, m *message) error {
			v := m.encode()
			return t.Put(engine.Key(famMessage, uint64(m.id)), record.Seal(9, v[1:len(v)-4]))
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, nil)
			b.courier.script = always(greylist)
			id := b.put("alice@martlet.test", "bob@example.org", "eve@example.org")
			b.sound()
			err := b.q.update(t.Context(), func(t tx) error {
				m, _, err := t.message(id)
				if err != nil {
					return err
				}
				return damage(t, m)
			})
			if err != nil {
				t.Fatal(err)
			}
			found := 0
			if _, err := b.q.Verify(t.Context(), func(ID, string) { found++ }); err != nil || found == 0 {
				t.Errorf("%d found, %v", found, err)
			}
			// Other mail is not stopped by it.
			other := b.put("", "x@example.net")
			b.courier.script = alwaysOK
			b.pump()
			b.pass(time.Hour, 10*time.Minute)
			if b.courier.taken[other.String()+" x@example.net"] != 1 {
				t.Error("other mail is stuck")
			}
		})
	}
}

func TestIDs(t *testing.T) {
	for _, id := range []ID{1, 36, 1 << 62, 1<<64 - 1} {
		if got, err := ParseID(strings.ToUpper(id.String())); err != nil || got != id {
			t.Errorf("%v %v %v", id, got, err)
		}
	}
	for _, bad := range []string{"", "-1", "x y", "zzzzzzzzzzzzzzzz"} {
		if _, err := ParseID(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
