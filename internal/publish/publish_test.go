package publish

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/csv"
	"flag"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/dnsx/dnstest"
)

var update = flag.Bool("update", false, "rewrite the expected outputs in testdata")

func site() Site {
	return Site{
		Hostname: "mx.example.org", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.25"), netip.MustParseAddr("2001:db8::25")},
		Services: map[string]uint16{"imaps": 993, "submissions": 465, "submission": 587}, Web: 443,
		TLSKeys: [][32]byte{{1, 2, 3}}, KeepsKey: true, Issuer: "letsencrypt.org",
		Agents: func(domain string) ([]byte, error) { return []byte("settings of " + domain), nil },
	}
}

func domain() Domain {
	day := time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC)
	seed := bytes.Repeat([]byte{7}, ed25519.SeedSize)
	ed := directory.SigningKey{Domain: "example.org", Selector: "2026a-ed", Algorithm: directory.Ed25519, State: directory.KeyActive, Signer: ed25519.NewKeyFromSeed(seed), Created: day}
	old := ed
	old.Selector, old.State, old.Retired, old.Gone = "2025a-ed", directory.KeyRetired, day, day.AddDate(0, 0, 14)
	gone := old
	gone.Selector, gone.State, gone.Signer = "2024a-ed", directory.KeyGone, nil
	return Domain{
		Name:     "example.org",
		Settings: directory.Settings{Domain: "example.org", Sign: true, DMARC: "none", DMARCReports: "postmaster@example.org", MTASTS: "testing", MTASTSAge: 7 * 24 * time.Hour, TLSReports: "postmaster@example.org"},
		Keys:     []directory.SigningKey{gone, old, ed},
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	file = "testdata/" + file
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(file); err != nil || string(want) != got {
		t.Errorf("%s (%v):\n%s", file, err, got)
	}
}

// Every form of the records is as recorded, and a zone file is read by others as the same
// records.
func TestForms(t *testing.T) {
	all := Records(site(), domain())
	for file, form := range map[string]func(*strings.Builder) error{
		"zone.txt":  func(b *strings.Builder) error { return ZoneFile(b, "example.org", all) },
		"table.csv": func(b *strings.Builder) error { return CSV(b, "example.org", all) },
		"forms.txt": func(b *strings.Builder) error { return Forms(b, "example.org", all) },
	} {
		var b strings.Builder
		if err := form(&b); err != nil {
			t.Fatal(err)
		}
		golden(t, file, b.String())
	}
	var b strings.Builder
	if err := ZoneFile(&b, "example.org", all); err != nil {
		t.Fatal(err)
	}
	inside := 0
	p := dns.NewZoneParser(strings.NewReader(b.String()), "example.org.", "")
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		name := strings.TrimSuffix(rr.Header().Name, ".")
		if r := plain(name, rr); !holds(all, r) {
			t.Errorf("read as %+v", r)
		}
		inside++
	}
	if p.Err() != nil || inside != len(all)-2 {
		t.Errorf("%d of %d records, %v", inside, len(all), p.Err())
	}
	b.Reset()
	if err := CSV(&b, "example.org", all); err != nil {
		t.Fatal(err)
	}
	if rows, err := csv.NewReader(strings.NewReader(b.String())).ReadAll(); err != nil || len(rows) != len(all)+1 {
		t.Errorf("%d rows, %v", len(rows), err)
	}
}

