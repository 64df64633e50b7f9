package check_test

import (
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/check"
	"github.com/martlet-mail/martlet/internal/check/dnsbl"
)

// What would speak for a message, and cannot be found out now, keeps it from being refused
// for good.
func TestForwarderInDoubt(t *testing.T) {
	good := resolver(t, world+keyRecords(t, "bank.test", "list.test"))
	away := resolver(t, strings.Replace(world, "list.test.        TXT", "other.test. TXT", 1)+"! servfail k._domainkey.list.test\n! servfail list.test\n")
	gone := resolver(t, strings.Replace(world, "list.test.        TXT", "other.test. TXT", 1)) // the control: no key, no record
	bank := message("a@bank.test")
	const says = "list.test; dmarc=pass header.from=bank.test"
	for name, one := range map[string]struct{ from, text string }{
		"dkim": {"b@evil.test", signed(t, "list.test", bank)},
		"spf":  {"b@list.test", bank},
		"arc":  {"b@evil.test", sealed(t, good, "list.test", says, bank)},
	} {
		for _, p := range []check.Policy{check.PolicyFollow, check.PolicyReject} {
			o := options(away)
			o.Trusted = []string{"list.test"}
			c := check.New(o)
			if d := c.Decide(ask(t, c, "198.51.100.2", "list.test", one.from, one.text), p); d.Disposition != check.Junk || d.Override != "other" {
				t.Errorf("%s, %s: %s %s (%s)", name, p, d.Disposition, d.Text, d.Override)
			}
			o.Resolver = gone
			c = check.New(o)
			if d := c.Decide(ask(t, c, "198.51.100.2", "list.test", one.from, one.text), p); d.Disposition != check.Reject && p == check.PolicyReject {
				t.Errorf("%s, %s: without anything to be in doubt of: %s", name, p, d.Disposition)
			}
		}
	}
}

// While a list of good hosts does not answer no block list refuses.
func TestGoodListAway(t *testing.T) {
	with := func(zone string, zones ...dnsbl.Zone) check.Disposition {
		o := options(resolver(t, zone))
		o.Zones, o.RejectScore, o.ReverseWeight = zones, 10, 10
		c := check.New(o)
		v := ask(t, c, "198.51.100.9", "x.test", "a@none.test", message("a@none.test"))
		return c.Decide(v, check.PolicyFollow).Disposition
	}
	bad := dnsbl.Zone{Name: "bl.test", Action: dnsbl.Reject}
	away := world + "! servfail 9.100.51.198.wl.test\n"
	refuses := world + "9.100.51.198.wl.test. A 127.255.255.254\n"
	for name, one := range map[string]struct {
		zone string
		list dnsbl.Zone
		want check.Disposition
	}{
		"it has nothing":                  {world, dnsbl.Zone{Name: "wl.test", Action: dnsbl.Accept}, check.Reject},
		"away":                            {away, dnsbl.Zone{Name: "wl.test", Action: dnsbl.Accept}, check.Junk},
		"does not answer this resolver":   {refuses, dnsbl.Zone{Name: "wl.test", Action: dnsbl.Accept}, check.Junk},
		"a weight that would have helped": {away, dnsbl.Zone{Name: "wl.test", Action: dnsbl.Mark, Weight: -5}, check.Junk},
		"a bad list that is away":         {away, dnsbl.Zone{Name: "wl.test", Action: dnsbl.Junk}, check.Reject},
	} {
		if got := with(one.zone, bad, one.list); got != one.want {
			t.Errorf("%s: %s, want %s", name, got, one.want)
		}
	}
}
