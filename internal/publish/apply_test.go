package publish

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/martlet-mail/martlet/internal/fault"
)

// An address or a certificate that is not known just now (the DNS does not answer, an interface
// is down, a file cannot be read) is no reason to take what was made of it out of the DNS; one
// that has taken the place of another is.
func TestWhatIsNotKnownIsNotRemoved(t *testing.T) {
	ours := slices.DeleteFunc(Records(site(), domain()), func(r Record) bool { return !slices.Contains([]string{"A", "AAAA", "TLSA", "PTR", "MX"}, r.Type) })
	u := &Updater{Zones: []Zone{{Name: "example.org"}, {Name: "arpa"}}}
	none := site()
	none.Hostname, none.Addresses, none.TLSKeys = "other.example.org", nil, nil
	four := site()
	four.Hostname, four.Addresses, four.TLSKeys = "other.example.org", []netip.Addr{netip.MustParseAddr("192.0.2.26")}, [][32]byte{{4}}
	for _, c := range []struct {
		what string
		site Site
		want []string
	}{
		{"nothing is known", none, []string{"remove MX", "keep A", "keep AAAA", "keep PTR", "keep PTR", "keep TLSA"}},
		{"no address of IPv6", four, []string{"remove MX", "remove A", "keep AAAA", "remove PTR", "keep PTR", "remove TLSA"}},
	} {
		want := slices.DeleteFunc(Records(c.site, domain()), func(r Record) bool { return !slices.Contains([]string{"A", "AAAA", "TLSA", "PTR", "MX"}, r.Type) })
		var got []string
		for _, r := range ours {
			s := unwanted(u, want, r)
			got = append(got, string(s.Action)+" "+s.Type)
			if s.Why == "" {
				t.Errorf("%s: no reason for %+v", c.what, s)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q", c.what, got)
		}
	}
}

// What was surely not made is not ours, or one that a person then makes is taken out later. What
// may have been made is, and so is what was made before.
func TestWhatWasNotMadeIsNotOurs(t *testing.T) {
	answers := func(rcode int) func(context.Context, string, string) (net.Conn, error) {
		return func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			go func() {
				defer there.Close()
				c := &dns.Conn{Conn: there, TsigSecret: map[string]string{"k.": "c2VjcmV0"}}
				if m, err := c.ReadMsg(); err == nil && rcode >= 0 {
					signed, _, _ := dns.TsigGenerate(new(dns.Msg).SetRcode(m, rcode).SetTsig("k.", dns.HmacSHA256, fudge, time.Now().Unix()), "c2VjcmV0", m.IsTsig().MAC, false)
					_, _ = c.Write(signed)
				}
			}()
			return here, nil
		}
	}
	was := Record{Name: "imap.example.org", Type: "CNAME", Value: "mx.example.org"}
	r := Record{Name: "mail.example.org", Type: "CNAME", Value: "mx.example.org"}
	for _, c := range []struct {
		what string
		dial func(context.Context, string, string) (net.Conn, error)
		ours bool
	}{
		{"unreachable", func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("unreachable") }, false},
		{"refused", answers(dns.RcodeRefused), false},
		{"not allowed", answers(dns.RcodeNotAuth), false},
		{"something is there", answers(dns.RcodeYXRrset), false},
		{"not done by this server", answers(dns.RcodeNotImplemented), false},
		{"no answer", answers(-1), true},
		{"trouble on the way", answers(dns.RcodeServerFailure), true},
	} {
		zone := Zone{Name: "example.org", Server: "127.0.0.1:1", KeyName: "k", Algorithm: "hmac-sha256", Secret: "c2VjcmV0"}
		u := &Updater{Zones: []Zone{zone}, Now: time.Now, ID: dns.Id, Dial: c.dial}
		var kept []Record
		steps := []Step{{Record: r, Action: Add, first: true, zone: zone}}
		_, err := Apply(t.Context(), u, steps, []Record{was}, func(now []Record) error { kept = slices.Clone(now); return nil })
		if err == nil || fault.Of(err) == fault.Internal {
			t.Errorf("%s: %v", c.what, err)
		}
		if holds(kept, r) != c.ours || !holds(kept, was) {
			t.Errorf("%s: made here: %v (%v)", c.what, kept, err)
		}
	}
}