// What depends on settings: a record less, or another.
func TestRecordsFollowSettings(t *testing.T) {
	find := func(all []Record, name, kind string) string {
		for _, r := range all {
			if r.Name == name && r.Type == kind {
				return r.Value
			}
		}
		return "-"
	}
	off := domain()
	off.Settings.MTASTS = "none"
	noPolicy := PolicyID(Policy(site(), off))
	for _, c := range []struct {
		what       string
		change     func(*Site, *Domain)
		name, kind string
		want       string
	}{
		{"as it is", func(*Site, *Domain) {}, "_dmarc.example.org", "TXT", "v=DMARC1; p=none; rua=mailto:postmaster@example.org"},
		{"policy", func(_ *Site, d *Domain) { d.Settings.DMARC = "reject" }, "_dmarc.example.org", "TXT", "v=DMARC1; p=reject; rua=mailto:postmaster@example.org"},
		{"no reports", func(_ *Site, d *Domain) { d.Settings.DMARCReports = "" }, "_dmarc.example.org", "TXT", "v=DMARC1; p=none"},
		{"reports elsewhere", func(_ *Site, d *Domain) { d.Settings.DMARCReports = "r@reports.example" }, "example.org._report._dmarc.reports.example", "TXT", "v=DMARC1"},
		{"reports to a subdomain", func(_ *Site, d *Domain) { d.Settings.DMARCReports = "r@reports.example.org" }, "example.org._report._dmarc.reports.example.org", "TXT", "-"},
		{"no MTA-STS any more", func(_ *Site, d *Domain) { d.Settings.MTASTS = "none" }, "_mta-sts.example.org", "TXT", "v=STSv1; id=" + noPolicy},
		{"no TLS reports", func(_ *Site, d *Domain) { d.Settings.TLSReports = "" }, "_smtp._tls.example.org", "TXT", "-"},
		{"nothing is signed any more", func(_ *Site, d *Domain) { d.Settings.Sign = false }, "2026a-ed._domainkey.example.org", "TXT", DKIMText(domain().Keys[2])},
		{"a key is gone", func(*Site, *Domain) {}, "2024a-ed._domainkey.example.org", "TXT", "-"},
		{"smarthost", func(s *Site, _ *Domain) { s.Smarthost = "relay.example.net" }, "example.org", "TXT", "v=spf1 mx a:relay.example.net ~all"},
		{"smarthost by address", func(s *Site, _ *Domain) { s.Smarthost = "2001:db8::1" }, "example.org", "TXT", "v=spf1 mx ip6:2001:db8::1 ~all"},
		{"smarthost beside us", func(s *Site, _ *Domain) { s.Smarthost = "10.0.0.1" }, "example.org", "TXT", "v=spf1 mx ~all"},
		{"smarthost on this machine", func(s *Site, _ *Domain) { s.Smarthost = "localhost" }, "example.org", "TXT", "v=spf1 mx ~all"},
		{"mail leaves from elsewhere", func(s *Site, _ *Domain) {
			s.Sources = []netip.Addr{netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("2001:db8::9")}
		}, "example.org", "TXT", "v=spf1 mx ip4:192.0.2.9 ip6:2001:db8::9 -all"},
		{"mail without a sender, too", func(s *Site, _ *Domain) { s.Sources = []netip.Addr{netip.MustParseAddr("192.0.2.9")} }, "mx.example.org", "TXT", "v=spf1 a ip4:192.0.2.9 -all"},
		{"the host has a name that is guessed", func(s *Site, _ *Domain) { s.Hostname = "autoconfig.example.org" }, "autoconfig.example.org", "CNAME", "-"},
		{"an address in the long form", func(s *Site, _ *Domain) { s.Addresses = []netip.Addr{netip.MustParseAddr("::ffff:192.0.2.25")} }, "mx.example.org", "A", "192.0.2.25"},
		{"the host lies elsewhere", func(s *Site, _ *Domain) { s.Hostname = "mx.example.net" }, "example.org", "MX", "10 mx.example.net"},
		{"its certificate", func(s *Site, _ *Domain) { s.Hostname = "mx.example.net" }, "mx.example.net", "CAA", `0 issue "letsencrypt.org"`},
		{"way back of IPv6", func(*Site, *Domain) {}, "5.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", "PTR", "mx.example.org"},
		{"the host is the domain", func(s *Site, _ *Domain) { s.Hostname = "example.org" }, "example.org", "TXT", "v=spf1 mx -all"},
		{"no POP3", func(*Site, *Domain) {}, "_pop3s._tcp.example.org", "SRV", "0 0 0 ."},
		{"POP3", func(s *Site, _ *Domain) { s.Services["pop3s"] = 995 }, "_pop3s._tcp.example.org", "SRV", "20 1 995 mx.example.org"},
	} {
		s, d := site(), domain()
		c.change(&s, &d)
		if got := find(Records(s, d), c.name, c.kind); got != c.want {
			t.Errorf("%s: %q, not %q", c.what, got, c.want)
		}
	}
	apex := site()
	apex.Hostname = "example.org"
	if why := caa(apex, domain())[0].Why; !strings.Contains(why, "below it") || strings.Contains(caa(site(), domain())[0].Why, "below it") {
		t.Errorf("CAA of a host that is the domain: %s", why)
	}
	kept, other := site(), site()
	other.KeepsKey = false
	if why := dane(kept, domain())[0].Why; strings.Contains(why, "same key") {
		t.Errorf("of a key that stays: %s", why)
	}
	if why := dane(other, domain())[0].Why; !strings.Contains(why, "same key") {
		t.Errorf("of a key that may change with each certificate: %s", why)
	}
	s, d := site(), domain()
	was := PolicyID(Policy(s, d))
	d.Settings.MTASTS = "enforce"
	if PolicyID(Policy(s, d)) == was {
		t.Error("the policy has changed, and its id has not")
	}
}

