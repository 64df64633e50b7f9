package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/test/world/lab"
)

// results finds what a field says of a method: spf=pass.
var results = regexp.MustCompile(`\b(spf|dkim|dmarc|iprev)=([a-z]+)`)

// verdict is what Martlet has written into the first field of its own.
func verdict(t *testing.T, message string) map[string]string {
	t.Helper()
	f := field(message, "Authentication-Results")
	if !strings.HasPrefix(f, "Authentication-Results: mx.martlet.example;") {
		t.Fatalf("no field of ours in\n%s", message)
	}
	found := map[string]string{}
	for _, m := range results.FindAllStringSubmatch(f, -1) {
		if found[m[1]] == "" {
			found[m[1]] = m[2]
		}
	}
	return found
}

// What the others send passes every check: they sign, their hosts are in SPF, their
// addresses have names.
func TestHonestMailPasses(t *testing.T) {
	w := town(t)
	for _, from := range houses(w)[1:] {
		sender := "alice@" + from.domain
		subject := "honest-" + from.domain
		must(t, from.send(sender, "bob@martlet.example", lab.Letter(sender, "bob@martlet.example", subject)))
	}
	for _, from := range houses(w)[1:] {
		got, err := w.Martlet.Await("bob", "INBOX", "honest-"+from.domain)
		must(t, err)
		if v := verdict(t, got); fmt.Sprint(v) != "map[dkim:pass dmarc:pass iprev:pass spf:pass]" {
			t.Errorf("%s: %v\n%s", from.domain, v, field(got, "Authentication-Results"))
		}
	}
}

// An attacker with SPF of his own in order sends in others' names. What becomes of it is
// what those have published in DNS, at once when they change it.
func TestForgedMail(t *testing.T) {
	w := town(t)
	server := w.Martlet.IPv4.String() + ":25"
	send := func(from, author, subject string, more ...string) error {
		return w.Attacker.Send(server, from, "bob@martlet.example", strings.Join(more, "")+lab.Letter(author, "bob@martlet.example", subject))
	}
	refused := func(err error, code string) {
		t.Helper()
		var no *lab.Refused
		if !errors.As(err, &no) || no.Code != 550 || !strings.Contains(no.Text, code) {
			t.Errorf("%v, want 550 %s", err, code)
		}
	}
	refused(send("mallory@evil.example", "ceo@postfix.example", "forged-1"), "5.7.1")
	refused(send("ceo@postfix.example", "ceo@postfix.example", "forged-2"), "5.7.26")
	refused(send("", "ceo@exim.example", "forged-3"), "5.7.26")
	refused(send("mallory@evil.example", "ceo@postfix.example", "forged-4", "From: mallory@evil.example\r\n"), "5.7.1")
	refused(send("mallory@evil.example", "ceo@sub.postfix.example", "forged-5"), "5.7.1")

	must(t, send("mallory@evil.example", "ceo@postfix.example", "forged-list", "List-Id: <l.evil.example>\r\n"))
	list, err := w.Martlet.Await("bob", "Junk", "forged-list")
	must(t, err)
	if v := verdict(t, list); v["dmarc"] != "fail" || v["spf"] != "pass" || v["dkim"] != "none" {
		t.Errorf("%v", v)
	}

	policy := func(text string) {
		t.Helper()
		must(t, w.DNS.Set("_dmarc.exim.example.", "TXT", text))
	}
	defer policy(`"v=DMARC1; p=reject"`)
	policy(`"v=DMARC1; p=quarantine"`)
	must(t, send("mallory@evil.example", "ceo@exim.example", "forged-quarantine"))
	_, err = w.Martlet.Await("bob", "Junk", "forged-quarantine")
	must(t, err)
	policy(`"v=DMARC1; p=none"`)
	must(t, send("mallory@evil.example", "ceo@exim.example", "forged-none"))
	got, err := w.Martlet.Await("bob", "INBOX", "forged-none")
	must(t, err)
	if v := verdict(t, got); v["dmarc"] != "fail" {
		t.Errorf("%v", v)
	}
	// A zone whose signatures do not hold is no answer: nothing is refused for it.
	must(t, send("mallory@evil.example", "ceo@bogus.example", "forged-bogus"))
	got, err = w.Martlet.Await("bob", "INBOX", "forged-bogus")
	must(t, err)
	if v := verdict(t, got); v["dmarc"] != "temperror" {
		t.Errorf("%v", v)
	}
	// The control: honest mail of the attacker's own.
	must(t, send("mallory@evil.example", "mallory@evil.example", "forged-not"))
	got, err = w.Martlet.Await("bob", "INBOX", "forged-not")
	must(t, err)
	if v := verdict(t, got); v["spf"] != "pass" || v["dmarc"] == "fail" {
		t.Errorf("%v", v)
	}
}

// OpenDMARC and Rspamd see the same messages as ours, and say the same of them.
func TestOtherOpinions(t *testing.T) {
	w := town(t)
	defer func() { must(t, w.DNS.Set("_dmarc.exim.example.", "TXT", `"v=DMARC1; p=reject"`)) }()
	must(t, w.DNS.Set("_dmarc.exim.example.", "TXT", `"v=DMARC1; p=none"`)) // or they take nothing
	for i, c := range []struct{ from, author, want string }{
		{"mallory@evil.example", "ceo@exim.example", "fail"},
		{"ceo@exim.example", "ceo@exim.example", "fail"},
		{"mallory@evil.example", "ceo@sub.exim.example", "fail"},
		{"mallory@evil.example", "mallory@evil.example", ""},
	} {
		subject := fmt.Sprintf("opinion-%d", i)
		for _, to := range []struct{ domain, address string }{
			{"martlet.example", w.Martlet.IPv4.String()}, {"postfix.example", w.Postfix.IPv4.String()}, {"sts.example", w.STS.IPv4.String()},
		} {
			must(t, w.Attacker.Send(to.address+":25", c.from, "bob@"+to.domain, lab.Letter(c.author, "bob@"+to.domain, subject)))
		}
		ours, err := w.Martlet.Await("bob", "INBOX", subject)
		must(t, err)
		v := verdict(t, ours)
		if c.want != "" && v["dmarc"] != c.want {
			t.Errorf("%+v: %v", c, v)
		}
		for _, p := range []*lab.Peer{w.Postfix, w.STS} {
			if p == w.Postfix && strings.Contains(c.author, "@sub.") {
				continue // OpenDMARC goes by the list of public suffixes, which does not know .example
			}
			theirs, err := p.Await("bob", subject)
			must(t, err)
			said := false
			for line := range strings.Lines(unfold(theirs)) {
				if !strings.HasPrefix(line, "Authentication-Results: mx."+p.Domain) {
					continue
				}
				for _, m := range results.FindAllStringSubmatch(line, -1) {
					if m[1] == "dmarc" || m[1] == "spf" {
						said = said || m[1] == "dmarc"
						if m[2] != v[m[1]] {
							t.Errorf("%+v: %s says %s, we say %v", c, p.Domain, m[0], v)
						}
					}
				}
			}
			if !said {
				t.Errorf("%+v: %s says nothing:\n%s", c, p.Domain, theirs)
			}
		}
	}
}
