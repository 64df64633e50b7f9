package postgres

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
)

// TestOldPrimary: where a standby took over and the old primary goes on, since nobody has
// stopped it, a node that works with that one is not shown the past, and goes to the other.
// The control believes what it is told.
func TestOldPrimary(t *testing.T) {
	shown := func(t *testing.T, believes bool) string {
		old := pgtest.Start(t, pgtest.Options{})
		standby, name := old.Standby(t)
		old.Synchronous(t, name)
		_, was, _ := net.SplitHostPort(old.Address())
		_, is, _ := net.SplitHostPort(standby.Address())
		opt := options(fmt.Sprintf("host=127.0.0.1,127.0.0.1 port=%s,%s user=postgres dbname=postgres sslmode=disable", was, is))
		opt.statement = 400 * time.Millisecond
		opt.without.surety, opt.without.hints, opt.without.poll = believes, believes, believes
		a := open(t, opt)
		putAll(t, a, acct, "k", "1")
		contents(t, a, acct)
		standby.Promote(t)
		b := open(t, options(standby.TCP()))
		putAll(t, b, acct, "k", "2")
		time.Sleep(suretyLasts)
		got := contents(t, a, acct)["k"]
		if !believes {
			putAll(t, a, acct, "k", "3")
			if k := contents(t, b, acct)["k"]; k != "3" {
				t.Errorf("a change on the one node is shown as %q on the other", k)
			}
		}
		return got
	}
	if got := shown(t, false); got != "2" {
		t.Errorf("shown: %q", got)
	}
	if got := shown(t, true); got != "1" {
		t.Errorf("the control is shown %q: the test proves nothing", got)
	}
}
