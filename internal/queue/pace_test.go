package queue

import (
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