// A key of RSA is longer than one string of a TXT record.
func TestLongTexts(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	k := directory.SigningKey{Domain: "example.org", Selector: "a", Algorithm: directory.RSA, State: directory.KeyActive, Signer: key}
	r := Record{DKIMName(k), "TXT", DKIMText(k), Must, ""}
	rr, err := r.rr()
	if err != nil {
		t.Fatal(err)
	}
	if txt := rr.(*dns.TXT).Txt; len(txt) != 2 || len(txt[0]) != 255 || plain(r.Name, rr).Value != r.Value {
		t.Errorf("%q", txt)
	}
	if got := mailto("grün?50%@example.org"); got != "mailto:gr%C3%BCn%3F50%25@example.org" {
		t.Error(got)
	}
	for _, text := range []string{"", `with "quotes" and \ backslash`, "\x00 any \xff bytes \r\n", `\065`, "ends in \\", strings.Repeat("x", 255), strings.Repeat("y", 600)} {
		rr, err := Record{Name: "a.example", Type: "TXT", Value: text}.rr()
		if err != nil || plain("a.example", rr).Value != text {
			t.Errorf("%q: %v %v", text, rr, err)
		}
	}
}

func resolver(t *testing.T, zone string) (*dnsx.Client, *dnstest.Server) {
	t.Helper()
	server, err := dnstest.Start(zone)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	client, err := dnsx.New(dnsx.Options{Servers: []string{server.Addr()}, CacheEntries: -1, Timeout: time.Second, Rounds: 1, Now: time.Now, ID: dns.Id, Dial: new(net.Dialer).DialContext})
	if err != nil {
		t.Fatal(err)
	}
	return client, server
}

// zoneOf is what the DNS holds if everything is as it should be.
func zoneOf(all []Record) string {
	var b strings.Builder
	for _, r := range all {
		b.WriteString(r.Name + ". 300 IN " + r.Type + " " + r.Data() + "\n")
	}
	return b.String()
}

