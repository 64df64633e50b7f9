package discover

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/fault"
)

// That nobody answers is not that there is nothing.
func TestNoNameServerAnswers(t *testing.T) {
	w := newWorld(t, "")
	w.dns.Close()
	f, err := New(func() Options { o := w.options(); offline(&o); return o }())
	if err != nil {
		t.Fatal(err)
	}
	if a, err := f.Find(context.Background(), "me@example.org"); !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Say(err), "no name server answered") {
		t.Error(a, err)
	}
	if a, err := f.Find(context.Background(), "me@gmail.com"); err != nil || len(a.Services) == 0 {
		t.Error(a, err)
	}
	if a, err := f.Find(context.Background(), "me@tuta.com"); err != nil || len(a.Notes) == 0 {
		t.Error(a, err)
	}
	// One answer, though a denial, and the name servers are there.
	w = newWorld(t, "! silent mx.example.org\n")
	if a := w.find("me@example.org", offline); len(a.Services) > 0 {
		t.Error(explained(a))
	}
}

func TestSilentHostsAreNamed(t *testing.T) {
	a, _ := timed(t, quiet{addrs: allNames}, &pipes{}, "me@example.org", nil)
	if notes := strings.Join(a.Notes, "\n"); !strings.Contains(notes, "no answer came from autoconfig.example.org, autodiscover.example.org, ") || !strings.HasSuffix(notes, ", others") {
		t.Errorf("%q", a.Notes)
	}
	w := newWorld(t, zone) // the control: all refuse
	if a := w.find("me@example.org", offline); strings.Contains(strings.Join(a.Notes, "\n"), "no answer came from") {
		t.Errorf("%q", a.Notes)
	}
}

func TestAuthIsAlwaysAList(t *testing.T) {
	body := `{"protocols":{"imap":{"host":"imap.example.org"},"smtp":{"host":"smtp.example.org"}}}`
	w := newWorld(t, zone+paccRecord(body))
	w.web("203.0.113.3", files(map[string]string{"/.well-known/user-agent-configuration.json": body}), "ua-auto-config.example.org")
	a := w.find("me@example.org", offline)
	if b, _ := json.Marshal(a); len(a.Services) != 2 || !strings.Contains(string(b), `"auth":[]`) || strings.Contains(string(b), "null") {
		t.Errorf("%s", b)
	}
}

// Behind a filter the alias of Autodiscover tells where the mailboxes are.
func TestAutodiscoverAliasOfAKnownProvider(t *testing.T) {
	mx := "corp.net. MX 10 eu-smtp-inbound-1.mimecast.com.\n"
	w := newWorld(t, mx+"autodiscover.corp.net. CNAME autodiscover.outlook.com.\nautodiscover.outlook.com. A 203.0.113.20\n")
	a := w.find("me@corp.net", offline)
	if got := marks(a); got != "alias outlook.office365.com insecure=false foreign=true" || a.Provider != "Microsoft 365" {
		t.Error(got, a.Provider)
	}
	w = newWorld(t, mx+"autodiscover.corp.net. CNAME autodiscover.unknown.com.\n") // the control
	if a := w.find("me@corp.net", offline); len(a.Services) > 0 {
		t.Error(explained(a))
	}
}

func TestICloudWithADomainOfOnesOwn(t *testing.T) {
	w := newWorld(t, "family.net. MX 10 mx01.mail.icloud.com.\n")
	a := w.find("jane@family.net", offline)
	if a.Services[0].Host != "imap.mail.me.com" || a.Services[0].Username == "jane" || !strings.Contains(strings.Join(a.Notes, "\n"), "the one at @icloud.com") {
		t.Error(explained(a))
	}
	if a = w.find("jane@icloud.com", offline); a.Services[0].Username != "jane" { // the control
		t.Error(explained(a))
	}
}

