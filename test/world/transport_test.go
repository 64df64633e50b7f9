package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/world/lab"
)

const alice = "alice@martlet.example"

// submit hands ours a message for somebody elsewhere.
func submit(t *testing.T, w *lab.Town, to, token string) {
	t.Helper()
	if err := w.Martlet.Submit(w.Client, alice, to, lab.Letter(alice, to, token)); err != nil {
		t.Fatal(err)
	}
}

// traced waits until the story of a message that ours sent says something.
func traced(t *testing.T, w *lab.Town, token, what string) string {
	t.Helper()
	story, err := w.Martlet.AwaitTrace(token, alice, what)
	if err != nil {
		t.Fatal(err)
	}
	return story
}

// again has the queue try at once: a destination that failed has a pause of a minute.
func again(t *testing.T, w *lab.Town) {
	t.Helper()
	_, err := w.Martlet.Do("queue", "retry", "--all")
	must(t, err)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Ours uses the TLSA records of others, and they use ours (RFC 7672).
func TestDANE(t *testing.T) {
	w := town(t)
	for _, p := range []*lab.Peer{w.Postfix, w.Exim} {
		t.Run("to "+p.Domain, func(t *testing.T) {
			submit(t, w, "bob@"+p.Domain, "dane-to-"+p.Domain)
			if story := traced(t, w, "dane-to-"+p.Domain, `"state":"sent"`); !strings.Contains(story, "DANE") {
				t.Error(story)
			}
		})
	}
	for p, want := range map[*lab.Peer]string{
		w.Postfix: "Verified TLS connection established to mx.martlet.example",
		w.Exim:    "CV=dane",
	} {
		t.Run("from "+p.Domain, func(t *testing.T) {
			said := p.Said()
			from, to := "alice@"+p.Domain, "bob@martlet.example"
			must(t, p.Send(from, to, lab.Letter(from, to, "dane-from-"+p.Domain)))
			must(t, p.AwaitLog(said, want))
			if _, err := w.Martlet.Await("bob", "INBOX", "dane-from-"+p.Domain); err != nil {
				t.Error(err)
			}
		})
	}
}

// Others hold us to our TLSA record: with one of another certificate they bring nothing.
func TestOurTLSACounts(t *testing.T) {
	w := town(t)
	name := "_25._tcp.mx.martlet.example"
	was, err := w.DNS.Get(name, "TLSA")
	must(t, err)
	must(t, w.DNS.Set(name, "TLSA", "3 1 1 "+strings.Repeat("00", 32)))
	from, to := "alice@postfix.example", "bob@martlet.example"
	token := ""
	for i := range 20 { // Postfix keeps what it has learnt for a moment
		token = fmt.Sprintf("our-tlsa-%d", i)
		said := w.Postfix.Said()
		must(t, w.Postfix.Send(from, to, lab.Letter(from, to, token)))
		must(t, w.Postfix.AwaitLog(said, "to=<bob@martlet.example>"))
		if w.Postfix.HasSaid(said, "status=deferred (Server certificate not ") {
			break
		}
		token = ""
		time.Sleep(time.Second)
	}
	if token == "" {
		t.Error("Postfix does not mind")
	} else if all, _ := w.Martlet.Mail("bob", "INBOX"); strings.Contains(strings.Join(all, ""), token) {
		t.Error("it has come all the same")
	}
	must(t, w.DNS.Set(name, "TLSA", was...))
	if _, err := w.Martlet.Await("bob", "INBOX", token); err != nil {
		t.Error(err)
	}
}

// A certificate that is not the one of the TLSA record gets no mail, however long it lasts.
func TestDANEMismatch(t *testing.T) {
	w := town(t)
	name := "_25._tcp." + w.Postfix.Name
	must(t, w.DNS.Set(name, "TLSA", "3 1 1 "+strings.Repeat("00", 32)))
	back := func() { must(t, w.DNS.Set(name, "TLSA", w.Postfix.Cert.TLSA())) }
	defer back()
	submit(t, w, "bob@postfix.example", "dane-mismatch")
	traced(t, w, "dane-mismatch", `"attempts":1`)
	again(t, w)
	story := traced(t, w, "dane-mismatch", `"attempts":2`)
	for _, want := range []string{"TLSA", `"state":"waiting"`} {
		if !strings.Contains(story, want) {
			t.Errorf("no %s in:\n%s", want, story)
		}
	}
	if got := w.Postfix.Mail("bob"); strings.Contains(strings.Join(got, ""), "dane-mismatch") {
		t.Error("it was delivered all the same")
	}
	back()
	again(t, w)
	if _, err := w.Postfix.Await("bob", "dane-mismatch"); err != nil {
		t.Error(err)
	}
}

// A host that has a policy and nothing else gets mail by it, and none where it says that
// another host is the right one (RFC 8461).
func TestMTASTS(t *testing.T) {
	w := town(t)
	policy := func(id, mx string) (stop func()) {
		stop, err := w.STS.Policy("sts.example", "version: STSv1\r\nmode: enforce\r\nmx: "+mx+"\r\nmax_age: 86400\r\n")
		must(t, err)
		must(t, w.DNS.Set("_mta-sts.sts.example", "TXT", `"v=STSv1; id=`+id+`"`))
		return stop
	}
	stop := policy("1", "mx.sts.example")
	submit(t, w, "bob@sts.example", "sts-good")
	if story := traced(t, w, "sts-good", `"state":"sent"`); !strings.Contains(story, "MTA-STS") {
		t.Error(story)
	}
	stop()
	stop = policy("2", "other.sts.example")
	submit(t, w, "bob@sts.example", "sts-bad")
	if story := traced(t, w, "sts-bad", `"state":"waiting"`); !strings.Contains(story, "MTA-STS") {
		t.Error(story)
	}
	stop()
	stop = policy("3", "*.sts.example")
	defer stop()
	again(t, w)
	if _, err := w.STS.Await("bob", "sts-bad"); err != nil {
		t.Error(err)
	}
}

// A host whose IPv6 address nobody answers at gets its mail over IPv4.
func TestIPv6Broken(t *testing.T) {
	w := town(t)
	must(t, w.DNS.Set(w.Exim.Name, "AAAA", "3ffe:db8:28::dead"))
	defer func() { must(t, w.DNS.Set(w.Exim.Name, "AAAA", w.Exim.IPv6.String())) }()
	submit(t, w, "bob@exim.example", "six-broken")
	if story := traced(t, w, "six-broken", `"state":"sent"`); !strings.Contains(story, w.Exim.IPv4.String()) {
		t.Error(story)
	}
}

// Zones that do not hold are no answer: mail waits (RFC 7672, 2.1.1).
func TestBogusZone(t *testing.T) {
	w := town(t)
	must(t, w.DNS.Set("bogus.example", "MX", "10 mx.exim.example."))
	submit(t, w, "bob@bogus.example", "bogus-zone")
	if story := traced(t, w, "bogus-zone", `"state":"waiting"`); !strings.Contains(story, "4.4.3") {
		t.Error(story)
	}
	_, err := w.Martlet.Do("queue", "drop", "--all")
	must(t, err)
}
