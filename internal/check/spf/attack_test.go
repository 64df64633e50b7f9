package spf_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/check/spf"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/mail"
)

func zone(lines ...string) map[string][]rr {
	z := map[string][]rr{}
	for _, l := range lines {
		f := strings.SplitN(l, " ", 3)
		data := []string{}
		if len(f) == 3 {
			data = []string{f[2]}
		}
		if f[1] == "MX" {
			data = strings.Fields(f[2])
		}
		z[f[0]] = append(z[f[0]], rr{f[1], data})
	}
	return z
}

// TestAttack72LookupsAreBounded has records that ask for more than a check may cost, and
// their neighbours that just do not.
func TestAttack72LookupsAreBounded(t *testing.T) {
	chain := func(n int) (lines []string) {
		for i := range n {
			lines = append(lines, fmt.Sprintf("d%d.test TXT v=spf1 include:d%d.test -all", i, i+1))
		}
		return append(lines, fmt.Sprintf("d%d.test TXT v=spf1 ip4:192.0.2.1 -all", n))
	}
	mx := func(n, each int) (lines []string) {
		lines = append(lines, "d0.test TXT v=spf1 mx -all")
		for i := range n {
			lines = append(lines, fmt.Sprintf("d0.test MX %d mx%d.d0.test", i, i))
			for j := range each {
				lines = append(lines, fmt.Sprintf("mx%d.d0.test A 198.51.%d.%d", i, i, j))
			}
		}
		return append(lines, fmt.Sprintf("mx%d.d0.test A 192.0.2.1", n-1))
	}
	tree := []string{"d0.test TXT v=spf1"}
	for i := range 10 {
		tree[0] += fmt.Sprintf(" include:x%d.d0.test", i)
		tree = append(tree, fmt.Sprintf("x%d.d0.test TXT v=spf1 mx:y.test mx:y.test mx:y.test mx:y.test ?all", i))
	}
	for i := range 10 {
		tree = append(tree, fmt.Sprintf("y.test MX 1 m%d.y.test", i), fmt.Sprintf("m%d.y.test A 198.51.100.1", i))
	}
	for _, c := range []struct {
		name string
		zone []string
		want spf.Status
		most int // questions
	}{
		{"ten lookups", chain(10), spf.Pass, 11},
		{"an eleventh", chain(11), spf.PermError, 11},
		{"two voids", []string{"d0.test TXT v=spf1 a:n1.test exists:n2.test ip4:192.0.2.1 -all"}, spf.Pass, 3},
		{"a third", []string{"d0.test TXT v=spf1 a:n1.test exists:n2.test mx:n3.test ip4:192.0.2.1 -all"}, spf.PermError, 4},
		{"ten hosts of ten addresses", mx(10, 10), spf.Pass, 12},
		{"an eleventh host", mx(11, 1), spf.PermError, 2},
		{"a loop", []string{"d0.test TXT v=spf1 include:d0.test -all"}, spf.PermError, 12},
		{"a loop of two", []string{"d0.test TXT v=spf1 redirect=d1.test", "d1.test TXT v=spf1 redirect=d0.test"}, spf.PermError, 12},
		{"a tree", tree, spf.PermError, mostQuestions},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, zone(c.zone...))
			got := spf.Check(t.Context(), s.resolver, query("d0.test"))
			if got.Status != c.want {
				t.Errorf("%+v, want %s", got, c.want)
			}
			if n := s.asked(); n > c.most {
				t.Errorf("%d questions, want at most %d", n, c.most)
			}
		})
	}
}

func query(domain string) spf.Query {
	return spf.Query{Addr: netip.MustParseAddr("192.0.2.1"), Helo: "client.test", Now: time.Unix(1, 0),
		From: mail.Address{Local: "a", Domain: domain}}
}

// TestAttack72NamesAndMacros has senders whose names are no names, and macros whose values
// look like macros.
func TestAttack72NamesAndMacros(t *testing.T) {
	label := strings.Repeat("a", 63)
	s := serve(t, zone(
		"d.test TXT v=spf1 exists:%{l}.d.test -all exp=x.d.test",
		`%{d}.d.test A 127.0.0.2`,
		"x.d.test TXT %{s} may not, says %{o}",
		label+".d.test TXT v=spf1 ip4:192.0.2.1 -all",
	))
	for _, c := range []struct {
		local, domain string
		want          spf.Status
		explanation   string
	}{
		{"a", "d.test", spf.Fail, "a@d.test may not, says d.test"},
		{"%{d}", "d.test", spf.Pass, ""}, // asked as it stands, not expanded again
		{"%{ir}.%{ir}.%{ir}", "d.test", spf.Fail, "%{ir}.%{ir}.%{ir}@d.test may not, says d.test"},
		{"\x00", "d.test", spf.Fail, ""},
		{"a\r\nRCPT TO:<x>", "d.test", spf.Fail, ""},
		{"\xff\xfe", "d.test", spf.Fail, ""},
		{strings.Repeat("a", 64), "d.test", spf.Fail, strings.Repeat("a", 64) + "@d.test may not, says d.test"},
		{strings.Repeat("a.", 1000), "d.test", spf.Fail, ""}, // too long to be told
		{"a", "d\x00.test", spf.None, ""},
		{"a", label + ".d.test", spf.Pass, ""},
		{"a", label + "a.d.test", spf.None, ""},
		{"a", "d..test", spf.None, ""},
		{"a", strings.Repeat("a.", 127) + "test", spf.None, ""},
		{"a", "[192.0.2.1]", spf.None, ""},
		{"a", "192.0.2.1", spf.None, ""},
		{"a", "test", spf.None, ""},
	} {
		q := query(c.domain)
		q.From.Local = c.local
		got := spf.Check(t.Context(), s.resolver, q)
		if got.Status != c.want || got.Explanation != c.explanation {
			t.Errorf("%.40q@%.40q: %+v", c.local, c.domain, got)
		}
	}
}

