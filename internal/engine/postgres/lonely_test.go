package postgres

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
)

// TestLonely: a database whose standby is gone is told from one that is gone itself.
func TestLonely(t *testing.T) {
	primary := pgtest.Start(t, pgtest.Options{})
	standby, name := primary.Standby(t)
	primary.Synchronous(t, name)
	opt := options(primary.URL())
	opt.statement, opt.Patience = 300*time.Millisecond, time.Second
	e := open(t, opt)
	putAll(t, e, acct, "k", "1")
	says := func(want string) {
		t.Helper()
		got, healthy := "", ""
		for tries := 0; tries < 15; { // the first look may come before the cause is known
			err := e.View(t.Context(), acct, func(r engine.Reader) error { return nil })
			if err == nil { // it was proved a moment ago that the server is the primary
				time.Sleep(10 * time.Millisecond)
				continue
			}
			tries++
			got = err.Error()
			if err := e.Healthy(); err != nil {
				healthy = err.Error()
			}
			if strings.Contains(got, want) && strings.Contains(healthy, want) {
				return
			}
		}
		t.Errorf("a look says %q, the node %q, not %q", got, healthy, want)
	}
	standby.Stop()
	says("no standby confirms commits")
	says("waits for a standby; start one") // and where
	primary.Kill()
	says("the database cannot be reached")
	says("; start PostgreSQL there")
}

// TestOpenAwaitsStandby: who begins while no standby confirms commits waits for one, as who works does.
func TestOpenAwaitsStandby(t *testing.T) {
	primary := pgtest.Start(t, pgtest.Options{})
	opt := options(primary.URL())
	opt.statement = 300 * time.Millisecond
	open(t, opt).Close() // the tables are there
	if err := primary.SQL("ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()"); err != nil {
		t.Fatal(err)
	}
	waits := make(chan struct{}, 1000)
	opt.Log = slog.New(slog.NewTextHandler(writerFunc(func(line string) {
		if strings.Contains(line, "waiting for the database") {
			waits <- struct{}{}
		}
	}), nil))
	opened := make(chan error, 1)
	go func() {
		e, err := Open(t.Context(), opt)
		if err == nil {
			err = e.Close()
		}
		opened <- err
	}()
	select {
	case err := <-opened:
		t.Fatalf("without a standby: %v", err)
	case <-waits:
	}
	_, name := primary.Standby(t)
	primary.Synchronous(t, name)
	if err := <-opened; err != nil {
		t.Error(err)
	}
}
