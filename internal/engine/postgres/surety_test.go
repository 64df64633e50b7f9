package postgres

import (
	"errors"
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
	shown := func(t *testing.T, believes, full bool) string {
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
		if full {
			fill(t, old)
		}
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
	if got := shown(t, false, false); got != "2" {
		t.Errorf("shown: %q", got)
	}
	if got := shown(t, false, true); got != "2" {
		t.Errorf("shown by a server whose disk is full: %q", got)
	}
	if got := shown(t, true, false); got != "1" {
		t.Errorf("the control is shown %q: the test proves nothing", got)
	}
}

// fill has a server refuse what it has to write for connections, as one does whose disk is full
// and who has no room left on a page.
func fill(t *testing.T, s *pgtest.Server) {
	t.Helper()
	err := s.SQL("CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = '53100'; END $$",
		"CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON meta FOR EACH ROW WHEN (NEW.key LIKE 'fence %') EXECUTE FUNCTION full_disk()")
	if err != nil {
		t.Fatal(err)
	}
}

// TestFullDiskIsRead: where the disk of a primary is full, reads go on, also over connections
// that are new, of a node that was never there before. The control asks for nothing but what the
// server refuses.
func TestFullDiskIsRead(t *testing.T) {
	t.Parallel() // it has servers of its own, and waits most of the time
	primary := pgtest.Start(t, pgtest.Options{})
	standby, name := primary.Standby(t)
	primary.Synchronous(t, name)
	opt := options(primary.URL())
	opt.Patience = 3 * time.Second
	a := open(t, opt)
	putAll(t, a, acct, "k", "1")
	fill(t, primary)
	time.Sleep(suretyLasts)
	if got := contents(t, a, acct)["k"]; got != "1" {
		t.Errorf("%q", got)
	}
	opt.Node = "new"
	if got := contents(t, open(t, opt), acct)["k"]; got != "1" {
		t.Errorf("a node that is new: %q", got)
	}
	opt.Patience, opt.without.graze = 300*time.Millisecond, true
	if e, err := Open(t.Context(), opt); err == nil {
		t.Error("the disk is not full: the test proves nothing")
		e.Close()
	}
	// What is refused and what is locked waits for the replica, which is proved by its absence.
	p := a.member(0).pool
	c, err := p.take(t.Context(), nil, p.short)
	if err != nil {
		t.Fatal(err)
	}
	defer p.give(p.short, c)
	standby.Freeze()
	defer standby.Thaw()
	if err := p.confirm(c, c.slot, time.Second); !errors.Is(err, errBroken) {
		t.Errorf("confirmed without the replica: %v", err)
	}
}
