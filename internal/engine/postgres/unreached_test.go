package postgres

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
)

// An error of the way to a database says where it is and how to mend it, and of hosts that
// refuse and are away nobody knows that waiting is in vain.
func TestUnreached(t *testing.T) {
	one := &pgconn.Config{Host: "db1", Port: 5432, User: "martlet", Database: "mail", Password: "hidden"}
	two := &pgconn.Config{Host: "db2", Port: 5432, User: "martlet", Database: "mail", Password: "hidden"}
	said := func(code, text string) error { return &pgconn.PgError{Severity: "FATAL", Code: code, Message: text} }
	away := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	for _, c := range []struct {
		errs    []error
		refuses bool
		says    []string
	}{
		{[]error{said("28P01", "no")}, true, []string{"db1:5432", "password", `"martlet"`, "right one into its url"}},
		{[]error{errors.Join(errors.New("tls error"), said("28000", "no entry for host"))}, true, []string{"db1:5432", "no entry for host", "pg_hba.conf"}},
		{[]error{said("3D000", "no")}, true, []string{"db1:5432", "createdb -O martlet mail"}},
		{[]error{away}, false, []string{"db1:5432: connection refused", "start PostgreSQL"}},
		{[]error{away, said("3D000", "no")}, false, []string{"db1:5432: connection refused", "createdb"}},
		{[]error{said("57P03", "the database system is starting up")}, false, []string{"db1:5432", "starting up"}},
	} {
		u := newUnreached([]*pgconn.Config{one, two}, c.errs)
		if u.refuses != c.refuses || passes(u) == c.refuses || !errors.Is(u, errReach) || strings.ContainsAny(u.Error(), "\n\t") || strings.Contains(u.Error(), "hidden") {
			t.Errorf("%v: %q, refuses %v, passes %v", c.errs, u, u.refuses, passes(u))
		}
		for _, want := range c.says {
			if !strings.Contains(u.Error(), want) {
				t.Errorf("%v: %q does not say %q", c.errs, u, want)
			}
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

type writerFunc func(line string)

func (w writerFunc) Write(p []byte) (int, error) {
	w(string(p))
	return len(p), nil
}