// A check whose time is over could not be done. It is no reason to believe or disbelieve.
func TestTimeIsOver(t *testing.T) {
	s := serve(t, zone("d.test TXT v=spf1 -all"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := spf.Check(ctx, s.resolver, query("d.test")); got.Status != spf.TempError {
		t.Errorf("%+v", got)
	}
}

// The null reverse-path has the identity of HELO.
func TestIdentities(t *testing.T) {
	s := serve(t, zone("client.test TXT v=spf1 ip4:192.0.2.1 -all", "d.test TXT v=spf1 -all"))
	got := spf.Check(t.Context(), s.resolver, query(""))
	if got.Status != spf.Pass || got.Domain != "client.test" || !got.IsHelo || got.Local != "a" && got.Local != "postmaster" {
		t.Errorf("%+v", got)
	}
	got = spf.Check(t.Context(), s.resolver, query("D.TEST."))
	if got.Status != spf.Fail || got.Domain != "d.test" || got.IsHelo || got.Mechanism != "-all" {
		t.Errorf("%+v", got)
	}
	q := query("d.test")
	q.Addr = netip.Addr{}
	if got = spf.Check(t.Context(), s.resolver, q); got.Status != spf.None {
		t.Errorf("without an address: %+v", got)
	}
}

// FuzzCheck gives a domain any record: the answer is one of the seven, comes within the
// limits, and what is told of it can stand in a reply.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{
		"v=spf1 a mx/24//64 ptr:d.test ip4:192.0.2.0/24 ip6:2001:db8::/32 exists:%{ir}.%{v}.%{l1r-}.d.test ~all",
		"v=spf1 redirect=%{d2}.test exp=%{S}.test", "v=spf1 include:d.test", "v=spf1 %%%_%-", "v=spf1 a:%{", "v=spf1 -all exp=d.test",
		"v=spf1 mx:d.test mx:d.test a:%{h} -a:%{p}.test ?exists:%{s}.d.test", "v=spf10", "v=spf1\x00", "v=spf1 ip4:1.2.3.4/33", "v=spf1 a//",
	} {
		f.Add(s, "user", "helo.test")
	}
	f.Fuzz(func(t *testing.T, record, local, helo string) {
		r := &scripted{text: record}
		q := query("d.test")
		q.From.Local, q.Helo = local, helo
		got := spf.Check(t.Context(), r, q)
		switch got.Status {
		case spf.None, spf.Neutral, spf.Pass, spf.Fail, spf.SoftFail, spf.TempError, spf.PermError:
		default:
			t.Fatalf("%+v", got)
		}
		if r.asked > mostQuestions {
			t.Fatalf("%d questions", r.asked)
		}
		for _, s := range []string{got.Explanation, got.Mechanism, got.Reason} {
			if len(s) > 1000 || strings.IndexFunc(s, func(c rune) bool { return c < ' ' || c > '~' }) >= 0 {
				t.Fatalf("%q", s)
			}
		}
	})
}

// scripted answers every question with the same: the record under test, hosts, an address.
type scripted struct {
	dnsx.Resolver
	text  string
	asked int
}

func (s *scripted) LookupTXT(_ context.Context, name string) ([]string, dnsx.Info, error) {
	s.asked++
	return []string{s.text}, dnsx.Info{Name: name}, nil
}

func (s *scripted) LookupIP(_ context.Context, name string, _ bool) ([]netip.Addr, dnsx.Info, error) {
	s.asked++
	return []netip.Addr{netip.MustParseAddr("198.51.100.7")}, dnsx.Info{Name: name}, nil
}

func (s *scripted) LookupMX(_ context.Context, name string) ([]dnsx.MX, dnsx.Info, error) {
	s.asked++
	return make([]dnsx.MX, 10), dnsx.Info{Name: name}, nil
}

func (s *scripted) LookupPTR(_ context.Context, addr netip.Addr) ([]string, dnsx.Info, error) {
	s.asked++
	return []string{"a.d.test", "b.test"}, dnsx.Info{}, nil
}
