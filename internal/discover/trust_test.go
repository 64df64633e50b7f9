package discover

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// offline asks no database, and not more than is needed.
func offline(o *Options) { o.Database, o.Explain = "", false }

// marks are the first service's, in words.
func marks(a *Answer) string {
	if len(a.Services) == 0 {
		return "nothing"
	}
	s := a.Services[0]
	return fmt.Sprintf("%s %s insecure=%v foreign=%v", s.Source, s.Host, s.Insecure, s.Foreign)
}

// Whoever answers for the DNS on the way can name his own hosts, which have valid certificates:
// what leads to another owner is marked, unless DNSSEC or somebody else vouches for it.
func TestAttack80ForgedRecordsAreMarked(t *testing.T) {
	srv := "_imaps._tcp.victim.net. SRV 0 1 993 imap.evil.net.\n_submissions._tcp.victim.net. SRV 0 1 465 imap.evil.net.\n"
	mx := "victim.net. MX 10 mx.evil.net.\nautoconfig.evil.net. A 203.0.113.9\nmx.evil.net. A 203.0.113.10\n"
	owner := "victim.net. MX 10 mx.evil.net.\nimap.evil.net. A 203.0.113.11\nsmtp.evil.net. A 203.0.113.11\n"
	for name, c := range map[string]struct{ zone, want string }{
		"srv":             {srv, "srv imap.evil.net insecure=true foreign=true"},
		"srv signed":      {srv + "! ad _imaps._tcp.victim.net\n", "srv imap.evil.net insecure=false foreign=true"},
		"srv own":         {strings.ReplaceAll(srv, "imap.evil.net", "imap.victim.net"), "srv imap.victim.net insecure=false foreign=false"},
		"mx":              {mx, "mx imap.evil.net insecure=true foreign=true"},
		"mx signed":       {mx + "! ad victim.net\n", "mx imap.evil.net insecure=false foreign=true"},
		"mail host":       {strings.Replace(mx, "autoconfig.", "x.", 1), "mx-host mx.evil.net insecure=true foreign=true"},
		"owner":           {owner, "mx-host imap.evil.net insecure=true foreign=true"},
		"owner signed":    {owner + "! ad victim.net\n", "mx-host imap.evil.net insecure=false foreign=true"},
		"own mail host":   {"victim.net. MX 10 box.victim.net.\nbox.victim.net. A 203.0.113.10\n", "mx-host box.victim.net insecure=false foreign=false"},
		"table":           {"victim.net. MX 10 aspmx.l.google.com.\n", "table-mx imap.gmail.com insecure=false foreign=true"},
		"table signed":    {"victim.net. MX 10 aspmx.l.google.com.\n! ad victim.net\n", "table-mx imap.gmail.com insecure=false foreign=false"},
		"on this machine": {"victim.net. MX 10 mail.protonmail.ch.\n", "table-mx 127.0.0.1 insecure=false foreign=false"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c.zone)
			w.web("203.0.113.9", files(map[string]string{"/mail/config-v1.1.xml": configXML("evil.net")}), "autoconfig.evil.net")
			w.mailAll("203.0.113.10", "mx.evil.net", "box.victim.net")
			w.mailAll("203.0.113.11", "imap.evil.net", "smtp.evil.net")
			a := w.find("me@victim.net", offline)
			if got := marks(a); got != c.want {
				t.Errorf("%s, wanted %s", got, c.want)
			}
			if asked := strings.Contains(strings.Join(a.Notes, " "), "make sure"); asked != strings.Contains(c.want, "foreign=true") {
				t.Errorf("%q", a.Notes)
			}
		})
	}
}

// A provider's own domain, and what is published over HTTPS.
func TestWhoVouches(t *testing.T) {
	w := newWorld(t, zone)
	w.web("203.0.113.2", files(map[string]string{"/mail/config-v1.1.xml": configXML("other.net")}), "autoconfig.example.org")
	if got := marks(w.find("me@example.org", offline)); got != "autoconfig imap.other.net insecure=false foreign=true" {
		t.Error(got)
	}
	if got := marks(w.find("me@verizon.net", offline)); got != "table imap.aol.com insecure=false foreign=false" {
		t.Error(got)
	}
	w.web("203.0.113.5", files(map[string]string{"/v1.1/other.org": configXML("other.net")}), "db.test-db.org")
	if got := marks(w.find("me@other.org")); got != "database imap.other.net insecure=false foreign=false" {
		t.Error(got)
	}
	f, err := New(Options{Now: w.clock, Own: func(context.Context, string) (*Own, error) {
		return &Own{Services: []Service{{Protocol: "imap", Host: "mx.martlet.test"}}}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if a, err := f.Find(context.Background(), "me@example.org"); err != nil || marks(a) != "own mx.martlet.test insecure=false foreign=false" {
		t.Error(a, err)
	}
}

// A host that only keeps mail while the domain's own is away says nothing.
func TestOnlyTheBestMailHostsCount(t *testing.T) {
	w := newWorld(t, "own.net. MX 50 aspmx.l.google.com.\nown.net. MX 10 mail.own.net.\nown.net. MX 10 mail2.own.net.\n"+
		"_imaps._tcp.own.net. SRV 0 1 993 mail.own.net.\n_submissions._tcp.own.net. SRV 0 1 465 mail.own.net.\n")
	w.want(w.find("me@own.net", offline), "imap mail.own.net:993 tls srv published\nsmtp mail.own.net:465 tls srv published")
	w = newWorld(t, "own.net. MX 50 mail.own.net.\nown.net. MX 10 mx.unknown.org.\nown.net. MX 10 aspmx.l.google.com.\n") // the control
	if got := marks(w.find("me@own.net", offline)); !strings.HasPrefix(got, "table-mx imap.gmail.com") {
		t.Error(got)
	}
}
