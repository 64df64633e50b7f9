package publish

import (
	"net/netip"
	"slices"
	"testing"
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
