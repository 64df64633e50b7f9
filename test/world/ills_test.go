package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/world/lab"
)

// sick is something broken, the check that has to find it, and words of what mends it.
type sick struct {
	name  string
	check string
	fix   []string
	harm  func() error
	heal  func() error // nil: the records of harm as they were
}

// ills breaks one thing after the other. Records are as they were before when it is
// healed.
func ills(w *lab.Town) []sick {
	const d, host = "martlet.example", "mx.martlet.example"
	records := func(name, qtype string, data ...string) (harm, heal func() error) {
		var was []string
		return func() (err error) {
				if was, err = w.DNS.Get(name, qtype); err == nil {
					err = w.DNS.Set(name, qtype, data...)
				}
				return err
			}, func() error {
				return w.DNS.Set(name, qtype, was...)
			}
	}
	record := func(what, check string, fix []string, name, qtype string, data ...string) sick {
		harm, heal := records(name, qtype, data...)
		return sick{what, check, fix, harm, heal}
	}
	key := signingKey(w)
	all := []sick{
		record("null MX", "mx", []string{"10 " + host}, d, "MX", "0 ."),
		record("MX names an alias", "mx-alias", []string{host}, d, "MX", "10 mail.martlet.example.", "20 mx.martlet.example."),
		record("another address", "hostname-address", []string{"198.20.10.10"}, host, "A", "198.20.20.10"),
		record("no IPv6 address", "hostname-address", []string{"3ffe:db8:a::10"}, host, "AAAA"),
		record("SPF that asks too much", "spf-lookups", []string{"ten are allowed"}, d, "TXT", `"v=spf1 mx a:mx.exim.example a:mx.postfix.example a:mx.sts.example a:mx.smtpd.example a:mx.evil.example a:client.example a:ns.example a:resolver.example a:mx.martlet.example mx:exim.example -all"`),
		record("SPF of HELO without this host", "helo-spf", []string{host, "v=spf1"}, host, "TXT", `"v=spf1 -all"`),
		record("another DKIM key", "dkim-signature", []string{key}, key, "TXT", `"v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYtIxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB"`),
		record("DMARC reports to somebody who has not agreed", "dmarc-reports-elsewhere", []string{"_report._dmarc.evil.example"}, "_dmarc."+d, "TXT", `"v=DMARC1; p=reject; rua=mailto:x@evil.example"`),
		record("a service elsewhere", "services", []string{"_imaps._tcp." + d}, "_imaps._tcp."+d, "SRV", "0 1 993 mx.evil.example."),
	}
	all = append(all, sick{"clock ahead", "clock", []string{"set-ntp"}, func() error { w.Clock.Wrong(-time.Hour); return nil }, func() error { w.Clock.Wrong(0); return nil }})
	return append(all, certificates(w)...)
}

// certificates are the ills of certificates. Healing gives the first one back.
func certificates(w *lab.Town) []sick {
	files := map[string]string{}
	for _, f := range []string{"cert.pem", "key.pem"} {
		text, _ := os.ReadFile(filepath.Join(w.Martlet.Dir, f))
		files[f] = string(text)
	}
	put := func(issued lab.Issued, err error) error {
		for _, f := range [][2]string{{issued.File, "cert.pem"}, {issued.Key, "key.pem"}} {
			text, bad := os.ReadFile(f[0])
			if err == nil {
				err = bad
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(w.Martlet.Dir, f[1]), text, 0o644)
			}
		}
		return err
	}
	back := func() (err error) {
		for f, text := range files {
			if bad := os.WriteFile(filepath.Join(w.Martlet.Dir, f), []byte(text), 0o644); bad != nil {
				err = bad
			}
		}
		return err
	}
	issue := func(life time.Duration, names ...string) func() error {
		return func() error {
			return put(w.CA.Issue(life, names...))
		}
	}
	return []sick{
		{"certificate of another name", "certificate-name", []string{"mx.martlet.example"}, issue(90*24*time.Hour, "other.martlet.example"), back},
		{"certificate that ends soon", "certificate-time", []string{"certificate"}, func() error {
			return put(w.CA.IssueOld(85*24*time.Hour, 5*24*time.Hour, "mx.martlet.example"))
		}, back},
		{"certificate that has ended", "certificate-time", []string{"certificate"}, issue(-time.Minute, "mx.martlet.example"), back},
	}
}

// signingKey is the name of the key that signs for the domain with RSA.
func signingKey(w *lab.Town) string {
	out, _ := w.Martlet.Do("domain", "keys", "martlet.example", "--json")
	keys, _ := lab.Lines[struct{ Name, State, Algorithm string }](out)
	for _, k := range keys {
		if k.State == "active" && k.Algorithm == "rsa-sha256" {
			return k.Name
		}
	}
	return ""
}

// What TestDoctorInTheWorld does not break: each is found by the check that it belongs to,
// which says what mends it.
func TestDoctorOfMoreIlls(t *testing.T) {
	w := town(t)
	c := newClinic(t)
	for _, s := range ills(w) {
		t.Run(s.name, func(t *testing.T) {
			must(t, s.harm())
			var all []line
			var found *line
			err := lab.Wait("the complaint of "+s.check, 20*time.Second, func() bool { // files are looked at once a second
				all = c.examine(t)
				found = broken(all, s.check)
				return found != nil
			})
			must(t, s.heal())
			if err != nil {
				t.Fatalf("%v; others:\n%s", err, strings.Join(unhealthy(all), "\n"))
			}
			t.Logf("%s: %s; fix: %s", found.Check, found.Why, found.Fix)
			for _, word := range s.fix {
				if !strings.Contains(found.Fix, word) {
					t.Errorf("%q is not in the fix of %+v", word, found)
				}
			}
			if lab.Wait("health", 20*time.Second, func() bool { all = c.examine(t); return broken(all, s.check) == nil }) != nil {
				t.Errorf("after it was mended:\n%s", strings.Join(unhealthy(all), "\n"))
			}
		})
	}
}
