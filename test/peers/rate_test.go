package peers

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/bench"
	"github.com/martlet-mail/martlet/test/peers/martlet"
	"github.com/martlet-mail/martlet/test/peers/postfix"
	"github.com/martlet-mail/martlet/test/promise"
)

// TestRate notes how fast mail is taken in over SMTP with every message on disk before its
// 250, beside Postfix that only queues, on the same disk and in turns. It judges no speed;
// docs/benchmarks.md has the whole comparison.
func TestRate(t *testing.T) {
	if against() != "" {
		t.Skip("only Martlet is compared")
	}
	dir := t.TempDir()
	must(t, os.Chmod(filepath.Dir(dir), 0o755)) // Postfix's daemons run as another user
	p, err := postfix.New(postfix.Options{Dir: filepath.Join(dir, "postfix"), Domain: "peer.test", Users: []string{"pia"}, RelayDomain: "x.test", RelayTo: "127.0.0.1:1", Hold: true})
	must(t, err)
	must(t, p.Start())
	t.Cleanup(p.Stop)
	s := start(t, martlet.Options{})
	servers := map[string]bench.Target{
		"Martlet": {SMTP: s.addr("smtp"), Recipients: []string{s.account(t, "alice").Address, s.account(t, "bob").Address}},
		"Postfix": {SMTP: p.Addr, Recipients: []string{"pia@peer.test"}},
	}
	best := map[string]bench.Result{}
	opt := bench.Options{Connections: []int{20}, Duration: time.Duration(promise.Times(t, "R26", 2, 30)) * time.Second}
	for range 2 {
		for name, target := range servers {
			must(t, bench.Run(t.Context(), target, opt, []string{"smtp"}, func(r bench.Result) {
				if r.Failures > 0 || r.Operations == 0 {
					t.Errorf("%s: %d taken, %d refused: %s", name, r.Operations, r.Failures, r.Failure)
				}
				if r.Rate > best[name].Rate {
					best[name] = r
				}
			}))
		}
	}
	var figures []any
	for _, name := range []string{"Martlet", "Postfix"} {
		r := best[name]
		figures = append(figures, name+"'s messages a second", int(r.Rate), "p50 ms", fmt.Sprintf("%.1f", r.Median), "p99 ms", fmt.Sprintf("%.1f", r.P99))
	}
	promise.Kept(t, "R26", append(figures, "ratio", fmt.Sprintf("%.2f", best["Martlet"].Rate/best["Postfix"].Rate))...)
}
