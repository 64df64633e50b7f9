package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/world/lab"
)

// clinic is the mail server that is looked at, and the records of its world.
type clinic struct {
	*lab.World
	*lab.Martlet
	zone string
}

func newClinic(t *testing.T) *clinic {
	w := town(t)
	return &clinic{w.World, w.Martlet, w.Martlet.Domain}
}

// line is what one check says.
type line struct{ Check, Status, Why, Fix string }

// examine runs the doctor.
func (c *clinic) examine(t *testing.T) (all []line) {
	t.Helper()
	out, err := c.Do("doctor", "--json") // fails where a check does
	all, perr := lab.Lines[line](out)
	if perr != nil || len(all) < 60 {
		t.Fatalf("%d lines, %v: %v", len(all), perr, err)
	}
	if failed := slices.ContainsFunc(all, func(l line) bool { return l.Status == "fail" }); failed != (err != nil) {
		t.Errorf("the exit code does not say what the lines do: %v", err)
	}
	return all
}

// unhealthy are the checks that are neither ok nor do not apply.
func unhealthy(all []line) (names []string) {
	for _, l := range all {
		if l.Status != "ok" {
			names = append(names, l.Status+" "+l.Check+": "+l.Why)
		}
	}
	return names
}

// On real DNS with DNSSEC a server whose records were made by its own command is all green;
// and of more than twenty things that are broken on purpose, one after the other, each is
// named with what mends it: done to the letter, all is green again.
func TestDoctorInTheWorld(t *testing.T) {
	c := newClinic(t)
	// The resolver may know for a second what was there before.
	soon := func(holds func(all []line) bool) []line {
		t.Helper()
		for began := time.Now(); ; time.Sleep(200 * time.Millisecond) {
			if all := c.examine(t); holds(all) || time.Since(began) > 10*time.Second {
				return all
			}
		}
	}
	isGreen := func(all []line) bool {
		return slices.EqualFunc(unhealthy(all), []string{"skipped acme: ", "skipped backup: ", "skipped links: "}, strings.HasPrefix)
	}
	green := func(after string) {
		t.Helper()
		if all := soon(isGreen); !isGreen(all) {
			t.Fatalf("%s:\n%s", after, strings.Join(unhealthy(all), "\n"))
		}
	}
	green("as it was made")
	host := "mx." + c.zone
	texts := func(name string) string { return name + "." + c.zone }
	clear := func(name, kind string) func() error { return func() error { return c.DNS.Clear(name, kind) } }
	set := func(name, kind string, data ...string) func() error {
		return func() error { return c.DNS.Set(name, kind, data...) }
	}
	do := func(args ...string) func() error {
		return func() error { _, err := c.Do(args...); return err }
	}
	keys := c.keys(t)
	before := "" // which is mended, and found to be so with the next: no two in a row are alike
	for _, harm := range []struct {
		check string
		do    func() error
		heal  func() error // nil: what the fix says is done to the letter
	}{
		{"mx", clear(c.zone, "MX"), nil},
		{"mx-address", set(c.zone, "MX", "10 "+host+".", "20 gone."+c.zone+"."), set(c.zone, "MX", "10 "+host+".")},
		{"spf", clear(c.zone, "TXT"), nil},
		{"spf-addresses", set(c.zone, "TXT", `"v=spf1 ip4:192.0.2.1 -all"`), set(c.zone, "TXT", `"v=spf1 mx -all"`)},
		{"spf-all", set(c.zone, "TXT", `"v=spf1 mx +all"`), set(c.zone, "TXT", `"v=spf1 mx -all"`)},
		{"dkim", clear(keys[1], "TXT"), nil},
		{"dkim-next", c.loseNextKey, nil},
		{"dmarc", clear(texts("_dmarc"), "TXT"), nil},
		{"dmarc-policy", do("domain", "set", c.zone, "dmarc=quarantine"), do("domain", "set", c.zone, "dmarc=reject")},
		{"mta-sts", clear(texts("_mta-sts"), "TXT"), nil},
		{"mta-sts-policy", clear(texts("mta-sts"), "CNAME"), nil},
		{"tls-reports", clear(texts("_smtp._tls"), "TXT"), nil},
		{"tlsa", set("_25._tcp."+host, "TLSA", "3 1 1 "+strings.Repeat("ab", 32)), nil},
		{"ptr", clear("10.10.20.198.in-addr.arpa", "PTR"), set("10.10.20.198.in-addr.arpa", "PTR", host+".")},
		{"hostname-address", clear(host, "A"), nil},
		{"helo-spf", clear(host, "TXT"), nil},
		{"autoconfig", clear(texts("autoconfig"), "CNAME"), nil},
		{"autodiscover", clear(texts("autodiscover"), "CNAME"), nil},
		{"services", clear(texts("_imaps._tcp"), "SRV"), nil},
		{"agents", set(texts("_ua-auto-config"), "TXT", `"v=UAAC1; a=sha256; d=AAAA"`), nil},
		{"blocklists", set("10.10.20.198.bl.example", "A", "127.0.0.4"), clear("10.10.20.198.bl.example", "A")},
		{"name-lists", set(c.zone+".dbl.example", "A", "127.0.1.2"), clear(c.zone+".dbl.example", "A")},
		{"abuse", do("alias", "remove", "abuse@"+c.zone), do("alias", "add", "abuse@"+c.zone, "alice@"+c.zone)},
		{"mx", set(c.zone, "MX", "10 mx.exim.example."), set(c.zone, "MX", "10 "+host+".")},
		{"spf", set(c.zone, "TXT", `"v=spf1 mx -all"`, `"v=spf1 ~all"`), set(c.zone, "TXT", `"v=spf1 mx -all"`)},
		{"dkim", set(keys[0], "TXT", `"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="`), nil},
		{"dmarc", set(texts("_dmarc"), "TXT", `"v=DMARC1; p=perhaps"`), nil},
		{"mta-sts", set(texts("_mta-sts"), "TXT", `"v=STSv1; id=old"`), nil},
		{"ptr", set("10.10.20.198.in-addr.arpa", "PTR", "host10.exim.example."), set("10.10.20.198.in-addr.arpa", "PTR", host+".")},
		{"hostname-address", func() error { return c.DNS.Add(host + ". 300 IN A 198.20.99.99") }, func() error { return c.DNS.Remove(host + ". 300 IN A 198.20.99.99") }},
		{"dkim", do("domain", "set", c.zone, "sign=no"), do("domain", "set", c.zone, "sign=yes")},
		{"admin-socket", c.Stop, c.Start},
	} {
		if err := harm.do(); err != nil {
			t.Fatal(harm.check, err)
		}
		all := soon(func(all []line) bool { return broken(all, harm.check) != nil && broken(all, before) == nil })
		l := broken(all, harm.check)
		if l == nil || broken(all, before) != nil {
			t.Fatalf("%s is not found to be broken, or %s is not mended:\n%s", harm.check, before, strings.Join(unhealthy(all), "\n"))
		}
		heal := harm.heal
		if heal == nil {
			heal = func() error { return c.follow(l.Fix) }
		}
		if err := heal(); err != nil {
			t.Fatalf("%s: what mends it cannot be done: %q: %v", harm.check, l.Fix, err)
		}
		before = harm.check
	}
	green("after all is mended")
}

