package publish

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
)

const tsigSecret = "bWFydGxldC1tYXJ0bGV0LW1hcnRsZXQtbWFydGxldA=="

// startKnot runs the name server of CZ.NIC with a zone that a key may change, and returns an
// updater and a resolver that ask it.
func startKnot(t *testing.T, zone string) (*Updater, *dnsx.Client) {
	t.Helper()
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("set MARTLET_PEERS=1 to run real programs")
	}
	dir := t.TempDir()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("example.org.zone", zone)
	config := write("knot.conf", fmt.Sprintf(`server:
    listen: %s
    rundir: %s
database:
    storage: %s
key:
  - id: martlet
    algorithm: hmac-sha256
    secret: %s
acl:
  - id: changes
    key: martlet
    action: update
zone:
  - domain: example.org
    storage: %s
    file: example.org.zone
    acl: changes
`, strings.Replace(address, ":", "@", 1), dir, dir, tsigSecret, dir))
	var says bytes.Buffer
	knot := exec.Command("knotd", "-c", config)
	knot.Stdout, knot.Stderr = &says, &says
	if err := knot.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		knot.Process.Kill()
		knot.Wait()
		if t.Failed() {
			t.Log(says.String())
		}
	})
	dial := new(net.Dialer).DialContext
	u := &Updater{
		Zones: []Zone{{Name: "example.org", Server: address, KeyName: "martlet", Algorithm: "hmac-sha256", Secret: tsigSecret}},
		Now:   time.Now, ID: dns.Id, Dial: dial,
	}
	client, err := dnsx.New(dnsx.Options{Servers: []string{address}, CacheEntries: -1, Timeout: time.Second, Rounds: 1, Now: time.Now, ID: dns.Id, Dial: dial})
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if rrs, err := u.records(context.Background(), u.Zones[0], "example.org", dns.TypeSOA); err == nil && len(rrs) == 1 {
			return u, client
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("knot does not answer")
	return nil, nil
}

func tell(steps []Step, actions ...Action) (all []string) {
	for _, s := range steps {
		if slices.Contains(actions, s.Action) {
			all = append(all, fmt.Sprintf("%s %s %s", s.Action, s.Name, s.Type))
		}
	}
	return all
}

// With a real name server: what is missing is made, what others made is left alone, what is
// not wanted any more goes, and a key that is not the right one changes nothing.
func TestApplyToKnot(t *testing.T) {
	u, client := startKnot(t, `$ORIGIN example.org.
$TTL 300
@ SOA ns hostmaster 1 3600 600 86400 60
@ NS ns
ns A 127.0.0.1
@ MX 5 mail.provider.example.
@ TXT "google-site-verification=x"
autoconfig A 192.0.2.80
`)
	ctx := context.Background()
	d := domain()
	want := Records(site(), d)
	var ours []Record
	remember := func(now []Record) error { ours = slices.Clone(now); return nil }
	plan := func() []Step {
		t.Helper()
		steps, err := Plan(ctx, u, want, ours)
		if err != nil {
			t.Fatal(err)
		}
		return steps
	}
	apply := func() {
		t.Helper()
		steps := plan()
		if _, err := Apply(ctx, u, steps, ours, remember); err != nil {
			t.Fatal(err)
		}
		if err := Check(ctx, u, steps); err != nil {
			t.Fatal(err)
		}
	}

	steps := plan()
	if got := tell(steps, Blocked, ByHand, Remove, Leave); !slices.Equal(got, []string{
		"blocked example.org MX", "by hand 25.2.0.192.in-addr.arpa PTR",
		"by hand 5.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa PTR", "blocked autoconfig.example.org CNAME",
	}) {
		t.Errorf("%q", got)
	}
	wrong := *u
	wrong.Zones = []Zone{u.Zones[0]}
	wrong.Zones[0].Secret = "AAAA" + tsigSecret[4:]
	if _, err := Apply(ctx, &wrong, steps, nil, remember); !fault.Is(err, fault.Denied) || len(ours) != 0 {
		t.Errorf("with the wrong key: %v; made here: %v", err, ours)
	}
	if got := tell(plan(), Add); len(got) != len(want)-4 {
		t.Errorf("the wrong key has changed something: %q", got)
	}
	apply()
	if got := tell(plan(), Add, Remove); got != nil {
		t.Errorf("after it was applied there is still %q", got)
	}
	bad := map[string]bool{}
	for _, f := range Compare(ctx, client, want, Stale(d)) {
		if f.Status != Same && f.Type != "PTR" {
			bad[f.Name+" "+f.Type] = true
		}
	}
	if len(bad) != 2 || !bad["example.org MX"] || !bad["autoconfig.example.org CNAME"] {
		t.Errorf("%v", bad)
	}

	// Another policy takes the place of the first, and a key that is gone goes.
	d.Settings.DMARC = "reject"
	d.Keys = d.Keys[2:]
	want = Records(site(), d)
	if got := tell(plan(), Add, Remove); !slices.Equal(got, []string{"add _dmarc.example.org TXT", "remove 2025a-ed._domainkey.example.org TXT", "remove _dmarc.example.org TXT"}) {
		t.Errorf("%q", got)
	}
	apply()
	texts, _, err := client.LookupTXT(ctx, "_dmarc.example.org")
	if err != nil || len(texts) != 1 || !strings.Contains(texts[0], "p=reject") {
		t.Errorf("%q %v", texts, err)
	}
	// What ours should be is not known: addresses and keys of the certificate stay. Of those
	// that are known all of ours goes; what others made is as it was.
	want = nil
	apply()
	if got := tell(plan(), Leave); !slices.Equal(got, []string{"keep mx.example.org A", "keep mx.example.org AAAA", "keep _25._tcp.mx.example.org TLSA"}) || len(ours) != 3 {
		t.Errorf("%q %v", got, ours)
	}
	want = []Record{{"mx.example.org", "A", "192.0.2.26", Must, ""}, {"mx.example.org", "AAAA", "2001:db8::26", Must, ""}, {"_25._tcp.mx.example.org", "TLSA", "3 1 1 " + strings.Repeat("ab", 32), Optional, ""}}
	apply()
	if len(ours) != 3 || !slices.EqualFunc(ours, want, func(a, b Record) bool { return holds([]Record{a}, b) }) {
		t.Errorf("%v", ours)
	}
	if texts, _, err = client.LookupTXT(ctx, "example.org"); err != nil || !slices.Equal(texts, []string{"google-site-verification=x"}) {
		t.Errorf("%q %v", texts, err)
	}
	if rrs, err := u.records(ctx, u.Zones[0], "example.org", dns.TypeTXT); err != nil || rrs[0].Header().Ttl != 300 {
		t.Errorf("%v %v", rrs, err)
	}
	if hosts, _, err := client.LookupMX(ctx, "example.org"); err != nil || len(hosts) != 1 || hosts[0].Host != "mail.provider.example" {
		t.Errorf("%v %v", hosts, err)
	}
}