// What is there is found, and whatever is changed about it is told, and nothing else.
func TestCompare(t *testing.T) {
	d := domain()
	all := Records(site(), d)
	whole := zoneOf(all)
	client, server := resolver(t, whole)
	line := func(name, kind string) string {
		for _, l := range strings.SplitAfter(whole, "\n") {
			if strings.HasPrefix(l, name+". ") && strings.Contains(l, " IN "+kind+" ") {
				return l
			}
		}
		t.Fatalf("no %s %s", name, kind)
		return ""
	}
	for _, c := range []struct {
		what       string
		name, kind string // the line that is replaced
		by         string
		want       string // findings that are not ok
	}{
		{"nothing", "example.org", "MX", line("example.org", "MX"), ""},
		{"no MX", "example.org", "MX", "", "example.org MX missing"},
		{"other MX", "example.org", "MX", "example.org. MX 5 mx.example.net.\n", "example.org MX wrong 5 mx.example.net"},
		{"a second MX", "example.org", "MX", line("example.org", "MX") + "example.org. MX 20 backup.example.net.\n", "example.org MX extra 20 backup.example.net"},
		{"no SPF among texts", "example.org", "TXT", "example.org. TXT \"google-site-verification=x\"\n", "example.org TXT missing"},
		{"SPF in another order beside a text", "example.org", "TXT", "example.org. TXT \"google-site-verification=x\"\nexample.org. TXT \"v=spf1  -all mx\"\n", ""},
		{"SPF with another who sends", "example.org", "TXT", "example.org. TXT \"v=spf1 mx include:spf.example.net ~all\"\n", ""},
		{"SPF without us", "example.org", "TXT", "example.org. TXT \"v=spf1 include:spf.example.net -all\"\n", "example.org TXT wrong v=spf1 include:spf.example.net -all"},
		{"SPF for all the world", "example.org", "TXT", "example.org. TXT \"v=spf1 mx +all\"\n", "example.org TXT wrong v=spf1 mx +all"},
		{"two SPF", "example.org", "TXT", line("example.org", "TXT") + "example.org. TXT \"v=spf1 ~all\"\n", "example.org TXT wrong v=spf1 mx -all v=spf1 ~all"},
		{"key without its version, split", "2026a-ed._domainkey.example.org", "TXT", "2026a-ed._domainkey.example.org. TXT \"k=ed25519; \" \"p=" + strings.TrimPrefix(DKIMText(d.Keys[2]), "v=DKIM1; k=ed25519; p=") + "\"\n", ""},
		{"another key", "2026a-ed._domainkey.example.org", "TXT", "2026a-ed._domainkey.example.org. TXT \"v=DKIM1; k=ed25519; p=AAAA\"\n", "2026a-ed._domainkey.example.org TXT wrong v=DKIM1; k=ed25519; p=AAAA"},
		{"a key that is gone", "example.org", "MX", line("example.org", "MX") + "2024a-ed._domainkey.example.org. TXT \"v=DKIM1; p=x\"\n", "2024a-ed._domainkey.example.org TXT extra v=DKIM1; p=x"},
		{"address in place of an alias", "mta-sts.example.org", "CNAME", "mta-sts.example.org. A 192.0.2.25\n", ""},
		{"alias elsewhere", "mta-sts.example.org", "CNAME", "mta-sts.example.org. CNAME www.example.org.\nwww.example.org. A 192.0.2.80\n", "mta-sts.example.org CNAME wrong www.example.org 192.0.2.80"},
		{"another address beside", "mx.example.org", "A", line("mx.example.org", "A") + "mx.example.org. A 192.0.2.99\n", "mx.example.org A extra 192.0.2.99"},
		{"service elsewhere", "_imaps._tcp.example.org", "SRV", "_imaps._tcp.example.org. SRV 0 1 993 imap.example.net.\n", "_imaps._tcp.example.org SRV wrong 0 1 993 imap.example.net"},
		{"service with other weights", "_imaps._tcp.example.org", "SRV", "_imaps._tcp.example.org. SRV 9 9 993 mx.example.org.\n", ""},
		{"TLSA of an old key", "_25._tcp.mx.example.org", "TLSA", line("_25._tcp.mx.example.org", "TLSA") + "_25._tcp.mx.example.org. TLSA 3 1 1 " + strings.Repeat("ab", 32) + "\n", "_25._tcp.mx.example.org TLSA extra 3 1 1 " + strings.Repeat("ab", 32)},
		{"CAA of another", "mx.example.org", "CAA", "mx.example.org. CAA 0 issue \"ca.example\"\n", `mx.example.org CAA wrong 0 issue "ca.example"`},
		{"PTR", "25.2.0.192.in-addr.arpa", "PTR", "25.2.0.192.in-addr.arpa. PTR host25.provider.example.\n", "25.2.0.192.in-addr.arpa PTR wrong host25.provider.example"},
		{"DNS that fails", "_dmarc.example.org", "TXT", "! servfail _dmarc.example.org\n", "_dmarc.example.org TXT unknown"},
	} {
		if err := server.SetZone(strings.Replace(whole, line(c.name, c.kind), c.by, 1)); err != nil {
			t.Fatal(c.what, err)
		}
		var got []string
		for _, f := range Compare(context.Background(), client, all, Stale(d)) {
			if f.Status != Same {
				got = append(got, strings.Join(append([]string{f.Name, f.Type, string(f.Status)}, f.Found...), " "))
			}
		}
		if s := strings.Join(got, "\n"); s != c.want {
			t.Errorf("%s: %q, not %q", c.what, s, c.want)
		}
	}
}

// FuzzTXT: any text becomes a record that is read as the same text, in strings of at most 255
// bytes.
func FuzzTXT(f *testing.F) {
	f.Add("v=spf1 mx -all")
	f.Add("\\\"\x00\xff;\n")
	f.Add(strings.Repeat("x", 256))
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4000 {
			return
		}
		rr, err := Record{Name: "a.example", Type: "TXT", Value: text}.rr()
		if err != nil {
			t.Fatal(err)
		}
		if got := plain("a.example", rr).Value; got != text {
			t.Fatalf("%q is read as %q", text, got)
		}
		wire := make([]byte, 8<<10)
		if _, err := dns.PackRR(rr, wire, 0, nil, false); err != nil {
			t.Fatal(err)
		}
	})
}
