package postgres

import (
	"context"
	"crypto/rand"
	"os"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/enginetest"
	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// options are those of tests on a database.
func options(url string) Options {
	return Options{URL: url, Now: time.Now, Rand: rand.Reader, Patience: 20 * time.Second, Connections: 8}
}

func open(t testing.TB, opt Options) *Engine {
	t.Helper()
	e, err := Open(context.Background(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func TestContract(t *testing.T) {
	enginetest.Run(t, enginetest.Harness{
		Open: func(t *testing.T, now func() time.Time) engine.Engine {
			opt := options(pgtest.Shared(t))
			opt.Now = now
			return open(t, opt)
		},
		Reopen: func(t *testing.T, e engine.Engine) engine.Engine {
			old := e.(*Engine)
			if err := old.Close(); err != nil {
				t.Fatal(err)
			}
			return open(t, old.opt)
		},
		Runs: runs(),
		Hold: held,
	})
}

// runs is how many runs of the contract's random test are made. Each run costs connections, which cost
// the server a process each; MARTLET_LONG makes many.
func runs() int {
	if os.Getenv("MARTLET_LONG") != "" {
		return 100
	}
	return 8
}

// held returns an engine whose commits wait for a standby, which hold freezes.
func held(t *testing.T) (engine.Engine, func(), func()) {
	primary := pgtest.Start(t, pgtest.Options{})
	standby, name := primary.Standby(t)
	primary.Synchronous(t, name)
	e := open(t, options(primary.URL()))
	warm(t, e, 5)
	return e, standby.Freeze, standby.Thaw
}

// warm makes connections: each begins with a commit.
func warm(t testing.TB, e *Engine, n int) {
	t.Helper()
	p := e.member(0).pool
	var list []*conn
	for range min(n, cap(p.short)) {
		c, err := p.take(context.Background(), nil, p.short)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, c)
	}
	for _, c := range list {
		p.give(p.short, c)
	}
}

func TestShared(t *testing.T) {
	enginetest.RunShared(t, func(t *testing.T) []engine.Shared {
		url := pgtest.Shared(t)
		return []engine.Shared{open(t, options(url)), open(t, options(url))}
	})
}