// broken returns what a check says if it is neither ok nor skipped.
func broken(all []line, check string) *line {
	for _, l := range all {
		name, _, _ := strings.Cut(l.Check, " ")
		if name == check && (l.Status == "fail" || l.Status == "warn") && l.Fix != "" {
			return &l
		}
	}
	return nil
}

// keys are the names of the signing keys, that of ed25519 first.
func (c *clinic) keys(t *testing.T) []string {
	t.Helper()
	out, err := c.Do("domain", "keys", c.zone, "--json")
	keys, perr := lab.Lines[struct{ Name string }](out)
	if err != nil || perr != nil || len(keys) != 2 {
		t.Fatal(out, err, perr)
	}
	return []string{keys[0].Name, keys[1].Name}
}

// loseNextKey has the next keys made and published, and one of them lost.
func (c *clinic) loseNextKey() error {
	out, err := c.Do("domain", "rotate", c.zone, "--json")
	if err != nil {
		return err
	}
	told, err := lab.Lines[struct{ Keys []struct{ Name string } }](out)
	if err != nil || len(told) != 1 || len(told[0].Keys) != 2 {
		return fmt.Errorf("%s: %w", out, err)
	}
	return c.DNS.Clear(told[0].Keys[1].Name, "TXT")
}

// follow does what a fix says about a record.
func (c *clinic) follow(fix string) error {
	words, record, found := strings.Cut(fix, "put into the DNS: ")
	if !found {
		return fmt.Errorf("it names no record")
	}
	record, _, _ = strings.Cut(record, "; or")
	record, _, _ = strings.Cut(record, " (")
	f := strings.Fields(record) // NAME IN TYPE DATA...
	if strings.HasPrefix(words, "replace") || f[2] == "TLSA" {
		if err := c.DNS.Clear(f[0], f[2]); err != nil {
			return err
		}
	}
	return c.DNS.Add(record)
}
