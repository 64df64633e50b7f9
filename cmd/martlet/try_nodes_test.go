package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/martlet-mail/martlet/internal/conf"
)

// lockedBuffer is what several processes write to.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func shellChild(out io.Writer, script string) *child {
	return &child{name: "one", out: out, log: slog.New(slog.DiscardHandler), stop: syscall.SIGTERM, make: func() *exec.Cmd {
		cmd := exec.Command("/bin/sh", "-c", script)
		ownProcess(cmd, nil, syscall.SIGKILL)
		return cmd
	}}
}

// A process tells its lines under its name, ends when it is asked to, and is killed if it
// does not.
func TestChild(t *testing.T) {
	var said lockedBuffer
	lines := make(chan string, 1)
	c := shellChild(&said, "trap 'exit 3' TERM; echo trouble >&2; echo ready; while :; do sleep 0.05; done")
	if err := c.start(func(line string) { lines <- line }); err != nil {
		t.Fatal(err)
	}
	if line := <-lines; line != "ready" {
		t.Errorf("it says %q", line)
	}
	c.end(patience)
	<-c.died()
	if c.state() != "exit status 3" || said.String() != "one | trouble\n" || c.last() != "trouble" {
		t.Errorf("it ended with %q, having said %q, at last %q", c.state(), said.String(), c.last())
	}
	if err := c.start(nil); err == nil {
		t.Error("it was started after its end")
	}
	deaf := shellChild(io.Discard, "trap '' TERM; echo ready; while :; do sleep 1; done")
	if err := deaf.start(func(line string) { lines <- line }); err != nil {
		t.Fatal(err)
	}
	<-lines
	deaf.end(50 * time.Millisecond)
	if got := deaf.state(); got != "signal: killed" {
		t.Errorf("one that does not listen ended with %q", got)
	}
}

// Its standard input ends with the process that has started it, so that it can end, too.
func TestChildHasAnInputThatWaits(t *testing.T) {
	c := shellChild(io.Discard, "read line || exit 5")
	if err := c.start(nil); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.died():
		t.Errorf("its input ended at once: %s", c.state())
	case <-time.After(100 * time.Millisecond):
	}
	c.end(patience)
}

// needPostgres skips a test where PostgreSQL is not to be run.
func needPostgres(t *testing.T) {
	t.Helper()
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS=1 runs it")
	}
	if _, err := findPostgres(); err != nil {
		t.Skip(err)
	}
}

// openFolder is a folder that another user may enter.
func openFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "martlet-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// startDatabase starts a PostgreSQL of the test's own, and returns it with the
// connection string.
func startDatabase(t *testing.T) *database {
	t.Helper()
	needPostgres(t)
	d, err := newDatabase(openFolder(t)+"/postgres", freeBase(t)+tryDatabasePort, io.Discard, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.prepare(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.server.end(patience) })
	if err := d.start(context.Background()); err != nil {
		t.Fatal(err)
	}
	return d
}

// A database is made once, answers to whoever has its password, comes back after a kill, and
// a server of it that is left is found and ended.
func TestTryDatabase(t *testing.T) {
	d := startDatabase(t)
	ctx := t.Context()
	c, err := pgx.Connect(ctx, d.url())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(ctx, "CREATE TABLE here (n int)"); err != nil {
		t.Fatal(err)
	}
	c.Close(ctx)
	if _, err := pgx.Connect(ctx, strings.Replace(d.url(), d.password, "wrong", 1)); err == nil || strings.Contains(err.Error(), d.password) {
		t.Errorf("with a wrong password: %v", err)
	}
	syscall.Kill(d.server.pid(), syscall.SIGKILL)
	<-d.server.died()
	again, err := newDatabase(d.dir, d.port, io.Discard, d.server.log)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.stopLeft(); err != nil {
		t.Error(err)
	}
	if err := again.prepare(); err != nil || again.password != d.password {
		t.Fatalf("%v, password kept %v", err, again.password == d.password)
	}
	if err := again.start(ctx); err != nil {
		t.Fatal(err)
	}
	if c, err = pgx.Connect(ctx, again.url()); err == nil {
		_, err = c.Exec(ctx, "SELECT n FROM here")
		c.Close(ctx)
	}
	if err != nil {
		t.Error(err)
	}
	if err := again.stopLeft(); err != nil {
		t.Error(err)
	}
	select {
	case <-again.server.died():
	default:
		t.Error("a server that was left still runs")
	}
}

// The configurations of nodes have no faults, and differ where they must.
func TestNodeConfig(t *testing.T) {
	c := &tryCluster{tryout: &tryout{dir: t.TempDir(), base: tryPortBase}, database: &database{port: 15432, password: "p/w"}}
	seen := map[conf.Address]bool{}
	for i := range tryNodes {
		n := c.newNode(i)
		if err := c.configure(n); err != nil {
			t.Fatal(err)
		}
		cfg, _, err := loadConfigFile(n.config)
		if err != nil {
			t.Fatal(err)
		}
		if cfg.Store.Engine != "postgres" || cfg.Store.URL != "postgres://martlet:p%2Fw@127.0.0.1:15432/martlet?sslmode=disable" || cfg.Cluster.Node != n.name {
			t.Errorf("%+v %+v", cfg.Store, cfg.Cluster)
		}
		for _, l := range cfg.Listen {
			if seen[l.Address] {
				t.Errorf("%s has the port of another", l.Address)
			}
			seen[l.Address] = true
		}
		if err := c.configure(n); err != nil {
			t.Errorf("a second time: %v", err)
		}
		if c.databasePort() != 15432 {
			t.Errorf("the database listens on %d", c.databasePort())
		}
	}
	if got := command(t, "", "try", "--store", "postgres", "--port-base", "60000"); got.code != 2 || !strings.Contains(got.err, "is not between 0 and") {
		t.Errorf("%+v", got)
	}
	if got := command(t, "", "try", "--store", "mysql"); got.code != 2 || !strings.Contains(got.err, "neither pebble nor postgres") {
		t.Errorf("%+v", got)
	}
}