// What anybody on the way can say does not go before what a certificate confirms.
func TestAttack80PlainAnswersThatAreDoubtful(t *testing.T) {
	settings := func(host, socket string) string {
		return fmt.Sprintf(`<clientConfig version="1.1"><emailProvider id="x"><incomingServer type="imap"><hostname>%s</hostname><port>143</port><socketType>%s</socketType></incomingServer>`+
			`<outgoingServer type="smtp"><hostname>%[1]s</hostname><port>25</port><socketType>%[2]s</socketType></outgoingServer></emailProvider></clientConfig>`, host, socket)
	}
	for name, c := range map[string]struct{ doc, guessed, alone string }{
		"another owner": {settings("imap.evil.net", "STARTTLS"), "guess imap.example.org", "autoconfig-http imap.evil.net guessed"},
		"no encryption": {settings("mail.example.org", "plain"), "guess imap.example.org", "autoconfig-http mail.example.org guessed"},
		"control":       {settings("mail.example.org", "STARTTLS"), "autoconfig-http mail.example.org", "autoconfig-http mail.example.org published"},
	} {
		for _, guessable := range []bool{true, false} {
			w := newWorld(t, zone)
			w.web("203.0.113.2", func(rw http.ResponseWriter, r *http.Request) { io.WriteString(rw, c.doc) })
			want := c.alone
			if guessable {
				w.mailAll("203.0.113.8", "imap.example.org", "smtp.example.org", "pop.example.org")
				want = c.guessed
			}
			s := w.find("me@example.org", offline).Services[0]
			if got := s.Source + " " + s.Host + " " + s.Confidence; !strings.HasPrefix(got, want) || s.Source == "autoconfig-http" && !s.Insecure {
				t.Errorf("%s: %s, wanted %s", name, got, want)
			}
		}
	}
}

func TestPublicSuffixesAreNobodysDomain(t *testing.T) {
	f, err := New(Options{Now: newWorld(t, "").clock})
	if err != nil {
		t.Fatal(err)
	}
	for text, refused := range map[string]bool{"co.uk": true, "com.br": true, "me@co.uk": true, "me@nic.in": false, "me@bbc.co.uk": false, "me@github.io": false} {
		if _, err := f.Find(context.Background(), text); fault.Is(err, fault.Invalid) != refused {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// What a stranger says can neither turn the direction of writing nor hide in it.
func TestAttack80WhatIsNotSeen(t *testing.T) {
	for _, r := range "\u200e\u200f\u061c\u202a\u202e\u2066\u2069\u200b\u2060\ufeff\u00ad\u180e\ufff9\U000e0041\U000e0100\ue000\u2028\u0085\x1b\u3164" {
		if got := clip("a" + string(r) + "b"); got != "ab" && got != "a b" {
			t.Errorf("%U passes: %q", r, got)
		}
	}
	if got := clip("Größe 漢字 ✉"); got != "Größe 漢字 ✉" {
		t.Error(got)
	}
}

// The bridge that the table names is a program of this machine.
func TestProbeLeavesThisMachineAlone(t *testing.T) {
	w := newWorld(t, "")
	a := w.find("me@proton.me", offline, func(o *Options) { o.Probe = true })
	if a.Services[0].Probe != nil || !strings.Contains(strings.Join(a.Notes, "\n"), "127.0.0.1 is this machine") || len(w.dialed) > 0 {
		t.Error(explained(a), w.dialed)
	}
	a = w.find("me@proton.me", offline, func(o *Options) { o.Probe, o.AllowPrivate = true, true }) // the control
	if a.Services[0].Probe == nil || len(w.dialed) == 0 {
		t.Error(explained(a))
	}
}

// A wildcard in the DNS, and behind it a real server whose certificate has its name.
func TestGuessBelowAWildcardByCertificate(t *testing.T) {
	w := newWorld(t, "wild.net. A 203.0.113.13\n")
	w.wild["wild.net"] = netip.MustParseAddr("203.0.113.13")
	w.mailAll("203.0.113.13", "imap.wild.net", "smtp.wild.net")
	w.want(w.find("me@wild.net", offline), "imap imap.wild.net:993 tls guess guessed\nsmtp smtp.wild.net:465 tls guess guessed")
}
