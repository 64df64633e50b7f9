package queue

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// What came back for good is remembered for the account that sent it, for 90 days or until
// somebody says otherwise.
func TestBounced(t *testing.T) {
	b := newBench(t, nil)
	b.courier.script = func(_ Job, r mail.Recipient) Result {
		switch r.Address.Local {
		case "gone":
			return unknown
		case "full":
			return Result{Code: 552, Enhanced: "5.2.2", Text: "full", Host: "mx"}
		case "ours":
			return Result{Code: 550, Enhanced: "5.1.2", Text: "no such domain"} // no host said so
		}
		return ok
	}
	env := envelope("alice@martlet.test", "gone@example.org", "full@example.org", "ours@example.org", "bob@example.org")
	env.Login = "alice@martlet.test"
	b.enqueue(Entry{Envelope: env, Parcel: b.parcel(sample)})
	b.put("", "gone@example.net")
	b.pump()
	list := func(login string) (s string) {
		if err := b.q.ListBounced(t.Context(), login, func(x Bounced) bool { s += x.Login + " " + x.Address + "; "; return true }); err != nil {
			t.Fatal(err)
		}
		return s
	}
	if got := list(""); got != "alice@martlet.test gone@example.org; " || got != list("Alice@martlet.test") || list("alic@martlet.test") != "" {
		t.Errorf("%q", got)
	}
	err := b.q.Refused(t.Context(), "Alice@martlet.test", address("GONE@example.org"))
	if !fault.Is(err, fault.NotFound) || !strings.Contains(fault.Say(err), "came back on 2026-03-01: mx1.example.org answered 550 5.1.1 User unknown") {
		t.Errorf("%v", err)
	}
	for who, to := range map[string]string{"bob@martlet.test": "gone@example.org", "alice@martlet.test": "full@example.org"} {
		if err := b.q.Refused(t.Context(), who, address(to)); err != nil {
			t.Errorf("%s to %s: %v", who, to, err)
		}
	}
	b.sound()
	if err := b.q.Forgive(t.Context(), "alice@martlet.test", address("gone@example.org")); err != nil || list("") != "" {
		t.Errorf("%v, %q", err, list(""))
	}
	if err := b.q.Forgive(t.Context(), "alice@martlet.test", address("gone@example.org")); !fault.Is(err, fault.NotFound) {
		t.Errorf("%v", err)
	}
	for i := range 250 {
		env := envelope("alice@martlet.test", "gone@"+fmt.Sprintf("d%d.test", i))
		env.Login = "alice@martlet.test"
		b.enqueue(Entry{Envelope: env, Parcel: b.parcel(sample)})
	}
	b.pump()
	if n := strings.Count(list("alice@martlet.test"), ";"); n != 250 || b.keys("b") != 250 {
		t.Errorf("%d are listed", n)
	}
	b.pass(91*24*time.Hour, 12*time.Hour)
	if b.q.Refused(t.Context(), "alice@martlet.test", address("gone@d1.test")) != nil || b.keys("b") != 0 {
		t.Errorf("%d are left after 90 days", b.keys("b"))
	}
}
