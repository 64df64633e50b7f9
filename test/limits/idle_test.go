package limits

import (
	"crypto/tls"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/peers/martlet"
	"github.com/martlet-mail/martlet/test/promise"
)

// rss is the memory that a process has, in bytes.
func rss(pid int) (n int64) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	fmt.Sscan(rest, &n)
	return n << 10
}

// R18: connections over TLS that wait in IDLE cost little memory each, of one account and
// of many.
func TestR18IdleConnections(t *testing.T) {
	n := promise.Times(t, "R18", 1000, 10_000)
	for _, accounts := range []int{1, 20} {
		var names []string
		for i := range accounts {
			names = append(names, fmt.Sprint("user", i))
		}
		m := binary(t, martlet.Options{Accounts: names, Set: map[string]string{"limits.connections_per_account": "20000"}})
		open := func(i int) *talk {
			nc, err := tls.Dial("tcp", m.Addr("imaps"), &tls.Config{InsecureSkipVerify: true})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { nc.Close() })
			k, a := newTalk(t, nc), m.Account(names[i%accounts])
			k.ok("LOGIN %s %s", a.Address, a.Password)
			k.ok("SELECT INBOX")
			return k
		}
		for i := range accounts {
			open(i)
		}
		time.Sleep(3 * time.Second) // what logins took is given back
		before := rss(m.PID)
		var first *talk
		for i := range n {
			k := open(i)
			k.command("IDLE")
			k.line()
			if k.r = nil; i == 0 {
				first = open(i)
			}
		}
		time.Sleep(3 * time.Second)
		each := (rss(m.PID) - before) / int64(n)
		if each > 48<<10 {
			t.Errorf("%d accounts: %d bytes for each of %d connections", accounts, each, n)
		}
		var took []time.Duration
		for range 200 {
			at := time.Now()
			first.ok("NOOP")
			took = append(took, time.Since(at))
		}
		slices.Sort(took)
		promise.Kept(t, "R18", "connections", n, "accounts", accounts, "KiB of RSS each", each>>10, "NOOP p99 ms", took[197].Milliseconds())
	}
}
