package main

import (
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/test/world/lab"
)

// The other way to a domain's records: what `martlet dns show --format zone` prints goes
// into the zone's file by hand. A real name server takes it, the program finds all of it
// there, and mail from the domain is trusted.
func TestZoneFile(t *testing.T) {
	w := town(t)
	const domain = "paper.example"
	_, err := w.Martlet.Do("domain", "add", domain)
	must(t, err)
	t.Cleanup(func() {
		if _, err := w.Martlet.Do("domain", "remove", domain); err != nil {
			t.Error(err)
		}
	})
	must(t, w.Martlet.Account("carol@"+domain))
	t.Cleanup(func() {
		if _, err := w.Martlet.Do("account", "remove", "carol@"+domain, "--yes"); err != nil {
			t.Error(err)
		}
	})
	text, err := w.Martlet.Do("dns", "show", domain, "--format", "zone")
	must(t, err)
	must(t, w.DNS.AddZones(lab.Zone{Name: domain, Text: text}))
	out, err := w.Martlet.Do("dns", "diff", domain, "--json")
	must(t, err)
	found, err := lab.Lines[struct{ Status, Name, Type, Value string }](out)
	must(t, err)
	for _, f := range found {
		if f.Status != "ok" {
			t.Errorf("%+v", f)
		}
	}
	if len(found) < 20 {
		t.Errorf("only %d records:\n%s", len(found), out)
	}
	from, to := "carol@"+domain, "bob@postfix.example"
	must(t, w.Martlet.Submit(w.Client, from, to, lab.Letter(from, to, "on-paper")))
	got, err := w.Postfix.Await("bob", "on-paper")
	must(t, err)
	said := sayings(got, w.Postfix.Name)
	contains(t, said, "spf=pass", "dmarc=pass", "header.d="+domain)
	if strings.Count(said, "dkim=pass") != 2 {
		t.Error(said)
	}
}
