package check_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/check"
	"github.com/martlet-mail/martlet/internal/check/arc"
	"github.com/martlet-mail/martlet/internal/check/dkim"
	"github.com/martlet-mail/martlet/internal/check/dmarc"
	"github.com/martlet-mail/martlet/internal/check/dnsbl"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/dnsx/dnstest"
	"github.com/martlet-mail/martlet/internal/mail"
)

// The world of these tests: bank.test wants forged mail refused, shop.test put into Junk,
// blog.test delivered, none.test says nothing. All send from 198.51.100.1. list.test sends
// on what it gets, from 198.51.100.2.
const world = `
bank.test.        TXT "v=spf1 ip4:198.51.100.1 -all"
_dmarc.bank.test. TXT "v=DMARC1; p=reject"
shop.test.        TXT "v=spf1 ip4:198.51.100.1 -all"
_dmarc.shop.test. TXT "v=DMARC1; p=quarantine"
blog.test.        TXT "v=spf1 ip4:198.51.100.1 -all"
_dmarc.blog.test. TXT "v=DMARC1; p=none"
try.test.         TXT "v=spf1 -all"
_dmarc.try.test.  TXT "v=DMARC1; p=reject; t=y"
none.test.        TXT "v=spf1 ip4:198.51.100.1 -all"
list.test.        TXT "v=spf1 ip4:198.51.100.2 -all"
evil.test.        TXT "v=spf1 +all"
! servfail down.test
! servfail _dmarc.away.test
_dmarc.down.test. TXT "v=DMARC1; p=reject"
1.100.51.198.in-addr.arpa. PTR mail.bank.test.
mail.bank.test.   A 198.51.100.1
9.100.51.198.in-addr.arpa. PTR liar.test.
liar.test.        A 198.51.100.10
9.100.51.198.bl.test. A 127.0.0.2
9.100.51.198.bl.test. TXT "see https://bl.test/"
8.100.51.198.bl.test. A 127.0.0.2
8.100.51.198.wl.test. A 127.0.4.2
7.100.51.198.bl.test. A 127.255.255.254
`

