package check_test

import (
	"context"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/check"
	"github.com/martlet-mail/martlet/internal/check/dnsbl"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/mail"
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

// A forger's own name service that does not answer must not use up the time in which the policy
// of his victim is found.
func TestSlowForger(t *testing.T) {
	o := options(resolver(t, `
_dmarc.bank.test. 0 IN TXT "v=DMARC1; p=reject"
shop.test. 3600 IN SOA ns.shop.test. h.shop.test. 1 3600 3600 3600 3600
_dmarc.shop.test. 3600 IN TXT "v=DMARC1; p=none; np=reject"
_dmarc.many.test. 3600 IN TXT "v=DMARC1; p=reject"
test. 3600 IN SOA ns.test. h.test. 1 3600 3600 3600 3600
! silent evil.test
`))
	o.Deadline = time.Second
	c := check.New(o)
	for _, from := range []string{"a@bank.test", "a@nothere.shop.test", "a@many.test", "x@kind.test, a@many.test"} {
		t.Run(from, func(t *testing.T) {
			t.Parallel()
			v := ask(t, c, "198.51.100.7", "x.test", "a@evil.test", message(from))
			if d := c.Decide(v, check.PolicyFollow); v.SPF.Status != "temperror" || d.Disposition != check.Reject {
				t.Errorf("spf=%s dmarc=%s: %s: %s", v.SPF.Status, v.DMARC.Status, d.Disposition, d.Text)
			}
		})
	}
}

// A signature of a name below the victim's domain that does not answer, as there is one below
// many, or of a broken zone of its own, opens no way into INBOX, and none is refused for it.
func TestLameName(t *testing.T) {
	c := check.New(options(resolver(t, world+"! servfail k._domainkey.lame.bank.test\n! servfail _dmarc.lame.bank.test\n! servfail k._domainkey.lame.shop.test\n! servfail k._domainkey.lame.blog.test\n")))
	for from, want := range map[string]string{
		"bank": "junk/other, junk/other, junk/other, mark/other, none/other",
		"shop": "junk, junk, junk, mark/local_policy, none/local_policy",
		"blog": "mark, mark, mark, mark, none/local_policy",
	} {
		v := ask(t, c, "198.51.100.7", "x.test", "a@evil.test", signed(t, "lame."+from+".test", message("a@"+from+".test")))
		if got := show(c, v); got != want || v.DMARC.Status != "temperror" {
			t.Errorf("%s: %s, dmarc=%s", from, got, v.DMARC.Status)
		}
	}
}

// panics is a resolver with a mistake at one name.
type panics struct {
	dnsx.Resolver
	at string
}

func (p panics) LookupTXT(ctx context.Context, name string) ([]string, dnsx.Info, error) {
	if name == p.at {
		panic("a mistake")
	}
	return p.Resolver.LookupTXT(ctx, name)
}

// A mistake of ours refuses nothing, whichever check it is in, and nobody is told that DMARC failed.
func TestFaultRefusesNothing(t *testing.T) {
	r := resolver(t, world+keyRecords(t, "bank.test"))
	header, body := cut(signed(t, "bank.test", message("a@bank.test")))
	for name, at := range map[string]struct {
		txt  string
		body func(context.Context) (io.ReadCloser, error)
	}{
		"SPF":   {"evil.test", opener(body + "changed")},
		"DKIM":  {"", nil},
		"DMARC": {"_dmarc.bank.test", opener(body + "changed")},
		"none":  {"", opener(body + "changed")}, // the control
	} {
		c := check.New(options(panics{r, at.txt}))
		v := c.Check(t.Context(), check.Peer{Addr: netip.MustParseAddr("198.51.100.9"), Helo: "x.test"}, mail.Envelope{From: address("a@evil.test")},
			check.Message{Header: []byte(header), Body: at.body})
		d := c.Decide(v, check.PolicyReject)
		if fine := name == "none"; (d.Disposition == check.Reject) != fine || (v.DMARC.Status == "fail") != fine || (len(v.Faults) == 0) != fine {
			t.Errorf("%s: %d faults; %s %s (spf=%s dkim=%v dmarc=%s)", name, len(v.Faults), d.Disposition, d.Text, v.SPF.Status, v.DKIM, v.DMARC.Status)
		}
	}
}
