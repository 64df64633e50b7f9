package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/world/lab"
)

// clockServer tells the time (NTP) to whoever asks; with an argument, so many seconds off.
const clockServer = `
import socket, struct, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 123))
while True:
    q, who = s.recvfrom(512)
    now = int(time.time()) + 2208988800
    s.sendto(struct.pack("!B39xII", 4 << 3 | 4, now, 0)[:1] + b"\2" + struct.pack("!38xII", now, 0), who)
`

// clinic is a world with one mail server in it and what its doctor asks.
type clinic struct {
	*lab.World
	*lab.Martlet
	zone string
}

const doctorConf = `[doctor]
probe = ["far.example"]
signed = ["far.example"]
blocklists = ["bl.example"]
domain_lists = ["dbl.example"]
ntp = ["clock.example"]
`

// newClinic builds it. The server is not root, as one should be.
func newClinic(t *testing.T) *clinic {
	t.Helper()
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("starts real programs; set MARTLET_PEERS=1")
	}
	if err := lab.Unable(); err != nil {
		t.Skip("no small internet here:", err)
	}
	w, err := lab.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(w.Logs(30))
		}
		w.Close()
	})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(w.DNS.AddZones(lab.Zone{Name: "martlet.example"}))
	far, err := w.Host("mx.far.example", lab.Place{Number: 20})
	must(err)
	must(w.DNS.AddAll("far.example. 300 IN MX 10 mx.far.example.\nfar.example. 300 IN A 198.18.20.10\nclock.example. 300 IN A 198.18.20.10\n2.0.0.127.bl.example. 300 IN A 127.0.0.2\n"))
	door, err := far.Listen("tcp", ":25")
	must(err)
	t.Cleanup(func() { door.Close() })
	go func() {
		for {
			c, err := door.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, "220 mx.far.example ESMTP\r\n")
			c.Close()
		}
	}()
	_, err = far.Serve(func() bool { return true }, "python3", "-c", clockServer)
	must(err)
	binary, err := lab.Build(w.Dir)
	must(err)
	m, err := w.Martlet(binary, "martlet.example", lab.Place{Number: 10}, doctorConf)
	must(err)
	_, err = m.Do("alias", "add", "abuse@martlet.example", "alice@martlet.example")
	must(err)
	// As a person would run it: as a user of its own, and with a quiet log.
	must(m.Stop())
	text, err := os.ReadFile(m.Config)
	must(err)
	text = []byte("user = \"boxes\"\n" + strings.Replace(string(text), "\"debug\"", "\"info\"", 1))
	must(os.WriteFile(m.Config, text, 0o644))
	if out, err := exec.Command("chown", "-R", "7009:7001", m.Dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	must(m.Start())
	return &clinic{w, m, "martlet.example"}
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
		return slices.EqualFunc(unhealthy(all), []string{"skipped acme: ", "skipped backup: "}, strings.HasPrefix)
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
		{"ptr", clear("10.10.18.198.in-addr.arpa", "PTR"), set("10.10.18.198.in-addr.arpa", "PTR", host+".")},
		{"hostname-address", clear(host, "A"), nil},
		{"helo-spf", clear(host, "TXT"), nil},
		{"autoconfig", clear(texts("autoconfig"), "CNAME"), nil},
		{"autodiscover", clear(texts("autodiscover"), "CNAME"), nil},
		{"services", clear(texts("_imaps._tcp"), "SRV"), nil},
		{"blocklists", set("10.10.18.198.bl.example", "A", "127.0.0.4"), clear("10.10.18.198.bl.example", "A")},
		{"name-lists", set(c.zone+".dbl.example", "A", "127.0.1.2"), clear(c.zone+".dbl.example", "A")},
		{"abuse", do("alias", "remove", "abuse@"+c.zone), do("alias", "add", "abuse@"+c.zone, "alice@"+c.zone)},
		{"mx", set(c.zone, "MX", "10 mx.far.example."), set(c.zone, "MX", "10 "+host+".")},
		{"spf", set(c.zone, "TXT", `"v=spf1 mx -all"`, `"v=spf1 ~all"`), set(c.zone, "TXT", `"v=spf1 mx -all"`)},
		{"dkim", set(keys[0], "TXT", `"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="`), nil},
		{"dmarc", set(texts("_dmarc"), "TXT", `"v=DMARC1; p=perhaps"`), nil},
		{"mta-sts", set(texts("_mta-sts"), "TXT", `"v=STSv1; id=old"`), nil},
		{"ptr", set("10.10.18.198.in-addr.arpa", "PTR", "host10.far.example."), set("10.10.18.198.in-addr.arpa", "PTR", host+".")},
		{"hostname-address", func() error { return c.DNS.Add(host + ". 300 IN A 198.18.99.99") }, func() error { return c.DNS.Remove(host + ". 300 IN A 198.18.99.99") }},
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