// Something that came between plan and change is not lost: nothing is done.
func TestApplyThatCameTooLate(t *testing.T) {
	u, client := startKnot(t, "$ORIGIN example.org.\n$TTL 300\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n")
	ctx := context.Background()
	mail := Record{"mail.example.org", "CNAME", "mx.example.org", Should, ""}
	steps, err := Plan(ctx, u, []Record{mail}, nil)
	if err != nil {
		t.Fatal(err)
	}
	other := mail
	other.Value = "ns.example.org"
	if err := u.Send(ctx, u.Zones[0], Change{Add: []Record{other}}); err != nil {
		t.Fatal(err)
	}
	var told [][]Record
	if _, err := Apply(ctx, u, steps, nil, func(now []Record) error { told = append(told, slices.Clone(now)); return nil }); !fault.Is(err, fault.Exists) {
		t.Errorf("%v", err)
	}
	if len(told) != 2 || !holds(told[0], mail) || len(told[1]) != 0 {
		t.Errorf("made here: before the change, and after it was refused: %v", told)
	}
	if end, _, err := client.LookupCNAME(ctx, "mail.example.org"); err != nil || end != "ns.example.org" {
		t.Errorf("%q %v", end, err)
	}
}

// An SPF record to which somebody has added others who send for the domain is left as it is; one
// that was made here follows what is wanted.
func TestApplyLeavesWiderSPF(t *testing.T) {
	u, _ := startKnot(t, "$ORIGIN example.org.\n$TTL 300\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\n@ TXT \"v=spf1 mx include:spf.example.net ~all\"\nns A 127.0.0.1\n")
	want := Record{"example.org", "TXT", "v=spf1 mx -all", Must, ""}
	theirs := want
	theirs.Value = "v=spf1 mx include:spf.example.net ~all"
	for _, c := range []struct {
		what, value string
		ours        []Record
		told        []string
	}{
		{"made by others", want.Value, nil, []string{"keep example.org TXT"}},
		{"that lets us not send", "v=spf1 mx ip4:192.0.2.9 -all", nil, []string{"blocked example.org TXT"}},
		{"made here", want.Value, []Record{theirs}, []string{"add example.org TXT", "remove example.org TXT"}},
	} {
		want.Value = c.value
		steps, err := Plan(context.Background(), u, []Record{want}, c.ours)
		if got := tell(steps, Add, Remove, Leave, Blocked); err != nil || !slices.Equal(got, c.told) {
			t.Errorf("%s: %q %v", c.what, got, err)
		}
	}
}
