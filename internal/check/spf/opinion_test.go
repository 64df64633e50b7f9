package spf_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/check/spf"
	"github.com/martlet-mail/martlet/internal/mail"
)

// TestAnotherOpinion has random records evaluated here and by pyspf.
func TestAnotherOpinion(t *testing.T) {
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("set MARTLET_PEERS=1 to run real programs")
	}
	if err := exec.Command("/usr/bin/python3", "-c", "import spf, dns.resolver").Run(); err != nil {
		t.Skip("python3-spf is not installed")
	}
	seed := rand.Uint64()
	t.Log("seed", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	lines := []string{"h1.test A 192.0.2.1", "h2.test A 192.0.2.2", "h6.test AAAA 2001:db8::1",
		// Of a term that finds some addresses and not others, it counts all that are missing as void
		// lookups; here there are none of those.
		"h1.test AAAA 2001:db8::11", "h2.test AAAA 2001:db8:1::2", "h6.test A 203.0.113.6",
		"1.2.0.192.in-addr.arpa PTR h1.test", "7.100.51.198.in-addr.arpa PTR h2.test", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa PTR h6.test",
		"m.test MX 10 h1.test", "m.test MX 20 h2.test", "user.l.test A 127.0.0.2", "192.0.2.1.i.test A 127.0.0.2"}
	const domains = 150
	for i := range domains {
		lines = append(lines, fmt.Sprintf("d%d.test TXT %s", i, randomRecord(r, i)))
	}
	s := serve(t, zone(lines...))
	theirs := pyspf(t, s)
	tally := map[spf.Status]int{}
	for i := range domains {
		for _, ip := range []string{"192.0.2.1", "198.51.100.7", "2001:db8::1"} {
			sender := fmt.Sprintf("user@d%d.test", i)
			got := spf.Check(t.Context(), s.resolver, spf.Query{Addr: netip.MustParseAddr(ip), Helo: "h1.test", From: mail.Address{Local: "user", Domain: fmt.Sprintf("d%d.test", i)}, Now: time.Now()})
			if want := theirs(ip, sender, "h1.test"); string(got.Status) != want {
				t.Errorf("%s from %s: %s here (%s), %s there: %v", sender, ip, got.Status, got.Reason, want, lines[len(lines)-domains+i])
			}
			tally[got.Status]++
		}
	}
	for _, s := range []spf.Status{spf.Pass, spf.Fail, spf.SoftFail, spf.Neutral, spf.PermError} {
		if tally[s] < 5 {
			t.Errorf("only %d are %s: the records are not what they should be", tally[s], s)
		}
	}
}

// randomRecord is one with some terms, now and then with a mistake. It refers to those of
// the last third, which refer to none: the two count the lookups of long chains differently.
func randomRecord(r *rand.Rand, i int) string {
	other := fmt.Sprintf("d%d.test", 100+r.IntN(50))
	include, redirect := "include:"+other, " redirect="+other
	if i >= 100 {
		include, redirect = "a:h1.test", " ~all"
	}
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	var b strings.Builder
	b.WriteString("v=spf1")
	for range r.IntN(6) {
		b.WriteString(" " + pick("", "", "+", "-", "~", "?") + pick("a:h1.test", "a:h2.test", "mx:m.test", "mx:m.test/24", "a:h2.test/24", "a:h6.test//64", "ip4:192.0.2.0/28", "ip4:192.0.2.2",
			"ip6:2001:db8::/32", "exists:%{l}.l.test", "exists:%{i}.i.test", "exists:%{ir}.%{v}.x.test", "ptr:h1.test", include, "a:none.test"))
	}
	if r.IntN(12) == 0 {
		b.WriteString(" " + pick("ip4:1.2.3", "ip4:1.2.3.4/33", "foo", "a:", "redirect=", "exists", "a:%{x}.test", "include:", "all:x", "ip6:1:2", "mx/", "1x=y", "a:h1.test/99"))
	}
	b.WriteString(pick("", " -all", " ~all", " ?all", " +all", redirect, " x-mod=1 -all"))
	return b.String()
}

// pyspf runs the other program against the same name server.
func pyspf(t *testing.T, s *server) func(ip, sender, helo string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", "testdata/pyspf.py", s.addr)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	lines := bufio.NewScanner(out)
	return func(ip, sender, helo string) string {
		json.NewEncoder(in).Encode([]string{ip, sender, helo})
		if !lines.Scan() {
			t.Fatal("pyspf ended", lines.Err())
		}
		return lines.Text()
	}
}
