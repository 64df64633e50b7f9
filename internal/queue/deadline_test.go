package queue

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
)

// asking queues the sample with wishes.
func (b *bench) asking(wish func(*mail.Envelope), to ...string) ID {
	b.t.Helper()
	env := envelope("alice@martlet.test", to...)
	wish(&env)
	return b.enqueue(Entry{Envelope: env, Parcel: b.parcel(sample)})
}

func (b *bench) later(d time.Duration) func(*mail.Envelope) {
	return func(e *mail.Envelope) { e.ReleaseAt, e.Release = b.clock.now().Add(d), "for;60" }
}

// A message is not tried before its time, whoever wants it, and lives as long after it as
// any other.
func TestRelease(t *testing.T) {
	b := newBench(t, nil)
	const wait = 30 * 24 * time.Hour
	id := b.asking(b.later(wait), "bob@example.org")
	b.pass(wait-time.Hour, 6*time.Hour)
	if err := b.q.Retry(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := b.q.RetryAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.q.Hold(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := b.q.Release(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	b.restart()
	b.pump()
	l := b.list()
	if len(l) != 1 || l[0].State != "scheduled" || l[0].Reason != "its sender wants it released in 60 min" || b.courier.count() != 0 || len(b.reports.all()) != 0 {
		t.Fatalf("%+v, %d attempts", l, b.courier.count())
	}
	b.sound()
	b.courier.script = always(greylist)
	b.pass(61*time.Minute, 10*time.Minute)
	if b.courier.count() == 0 || b.list()[0].State != "waiting" {
		t.Errorf("%d attempts; %+v", b.courier.count(), b.list())
	}
	b.pass(4*24*time.Hour, 2*time.Hour)
	if len(b.list()) != 1 {
		t.Error("it is given up before it is five days old")
	}
	b.pass(2*24*time.Hour, 2*time.Hour)
	r := b.reports.all()
	if len(r) != 2 || !strings.Contains(r[0], "Action: delayed") || !strings.Contains(r[1], "Future-Release-Request: for;60\r\n") || !strings.Contains(r[1], "Status: 5.4.7") {
		t.Errorf("%d reports: %q", len(r), r)
	}
	b.empty()
}

// Until it is released a message can be taken back, and then nobody gets it.
func TestUndo(t *testing.T) {
	b := newBench(t, nil)
	id := b.asking(b.later(time.Hour), "bob@example.org")
	if err := b.q.Drop(t.Context(), id, false); err != nil {
		t.Fatal(err)
	}
	b.pass(2*time.Hour, 10*time.Minute)
	if b.courier.count() != 0 {
		t.Error("it was sent")
	}
	b.empty()
}

// Neither a clock that is set back nor one that runs ahead for a while releases anything
// early, or loses it.
func TestReleaseAndClock(t *testing.T) {
	b := newBench(t, nil)
	b.asking(b.later(10*24*time.Hour), "bob@example.org")
	b.pump()
	b.clock.add(-24 * time.Hour)
	b.pump()
	b.pass(10*24*time.Hour, 3*time.Hour)
	if b.courier.count() != 0 {
		t.Error("it was sent early")
	}
	b.sound()
	b.pass(25*time.Hour, time.Hour)
	if b.courier.count() != 1 {
		t.Errorf("%d attempts", b.courier.count())
	}
	b.empty()
}

func (b *bench) by(mode mail.ByMode, d time.Duration, trace bool) func(*mail.Envelope) {
	return func(e *mail.Envelope) {
		e.By = mail.DeliverBy{Mode: mode, At: b.clock.now().Add(d), Trace: trace}
	}
}

// A message with BY=...;R goes back at its deadline, and is not tried after it, even if the
// server was down when it came.
func TestDeliverByReturn(t *testing.T) {
	for name, down := range map[string]time.Duration{"up": 0, "down for a while": 20 * time.Minute, "down for long": 72 * time.Hour} {
		b := newBench(t, nil)
		b.courier.script = always(greylist)
		b.asking(b.by(mail.ByReturn, 12*time.Minute, false), "bob@example.org")
		b.pump()
		b.pass(11*time.Minute, time.Minute)
		tried := b.courier.count()
		if tried < 2 || len(b.reports.all()) != 0 {
			t.Errorf("%s: %d attempts, %d reports before", name, tried, len(b.reports.all()))
		}
		b.clock.add(down)
		b.pass(30*time.Minute, time.Minute)
		r := b.reports.all()
		if len(r) != 1 || !strings.Contains(r[0], "Action: failed\r\nStatus: 5.4.7\r\n") || !strings.Contains(r[0], "\r\nDeliver-By-Date: Sun, 01 Mar 2026 12:12:00 +0000\r\n") {
			t.Errorf("%s: %q", name, r)
		}
		if n := b.courier.count(); n != tried {
			t.Errorf("%s: %d attempts after the deadline", name, n-tried)
		}
		b.empty()
	}
}

// With BY=...;N the sender is told, once, and it is tried on.
func TestDeliverByNotify(t *testing.T) {
	b := newBench(t, nil)
	b.courier.script = always(greylist)
	b.asking(b.by(mail.ByNotify, 12*time.Minute, false), "bob@example.org")
	b.pass(30*time.Minute, time.Minute)
	r := b.reports.all()
	if len(r) != 1 || !strings.Contains(r[0], "Action: delayed\r\nStatus: 4.4.7\r\n") {
		t.Fatalf("%q", r)
	}
	b.courier.script = alwaysOK
	b.pass(2*time.Hour, 10*time.Minute)
	if len(b.reports.all()) != 1 || b.courier.taken == nil {
		t.Errorf("%q", b.reports.all())
	}
	b.empty()
}

// The sender hears when his deadline leaves our hands (RFC 2852, 4.1.4).
func TestDeliverByRelayed(t *testing.T) {
	knows := ok
	knows.InTime = true
	for _, tc := range []struct {
		name   string
		wish   func(*bench) func(*mail.Envelope)
		answer Result
		notify mail.Notify
		want   bool
	}{
		{"R, known there", func(b *bench) func(*mail.Envelope) { return b.by(mail.ByReturn, time.Hour, false) }, knows, 0, false},
		{"R with trace", func(b *bench) func(*mail.Envelope) { return b.by(mail.ByReturn, time.Hour, true) }, knows, 0, true},
		{"N, known there", func(b *bench) func(*mail.Envelope) { return b.by(mail.ByNotify, time.Hour, false) }, knows, 0, false},
		{"N, not known", func(b *bench) func(*mail.Envelope) { return b.by(mail.ByNotify, time.Hour, false) }, ok, 0, true},
		{"N, past", func(b *bench) func(*mail.Envelope) { return b.by(mail.ByNotify, -time.Hour, false) }, ok, 0, false},
		{"N, nobody is to know", func(b *bench) func(*mail.Envelope) { return b.by(mail.ByNotify, time.Hour, true) }, ok, mail.NotifyNever, false},
		{"no deadline", func(*bench) func(*mail.Envelope) { return func(*mail.Envelope) {} }, ok, 0, false},
	} {
		b := newBench(t, nil)
		b.courier.script = always(tc.answer)
		b.asking(func(e *mail.Envelope) { tc.wish(b)(e); e.To[0].Notify = tc.notify }, "bob@example.org")
		b.pump()
		r := b.reports.all()
		if told := len(r) == 1 && strings.Contains(r[0], "Action: relayed"); told != tc.want || len(r) > 1 {
			t.Errorf("%s: %q", tc.name, r)
		}
		b.empty()
	}
}

// With VERP each copy has a sender that names its recipient, and so have reports.
func TestVERP(t *testing.T) {
	b := newBench(t, nil)
	froms := map[string]bool{}
	b.courier.script = func(job Job, r mail.Recipient) Result {
		froms[job.Envelope.From.String()+" "+r.Address.String()] = true
		if len(job.Envelope.To) != 1 {
			t.Error("two recipients with one sender")
		}
		return unknown
	}
	long := strings.Repeat("x", 60) + "@example.org"
	b.q.opt.Workers = 1
	b.asking(func(e *mail.Envelope) { e.VERP = true }, "bob@example.org", "eve@example.org", long)
	b.pump()
	for _, want := range []string{"alice+bob=example.org@martlet.test bob@example.org", "alice+eve=example.org@martlet.test eve@example.org", "alice@martlet.test " + long} {
		if !froms[want] {
			t.Errorf("%s is missing in %v", want, froms)
		}
	}
	to := map[string]bool{}
	for _, e := range b.reports.envs {
		to[e.To[0].Address.String()] = true
	}
	if len(to) != 3 || !to["alice+bob=example.org@martlet.test"] || !to["alice@martlet.test"] {
		t.Errorf("reports to %v", to)
	}
	b.empty()
}

// TestVERPOnce: mail with VERP that was to be released later comes by the local road, and is
// queued anew then: its recipient is in its sender once, on either road.
func TestVERPOnce(t *testing.T) {
	b := newBench(t, nil)
	froms := map[string]bool{}
	b.local.script = func(j Job, _ mail.Recipient) Result { // as receive.Local does
		froms["here "+j.Envelope.From.String()] = true
		env := j.Envelope
		env.ReleaseAt = time.Time{}
		b.enqueue(Entry{Envelope: env, Parcel: b.parcel(sample)})
		return ok
	}
	b.courier.script = func(j Job, _ mail.Recipient) Result {
		froms[j.Envelope.From.String()] = true
		return unknown
	}
	env := envelope("list@martlet.test", "bob@example.org", "eve@example.org")
	env.VERP = true
	b.later(time.Hour)(&env)
	b.enqueue(Entry{Envelope: env, Parcel: b.parcel(sample), Road: Local})
	b.pass(2*time.Hour, 10*time.Minute)
	for _, to := range []string{"bob", "eve"} {
		from := "list+" + to + "=example.org@martlet.test"
		if !froms[from] || !froms["here "+from] {
			t.Errorf("nothing goes out from %s: %v", from, froms)
		}
		if !slices.ContainsFunc(b.reports.envs, func(e mail.Envelope) bool { return e.To[0].Address.String() == from }) {
			t.Errorf("no report goes to %s", from)
		}
	}
	if len(froms) != 4 || len(b.reports.envs) != 2 {
		t.Errorf("%v, %d reports", froms, len(b.reports.envs))
	}
	b.empty()
}

// What was said of a message's line comes back, and a report has its priority.
func TestLineAndPriority(t *testing.T) {
	b := newBench(t, nil)
	res := greylist
	res.Line = mail.Line{Version: "TLS 1.3", Cipher: "TLS_AES_128_GCM_SHA256", Verified: mail.ProofDANE, Failure: mail.Expired, Why: "yesterday"}
	b.courier.script = always(res)
	id := b.asking(func(e *mail.Envelope) { e.Priority = 5 }, "bob@example.org")
	b.pump()
	d, err := b.q.Show(t.Context(), id)
	if err != nil || d.Recipients[0].Line != res.Line || d.Priority != 5 {
		t.Errorf("%+v, %v", d, err)
	}
	if err := b.q.Drop(t.Context(), id, true); err != nil {
		t.Fatal(err)
	}
	b.pump()
	if len(b.reports.envs) != 1 || b.reports.envs[0].Priority != 5 {
		t.Errorf("%+v", b.reports.envs)
	}
}
