package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
	"github.com/martlet-mail/martlet/internal/fault"
)

// An error of the way to a database says where it is and how to mend it, and of hosts that
// refuse and are away nobody knows that waiting is in vain.
func TestUnreached(t *testing.T) {
	one := &pgconn.Config{Host: "db1", Port: 5432, User: "martlet", Database: "mail", Password: "hidden"}
	two := &pgconn.Config{Host: "db2", Port: 5432, User: "martlet", Database: "mail", Password: "hidden"}
	said := func(code, text string) error { return &pgconn.PgError{Severity: "FATAL", Code: code, Message: text} }
	away := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	late := &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}
	letIn := fmt.Errorf("%w: %w", errLetIn, late)
	for _, c := range []struct {
		errs    []error
		refuses bool
		says    []string
		lonely  *pgconn.Config
	}{
		{[]error{said("28P01", "no")}, true, []string{"db1:5432", "password", `"martlet"`, "right one into its url"}, nil},
		{[]error{errors.Join(errors.New("tls error"), said("28000", "no entry for host"))}, true, []string{"db1:5432", "no entry for host", "pg_hba.conf"}, nil},
		{[]error{said("3D000", "no")}, true, []string{"db1:5432", "createdb -O martlet mail"}, nil},
		{[]error{away}, false, []string{"db1:5432: connection refused", "start PostgreSQL"}, nil},
		{[]error{away, said("3D000", "no")}, false, []string{"db1:5432: connection refused", "createdb"}, nil},
		{[]error{said("57P03", "the database system is starting up")}, false, []string{"db1:5432", "starting up"}, nil},
		{[]error{letIn, letIn}, false, []string{"db1:5432: i/o timeout, db2:5432: i/o timeout"}, nil},
		{[]error{away, letIn}, false, []string{"db1:5432: connection refused, db2:5432: i/o timeout"}, nil},
		{[]error{away, late}, false, []string{"db1:5432: connection refused, db2:5432 waits for a standby; start one"}, two},
	} {
		u := newUnreached([]*pgconn.Config{one, two}, c.errs, c.lonely)
		if u.refuses != c.refuses || passes(u) == c.refuses || !errors.Is(u, errReach) || strings.ContainsAny(u.Error(), "\n\t") || strings.Contains(u.Error(), "hidden") {
			t.Errorf("%v: %q, refuses %v, passes %v", c.errs, u, u.refuses, passes(u))
		}
		for _, want := range c.says {
			if !strings.Contains(u.Error(), want) {
				t.Errorf("%v: %q does not say %q", c.errs, u, want)
			}
		}
		if runs := errors.Is(u.cause, errLetIn) || c.lonely != nil; runs && strings.Contains(u.Error(), "start PostgreSQL") {
			t.Errorf("%v: %q would have one started that runs", c.errs, u)
		}
	}
}

// A database that is not there, and a role that it does not know, are not waited for; one that
// does not answer is, and it is said.
func TestWhatIsNotWaitedFor(t *testing.T) {
	server := pgtest.Start(t, pgtest.Options{})
	for url, want := range map[string]string{
		"postgres://postgres@" + server.Address() + "/nothing?sslmode=disable": "createdb",
		"postgres://nobody@" + server.Address() + "/postgres":                  `role "nobody"`,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		o := options(url)
		o.Patience = time.Hour
		_, err := Open(ctx, o)
		cancel()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", url, err)
		}
	}
	server.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	o := options("postgres://postgres@" + server.Address() + "/postgres")
	o.Patience, o.Log = time.Hour, slog.New(slog.NewTextHandler(writerFunc(func(line string) {
		if strings.Contains(line, "waiting for the database") {
			cancel()
		}
	}), nil))
	if _, err := Open(ctx, o); err == nil || !errors.Is(ctx.Err(), context.Canceled) {
		t.Errorf("of a database that is away nothing was said; at last %v", err)
	}
}

// Who was patient for long enough is told what he has waited for: a database that is away, and where;
// one that waits for a standby; or others on the same shard.
func TestWhatWasWaitedFor(t *testing.T) {
	o := options("postgres://martlet@db1:5433/mail")
	p, err := newPool(&o, &Stats{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	says := func(cause error, want ...string) {
		t.Helper()
		r := p.retry(t.Context())
		err := r.ended(cause)
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q does not say %q", err, w)
			}
		}
		if !r.over || !fault.Is(err, fault.Unavailable) || !errors.Is(err, cause) {
			t.Errorf("%v: %v, over %v", fault.Of(err), err, r.over)
		}
	}
	for _, cause := range []error{errTurn, errAgain, errUnsent} {
		says(cause, "others are changing the same", cause.Error())
	}
	says(errProof, "the database cannot be reached", "db1:5433")
	var down error = newUnreached(p.hosts, []error{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}}, nil)
	p.down.Store(&down)
	says(errTurn, "the database cannot be reached", "db1:5433: connection refused; start PostgreSQL there")
	p.lonely.server.Store(p.hosts[0])
	says(errTurn, "no standby confirms commits", "db1:5433 waits for a standby")
}

// TestTurnIsWaitedFor: an account that is busy is not a database that is away.
func TestTurnIsWaitedFor(t *testing.T) {
	e := open(t, options(pgtest.Shared(t)))
	const id = acct + 17
	if err := e.Update(t.Context(), id, add); err != nil {
		t.Fatal(err)
	}
	begun, end, done := make(chan struct{}), make(chan struct{}), make(chan error)
	begin := sync.OnceFunc(func() { close(begun) })
	go func() {
		done <- e.Update(t.Context(), id, func(engine.Writer) error {
			begin()
			<-end
			return nil
		})
	}()
	<-begun
	err := e.Update(engine.Patient(t.Context(), 10*time.Millisecond), id, add)
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Say(err), "others are changing the same") {
		t.Errorf("%v", err)
	}
	close(end)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

type writerFunc func(line string)

func (w writerFunc) Write(p []byte) (int, error) {
	w(string(p))
	return len(p), nil
}

// TestHurryTellsNothing: who had no time to wait for a server's answer does not say of it that it is down,
// for all others.
func TestHurryTellsNothing(t *testing.T) {
	_, b, wire := beside(t)
	p := b.member(0).pool
	wire.Pause()
	defer wire.Resume()
	host := p.favourite()
	p.down.Store(nil)
	p.lonely.server.Store(host)
	for patience, knows := range map[time.Duration]bool{little: false, connectTimeout + time.Second: true} {
		if _, err := p.connect(engine.Patient(t.Context(), patience), 0); !errors.Is(err, errReach) {
			t.Errorf("%v: %v", patience, err)
		}
		if down := p.down.Swap(nil) != nil; down != knows {
			t.Errorf("who waited for %v says that it is down: %v", patience, down)
		}
		if gone := p.lonely.server.Swap(host) == nil; gone != knows {
			t.Errorf("who waited for %v says that it waits for no standby: %v", patience, gone)
		}
	}
}