var now = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func resolver(t testing.TB, zone string) *dnsx.Client {
	t.Helper()
	s, err := dnstest.Start(zone)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	c, err := dnsx.New(dnsx.Options{
		Servers: []string{s.Addr()}, Rounds: 1, Timeout: time.Minute, Now: time.Now,
		ID: func() uint16 { return uint16(rand.Uint32()) }, Dial: (&net.Dialer{}).DialContext,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// keyOf is the same key for a domain in every run.
func keyOf(domain string) dkim.Key {
	seed := bytes.Repeat([]byte(domain), ed25519.SeedSize)[:ed25519.SeedSize]
	return dkim.Key{Domain: domain, Selector: "k", Signer: crypto.Signer(ed25519.NewKeyFromSeed(seed))}
}

func keyRecords(t testing.TB, domains ...string) (zone string) {
	for _, d := range domains {
		text, err := dkim.Record(keyOf(d).Signer)
		if err != nil {
			t.Fatal(err)
		}
		zone += fmt.Sprintf("k._domainkey.%s. TXT %q\n", d, text)
	}
	return zone
}

func cut(text string) (header, body string) {
	i := strings.Index(text, "\r\n\r\n") + 4
	return text[:i], text[i:]
}

// signed puts a signature of a domain in front.
func signed(t testing.TB, domain, text string) string {
	t.Helper()
	header, body := cut(text)
	f, err := dkim.Sign([]byte(header), strings.NewReader(body), []dkim.Key{keyOf(domain)}, dkim.SignOptions{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return string(f) + text
}

// sealed puts a set of a domain in front.
func sealed(t testing.TB, r dnsx.Resolver, domain, results, text string) string {
	t.Helper()
	header, body := cut(text)
	m := dkim.NewMessage([]byte(header), opener(body))
	f, err := arc.Seal([]byte(header), strings.NewReader(body), keyOf(domain), arc.SealOptions{
		Now: now, Chain: arc.Verify(t.Context(), m, dkim.NewKeys(r), now), Results: results,
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(f) + text
}

func opener(body string) func(context.Context) (io.ReadCloser, error) {
	return func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(body)), nil }
}

func message(from string) string {
	return "From: " + from + "\r\nTo: bob@here.test\r\nSubject: hello\r\nMessage-ID: <1@x.test>\r\n\r\nHello Bob\r\n"
}

func address(s string) mail.Address {
	if s == "" {
		return mail.Address{}
	}
	a, err := mail.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

func ask(t testing.TB, c *check.Checker, peer, helo, from, text string) *check.Verdict {
	t.Helper()
	header, body := cut(text)
	v := c.Check(t.Context(), check.Peer{Addr: netip.MustParseAddr(peer), Helo: helo}, mail.Envelope{From: address(from)},
		check.Message{Header: []byte(header), Body: opener(body)})
	if len(v.Faults) > 0 {
		t.Fatal(v.Faults)
	}
	return v
}

func options(r dnsx.Resolver) check.Options {
	return check.Options{Resolver: r, Hostname: "mx.here.test", Deadline: time.Minute, Now: func() time.Time { return now }, SPFFail: check.Mark}
}

var policies = []check.Policy{check.PolicyFollow, check.PolicyReject, check.PolicyJunk, check.PolicyMark, check.PolicyReport}

// show is what the policies make of a verdict, in their order.
func show(c *check.Checker, v *check.Verdict) string {
	var out []string
	for _, p := range policies {
		d := c.Decide(v, p)
		s := d.Disposition.String()
		if d.Disposition == check.Reject {
			s += " " + d.Enhanced
		}
		if d.Override != "" {
			s += "/" + d.Override
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

func TestDecisions(t *testing.T) {
	r := resolver(t, world+keyRecords(t, "bank.test", "evil.test", "list.test", "old.test"))
	c := check.New(func() check.Options { o := options(r); o.Trusted = []string{"list.test", "relay.test"}; return o }())
	bank := message("a@bank.test")
	change := func(text string) string {
		return strings.Replace(text, "Hello Bob", "Hello Bob\r\n-- \r\nsent by list.test", 1)
	}
	const asked = "reject 5.7.26, reject 5.7.26, junk/local_policy, mark/local_policy, none/local_policy"
	const (
		refuse    = "reject 5.7.1, reject 5.7.1, junk/local_policy, mark/local_policy, none/local_policy"
		fine      = "none, none, none, none, none"
		unclaimed = "mark, mark, mark, mark, none/local_policy"
		doubtful  = "junk/other, junk/other, junk/other, mark/other, none/other"
	)
	pass := "list.test; dmarc=pass header.from=bank.test"
	for _, one := range []struct {
		name       string
		peer, from string
		text       string
		dmarc      dmarc.Status
		want       string
	}{
		{"as it should be", "198.51.100.1", "a@bank.test", signed(t, "bank.test", bank), "pass", fine},
		{"by SPF alone", "198.51.100.1", "a@bank.test", bank, "pass", fine},
		{"by DKIM alone", "198.51.100.7", "", signed(t, "bank.test", bank), "pass", fine},
		{"forged", "198.51.100.7", "a@bank.test", bank, "fail", asked},
		{"forged with a name of its own", "198.51.100.7", "a@evil.test", signed(t, "evil.test", bank), "fail", refuse},
		{"forged, to be put apart", "198.51.100.7", "a@evil.test", message("a@shop.test"), "fail", "junk, reject 5.7.1, junk, mark/local_policy, none/local_policy"},
		{"forged, for the reports only", "198.51.100.7", "a@evil.test", message("a@blog.test"), "fail", "mark, mark, mark, mark, none/local_policy"},
		{"forged, tested only", "198.51.100.7", "a@evil.test", message("a@try.test"), "fail", "junk/policy_test_mode, reject 5.7.1/policy_test_mode, junk/policy_test_mode, mark/local_policy, none/local_policy"},
		{"no policy", "198.51.100.7", "a@evil.test", message("a@evil.test"), "none", fine},
		{"no policy, and SPF fails", "198.51.100.7", "a@none.test", message("a@none.test"), "none", "mark, mark, mark, mark, none"},
		{"nobody knows", "198.51.100.7", "a@down.test", message("a@down.test"), "temperror", doubtful},
		{"nobody knows of a stranger", "198.51.100.7", "a@down.test", bank, "fail", asked},

		// What lists and forwarders do.
		{"a list, known to nobody", "198.51.100.7", "b@evil.test", "List-Id: <x.evil.test>\r\n" + bank, "fail",
			"junk/mailing_list, reject 5.7.1, junk/mailing_list, mark/mailing_list, none/mailing_list"},
		{"a broken signature", "198.51.100.7", "b@evil.test", change(signed(t, "bank.test", bank)), "fail",
			"junk/mailing_list, reject 5.7.1, junk/mailing_list, mark/mailing_list, none/mailing_list"},
		{"a broken signature of somebody else", "198.51.100.7", "b@evil.test", change(signed(t, "evil.test", bank)), "fail", refuse},
		{"SRS", "198.51.100.7", "SRS0=x=y=bank.test=a@evil.test", bank, "fail",
			"junk/mailing_list, reject 5.7.1, junk/mailing_list, mark/mailing_list, none/mailing_list"},
		{"a list that is trusted", "198.51.100.7", "b@evil.test", signed(t, "list.test", change(bank)), "fail",
			"mark/trusted_forwarder, mark/trusted_forwarder, mark/trusted_forwarder, mark/trusted_forwarder, none/trusted_forwarder"},
		{"a list that is trusted, by SPF", "198.51.100.2", "b@list.test", change(bank), "fail",
			"mark/trusted_forwarder, mark/trusted_forwarder, mark/trusted_forwarder, mark/trusted_forwarder, none/trusted_forwarder"},
		{"a sealer that is trusted", "198.51.100.7", "b@evil.test", sealed(t, r, "list.test", pass, change(bank)), "fail",
			"none/local_policy, none/local_policy, none/local_policy, none/local_policy, none/local_policy"},
		{"another sealer", "198.51.100.7", "b@evil.test", sealed(t, r, "old.test", pass, bank), "fail",
			"junk/mailing_list, reject 5.7.1, junk/mailing_list, mark/mailing_list, none/mailing_list"},
		{"trusted behind another", "198.51.100.7", "b@evil.test", sealed(t, r, "list.test", "list.test; dmarc=fail header.from=bank.test", sealed(t, r, "old.test", pass, bank)), "fail",
			"junk/mailing_list, reject 5.7.1, junk/mailing_list, mark/mailing_list, none/mailing_list"},
		{"another behind trusted", "198.51.100.7", "b@evil.test", sealed(t, r, "old.test", pass, sealed(t, r, "list.test", pass, bank)), "fail",
			"junk/mailing_list, reject 5.7.1, junk/mailing_list, mark/mailing_list, none/mailing_list"},
		{"trusted behind trusted", "198.51.100.7", "b@evil.test", sealed(t, r, "list.test", "list.test; dmarc=fail header.from=bank.test", sealed(t, r, "list.test", pass, bank)), "fail",
			"none/local_policy, none/local_policy, none/local_policy, none/local_policy, none/local_policy"},
		{"sealed, then changed", "198.51.100.7", "b@evil.test", change(sealed(t, r, "list.test", pass, bank)), "fail",
			"junk/mailing_list, reject 5.7.1, junk/mailing_list, mark/mailing_list, none/mailing_list"},
		{"sealed for another author", "198.51.100.7", "b@evil.test", sealed(t, r, "list.test", "list.test; dmarc=pass header.from=evil.test", bank), "fail",
			"junk/mailing_list, reject 5.7.1, junk/mailing_list, mark/mailing_list, none/mailing_list"},

		// Authors that nobody can check.
		{"two authors", "198.51.100.1", "a@bank.test", message("a@evil.test, a@bank.test"), "fail", refuse},
		{"two fields", "198.51.100.7", "a@evil.test", "From: a@evil.test\r\n" + bank, "fail", refuse},
		{"two fields, trusted list", "198.51.100.2", "b@list.test", "List-Id: x\r\nFrom: a@evil.test\r\n" + bank, "fail", refuse},
		{"no author", "198.51.100.1", "a@bank.test", "Subject: x\r\n\r\nx\r\n", "fail", unclaimed},
		{"two authors without a policy", "198.51.100.7", "a@evil.test", message("a@evil.test, b@none.test"), "fail", unclaimed},
		{"an author of this host", "198.51.100.7", "a@evil.test", message("root (Cron Daemon)"), "fail", unclaimed},
		{"authors without a policy, before one who has", "198.51.100.7", "a@evil.test", message("a@a.test, b@b.test, c@c.test, d@d.test, a@bank.test"), "fail", "junk, reject 5.7.1, junk, mark/local_policy, none/local_policy"},
		{"of which one is not known", "198.51.100.7", "a@evil.test", message("a@evil.test, b@away.test"), "fail", "junk, reject 5.7.1, junk, mark/local_policy, none/local_policy"},
		{"a damaged header", "198.51.100.7", "a@evil.test", "no field\r\n" + signed(t, "bank.test", bank), "fail", "junk/mailing_list, reject 5.7.1, junk/mailing_list, mark/mailing_list, none/mailing_list"},
	} {
		t.Run(one.name, func(t *testing.T) {
			v := ask(t, c, one.peer, "client.test", one.from, one.text)
			if v.DMARC.Status != one.dmarc {
				t.Errorf("dmarc=%s, want %s: %s", v.DMARC.Status, one.dmarc, v)
			}
			if got := show(c, v); got != one.want {
				t.Errorf("\n got %s\nwant %s\n%s\nrelayed %q, trusted %+v", got, one.want, v, v.Relayed, v.Trusted)
			}
			for _, p := range policies {
				if d := c.Decide(v, p); d.Disposition == check.Reject && (d.Code != 550 || d.Text == "") || d.Disposition > check.None && d.Text == "" {
					t.Errorf("%s: %+v", p, d)
				}
			}
		})
	}
}

// A signature that cannot be read is not said to be none.
func TestUnreadableSignature(t *testing.T) {
	c := check.New(options(resolver(t, world+keyRecords(t, "bank.test"))))
	v := ask(t, c, "198.51.100.7", "client.test", "a@evil.test", "no field\r\n"+signed(t, "bank.test", message("a@bank.test")))
	if !strings.Contains(v.DMARC.Reason, "no DKIM signature is valid") {
		t.Error(v.DMARC.Reason)
	}
}

// What lists say moves a message; what they do not say, or refuse to say, does not.
func TestHostLists(t *testing.T) {
	r := resolver(t, world)
	bl, wl := dnsbl.Zone{Name: "bl.test", Action: dnsbl.Reject}, dnsbl.Zone{Name: "wl.test", Action: dnsbl.Accept}
	heavy := dnsbl.Zone{Name: "bl.test", Action: dnsbl.Mark, Weight: 5}
	for _, one := range []struct {
		peer         string
		zones        []dnsbl.Zone
		junk, reject int
		want         string
	}{
		{"198.51.100.9", nil, 0, 0, "none"},
		{"198.51.100.9", []dnsbl.Zone{bl}, 0, 0, "reject 198.51.100.9 is listed in bl.test: see https://bl.test/"},
		{"198.51.100.8", []dnsbl.Zone{bl, wl}, 0, 0, "none"},
		{"198.51.100.7", []dnsbl.Zone{bl}, 0, 0, "none"},
		{"198.51.100.6", []dnsbl.Zone{bl}, 0, 0, "none"},
		{"198.51.100.9", []dnsbl.Zone{{Name: "bl.test", Action: dnsbl.Junk}}, 0, 0, "junk 198.51.100.9 is listed in bl.test: see https://bl.test/"},
		{"198.51.100.9", []dnsbl.Zone{heavy}, 0, 0, "mark 198.51.100.9 is listed in bl.test: see https://bl.test/"},
		{"198.51.100.9", []dnsbl.Zone{heavy}, 5, 6, "junk what is known of the host 198.51.100.9 has a score of 5"},
		{"198.51.100.9", []dnsbl.Zone{heavy, heavy}, 5, 10, "reject what is known of the host 198.51.100.9 has a score of 10"},
		{"198.51.100.8", []dnsbl.Zone{heavy, {Name: "wl.test", Action: dnsbl.Mark, Weight: -3}}, 5, 10, "mark 198.51.100.8 is listed in bl.test"},
	} {
		o := options(r)
		o.Zones, o.JunkScore, o.RejectScore = one.zones, one.junk, one.reject
		c := check.New(o)
		v := ask(t, c, one.peer, "x.test", "a@evil.test", message("a@evil.test"))
		for _, p := range policies { // a list is no forged mail: the policy for that does not matter
			d := c.Decide(v, p)
			if got := strings.TrimSpace(d.Disposition.String() + " " + d.Text); got != one.want {
				t.Errorf("%s, %s: %q, want %q", one.peer, p, got, one.want)
			}
		}
	}
}

// The field says what was found, in words that are registered.
func TestField(t *testing.T) {
	r := resolver(t, world+keyRecords(t, "bank.test", "list.test"))
	o := options(r)
	o.Zones = []dnsbl.Zone{{Name: "bl.test", Action: dnsbl.Mark}, {Name: "wl.test", Action: dnsbl.Accept}}
	c := check.New(o)
	for _, one := range []struct {
		peer, helo, from, text, want string
	}{
		{"198.51.100.1", "mail.bank.test", "a@bank.test", signed(t, "bank.test", message("a@bank.test")),
			`spf=pass (ip4:198.51.100.1) smtp.mailfrom=bank.test; dkim=pass header.d=bank.test header.s=k header.a=ed25519-sha256 header.b=*; dmarc=pass (p=reject) header.from=bank.test policy.dmarc=reject; iprev=pass (mail.bank.test) policy.iprev=198.51.100.1`},
		{"198.51.100.9", "evil.test", "a@bank.test", message("a@bank.test"),
			`spf=fail (-all) smtp.mailfrom=bank.test; spf=pass (+all) smtp.helo=evil.test; dkim=none; dmarc=fail (p=reject) reason="SPF does not pass for bank.test and there is no DKIM signature" header.from=bank.test policy.dmarc=reject; iprev=fail (liar.test) policy.iprev=198.51.100.9; x-dnsbl=fail reason="see https://bl.test/" dns.zone=bl.test policy.ip=127.0.0.2`},
		{"2001:db8::1", "x", "", message("a@none.test"),
			`spf=none reason="there is no domain to check"; dkim=none; dmarc=none reason="none.test has no DMARC policy" header.from=none.test; iprev=permerror policy.iprev="2001:db8::1"`},
		{"198.51.100.8", "x.test", "a@evil.test", sealed(t, r, "list.test", "list.test; dmarc=pass header.from=none.test", message("a@none.test")),
			`spf=pass (+all) smtp.mailfrom=evil.test; dkim=none; dmarc=none reason="none.test has no DMARC policy" header.from=none.test; arc=pass (i=1 list.test) header.oldest-pass=0 smtp.remote-ip=198.51.100.8; iprev=permerror policy.iprev=198.51.100.8; x-dnsbl=fail dns.zone=bl.test policy.ip=127.0.0.2; dnswl=pass dns.zone=wl.test policy.ip=127.0.4.2`},
	} {
		v := ask(t, c, one.peer, one.helo, one.from, one.text)
		before, after, _ := strings.Cut(one.want, "*")
		if got := v.String(); !strings.HasPrefix(got, before) || !strings.HasSuffix(got, after) {
			t.Errorf("\n got %s\nwant %s", got, one.want)
		}
		field := string(v.Field("mx.here.test"))
		if !strings.HasPrefix(field, "Authentication-Results: mx.here.test;\r\n\tspf=") || !strings.HasSuffix(field, "\r\n") {
			t.Errorf("%q", field)
		}
	}
}

func TestNames(t *testing.T) {
	o := options(resolver(t, world+"! servfail broken.test\n"))
	c := check.New(o)
	o.ReverseWeight, o.HeloWeight, o.JunkScore, o.RejectScore = 3, 2, 2, 5
	weighing := check.New(o)
	for _, one := range []struct{ peer, helo, want string }{
		{"198.51.100.1", "mail.bank.test", "pass pass mail.bank.test"},
		{"::ffff:198.51.100.1", "MAIL.bank.test.", "pass pass mail.bank.test"},
		{"198.51.100.9", "mail.bank.test", "fail fail liar.test"},
		{"198.51.100.1", "[198.51.100.1]", "pass pass mail.bank.test"},
		{"198.51.100.1", "[198.51.100.2]", "fail pass mail.bank.test"},
		{"2001:db8::1", "[IPv6:2001:db8:0::1]", "pass permerror "},
		{"198.51.100.1", "[nonsense", "fail pass mail.bank.test"},
		{"198.51.100.1", "localhost", "fail pass mail.bank.test"},
		{"198.51.100.1", "a b\x00", "fail pass mail.bank.test"},
		{"198.51.100.1", "", "fail pass mail.bank.test"},
		{"198.51.100.1", "broken.test", "temperror pass mail.bank.test"},
		{"198.51.100.77", "nowhere.test", "fail permerror "},
	} {
		v := ask(t, c, one.peer, one.helo, "a@evil.test", message("a@evil.test"))
		if got := v.Name.Status + " " + v.Reverse.Status + " " + v.Reverse.Name; got != one.want || v.Name.Status == "pass" != (v.Name.Reason == "") {
			t.Errorf("%s %q: %q, want %q (%s)", one.peer, one.helo, got, one.want, v.Name.Reason)
		}
		if d := c.Decide(v, check.PolicyReject); d.Disposition != check.None {
			t.Errorf("%s %q leads to %+v", one.peer, one.helo, d)
		}
		want := check.None
		switch bad := strings.Count(v.Name.Status, "fail") + strings.Count(strings.ReplaceAll(v.Reverse.Status, "permerror", "fail"), "fail"); bad {
		case 1:
			want = check.Junk
		case 2:
			want = check.Reject
		}
		if d := weighing.Decide(v, check.PolicyFollow); d.Disposition != want {
			t.Errorf("%s %q weighs to %+v, want %s", one.peer, one.helo, d, want)
		}
	}
}

// A resolver that is silent costs the deadline, and no message.
func TestSilentResolver(t *testing.T) {
	o := options(deaf{})
	o.Deadline = 50 * time.Millisecond
	o.Zones = []dnsbl.Zone{{Name: "bl.test", Action: dnsbl.Reject}}
	o.SPFFail = check.Reject
	c := check.New(o)
	v := ask(t, c, "198.51.100.7", "client.test", "a@bank.test", signed(t, "bank.test", message("a@bank.test")))
	if got := fmt.Sprintln(v.SPF.Status, v.DKIM[0].Status, v.DMARC.Status, v.Reverse.Status, v.Name.Status); got != "temperror temperror temperror temperror temperror\n" {
		t.Error(got)
	}
	for _, p := range policies {
		if d := c.Decide(v, p); d.Disposition > check.Mark {
			t.Errorf("%s: %+v", p, d)
		}
	}
}

// deaf answers when the caller gives up.
type deaf struct{ dnsx.Resolver }

func (deaf) wait(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

func (d deaf) LookupTXT(ctx context.Context, _ string) ([]string, dnsx.Info, error) {
	return nil, dnsx.Info{}, d.wait(ctx)
}

func (d deaf) LookupIP(ctx context.Context, _ string, _ bool) ([]netip.Addr, dnsx.Info, error) {
	return nil, dnsx.Info{}, d.wait(ctx)
}

func (d deaf) LookupPTR(ctx context.Context, _ netip.Addr) ([]string, dnsx.Info, error) {
	return nil, dnsx.Info{}, d.wait(ctx)
}

// A check that panics found nothing; the others did.
func TestPanic(t *testing.T) {
	c := check.New(options(broken{resolver(t, world)}))
	text := message("a@bank.test")
	header, body := cut(text)
	v := c.Check(t.Context(), check.Peer{Addr: netip.MustParseAddr("198.51.100.1"), Helo: "x.test"}, mail.Envelope{From: address("a@bank.test")},
		check.Message{Header: []byte(header), Body: opener(body)})
	if v.SPF.Status != "pass" || v.Reverse.Status != "temperror" || v.DMARC.Status != "pass" || len(v.Faults) != 1 || !strings.HasPrefix(v.Faults[0], "panic in iprev: oh") {
		t.Errorf("%s, %q", v, v.Faults)
	}
}

type broken struct{ dnsx.Resolver }

func (broken) LookupPTR(context.Context, netip.Addr) ([]string, dnsx.Info, error) { panic("oh") }

// BenchmarkCheck is a message with one signature, all answers in the resolver's memory.
func BenchmarkCheck(b *testing.B) {
	r := resolver(b, ". SOA ns.test. h.test. 1 3600 3600 3600 3600\n"+world+keyRecords(b, "bank.test"))
	c := check.New(options(r))
	header, body := cut(signed(b, "bank.test", message("a@bank.test")))
	for b.Loop() {
		v := c.Check(b.Context(), check.Peer{Addr: netip.MustParseAddr("198.51.100.1"), Helo: "mail.bank.test"}, mail.Envelope{From: address("a@bank.test")},
			check.Message{Header: []byte(header), Body: opener(body)})
		if v.DMARC.Status != dmarc.Pass {
			b.Fatal(v)
		}
	}
}
