package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
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
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
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
	case <-again.server.died(): // a moment later, when its parent has taken note
	case <-time.After(patience):
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

// freeNodesBase is freeBase for two nodes and a database.
func freeNodesBase(t *testing.T) int {
	t.Helper()
	for base := 12000 + os.Getpid()%300*20; base < 20000; base += 17 {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", base+tryDatabasePort))
		if err != nil {
			continue
		}
		ln.Close()
		if portsFree(base) && portsFree(base+nodeStep) {
			return base
		}
	}
	t.Fatal("no free ports")
	return 0
}

// at is the same server by way of another node.
func (s *running) at(node int) *running {
	other := *s
	other.ready.Ports = s.ready.Nodes[node].Ports
	return &other
}

// Two nodes on a database by one command: what one takes in the other announces, one goes on
// when the other is killed, commands work on both and beside both, and nothing is left when
// the whole is killed.
func TestTryNodes(t *testing.T) {
	t.Parallel()
	needPostgres(t)
	dir := filepath.Join(openFolder(t), "new", "folder")
	args := []string{"--store", "postgres", "--dir", dir, "--port-base", fmt.Sprint(freeNodesBase(t))}
	s := startTry(t, args...)
	r := s.ready
	if len(r.Nodes) != 2 || r.Nodes[0].Config != r.Config || r.Ports["imap"] != r.Nodes[0].Ports["imap"] || r.Nodes[1].Ports["imap"] != r.Ports["imap"]+nodeStep || len(r.Accounts) != 2 || r.Database == nil {
		t.Fatalf("%s", s.line)
	}
	idlesAcross(t, s)
	commandsOnNodes(t, s, dir)

	syscall.Kill(r.Nodes[0].PID, syscall.SIGKILL)
	got := s.at(1).imap(t, s.login(1), "SELECT INBOX")
	if !strings.Contains(got, "* 2 EXISTS") {
		t.Errorf("with the other node killed:\n%s", got)
	}
	s.cmd.Process.Kill()
	s.cmd.Wait()
	again := startTry(t, args...)
	if fmt.Sprint(again.ready.Accounts) != fmt.Sprint(r.Accounts) {
		t.Errorf("accounts %v, before the kill %v", again.ready.Accounts, r.Accounts)
	}
	if got := again.imap(t, again.login(1), "SELECT INBOX"); !strings.Contains(got, "* 2 EXISTS") {
		t.Errorf("after a kill of all:\n%s", got)
	}
	second := runBinary(t, nil, append([]string{"try", "--json"}, args...)...)
	if second.code != 1 || !strings.Contains(second.err, "another martlet try runs on "+dir) {
		t.Errorf("a second try: %+v", second)
	}
	if code := again.end(syscall.SIGTERM); code != 0 {
		t.Errorf("SIGTERM: exit code %d, want 0 within 5 seconds\n%s", code, again.log)
	}
	for _, pid := range []int{again.ready.Nodes[0].PID, again.ready.Nodes[1].PID, again.ready.Database.PID} {
		if syscall.Kill(pid, 0) == nil {
			t.Errorf("process %d is left", pid)
		}
	}
	databaseWithoutNodes(t, r.Config, dir)
}

// idlesAcross has a session idle on one node and another node deliver.
func idlesAcross(t *testing.T, s *running) {
	t.Helper()
	idle, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.ready.Ports["imap"]))
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	idle.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(idle, "a %s\r\nb SELECT INBOX\r\nc IDLE\r\n", s.login(1))
	lines := bufio.NewReader(idle)
	until := func(want string) {
		t.Helper()
		for {
			l, err := lines.ReadString('\n')
			if err != nil {
				t.Fatalf("%q does not come: %v", want, err)
			}
			if strings.HasPrefix(l, want) {
				return
			}
		}
	}
	until("+ ")
	msg := "From: a@example.org\r\nTo: bob@martlet.test\r\nSubject: across\r\n\r\nhello\r\n"
	deliverPlain(t, s.ready.Nodes[1].Ports["lmtp"], s.ready.Accounts[1].Address, msg)
	until("* 2 EXISTS")
}

func deliverPlain(t *testing.T, port int, to, msg string) {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	answers := bufio.NewReader(c)
	for _, step := range [][2]string{{"LHLO x\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<" + to + ">\r\nDATA\r\n", "354"}, {msg + ".\r\n", "250"}} {
		fmt.Fprint(c, step[0])
		for said := ""; !strings.HasPrefix(said, step[1]); {
			if said, err = answers.ReadString('\n'); err != nil || said[0] > '3' {
				t.Fatalf("%q, %v", said, err)
			}
		}
	}
}

// commandsOnNodes tries commands by way of a node's server, and on the database beside both.
func commandsOnNodes(t *testing.T, s *running, dir string) {
	t.Helper()
	text, err := os.ReadFile(s.ready.Config)
	if err != nil {
		t.Fatal(err)
	}
	beside := filepath.Join(dir, "beside.toml")
	text = []byte(strings.NewReplacer(`data = "node1"`, `data = "beside"`, `node = "node1"`, `node = "beside"`).Replace(string(text)))
	if err := os.WriteFile(beside, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for i, config := range []string{s.ready.Config, beside} {
		for _, c := range []string{
			"domain list", "account list", "mailbox list alice@martlet.test", "queue list", "queue retry --all", "verify", "cluster status", "link list", "undelete alice@martlet.test",
			fmt.Sprintf("account add carol%d@martlet.test", i), fmt.Sprintf("alias add sales%d@martlet.test carol%d@martlet.test", i, i), fmt.Sprintf("backup %s/backup%d", dir, i),
			fmt.Sprintf("export mbox --account bob@martlet.test --out %s/mbox%d", dir, i), fmt.Sprintf("import mbox %s/mbox%d --to carol%d@martlet.test --yes", dir, i, i),
			fmt.Sprintf("account passwd carol%d@martlet.test", i), fmt.Sprintf("restore %s/backup%d --account bob@martlet.test --merge --json", dir, i), fmt.Sprintf("account remove carol%d@martlet.test", i),
		} {
			if got := runBinary(t, nil, append(strings.Fields(c), "--json", "--config", config)...); got.code != 0 && !strings.HasPrefix(c, "undelete") {
				t.Errorf("martlet %s with %s: %+v", c, filepath.Base(config), got)
			}
		}
		for c, says := range map[string]string{"verify --repair": "stop", "store copy --from postgres --to pebble": "stop", "restore " + dir + "/backup0 --whole": "is not empty"} {
			if got := runBinary(t, nil, append(strings.Fields(c), "--json", "--config", config)...); got.code != 1 || !strings.Contains(got.err, says) {
				t.Errorf("martlet %s with %s: %+v", c, filepath.Base(config), got)
			}
		}
	}
	if got := runBinary(t, nil, "doctor", "--json", "--config", s.ready.Config); !strings.Contains(got.out, `{"check":"database","status":"ok"`) || !strings.Contains(got.out, `{"check":"database-standby","status":"warn"`) || !strings.Contains(got.out, `{"check":"nodes","status":"ok"`) {
		t.Errorf("%s", got.out)
	}
}

// databaseWithoutNodes tries what needs a database that no node works on.
func databaseWithoutNodes(t *testing.T, config, dir string) {
	t.Helper()
	d, err := newDatabase(filepath.Join(dir, "postgres"), (&tryCluster{tryout: &tryout{dir: dir}}).databasePort(), io.Discard, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.prepare(), d.start(t.Context())); err != nil {
		t.Fatal(err)
	}
	defer d.server.end(patience)
	if got := runBinary(t, nil, "verify", "--repair", "--json", "--config", config); got.code != 0 || !strings.Contains(got.out, `"ok":true`) {
		t.Errorf("verify --repair: %+v", got)
	}
	c, err := pgx.Connect(t.Context(), d.url())
	if err == nil {
		_, err = c.Exec(t.Context(), "CREATE DATABASE other")
		c.Close(t.Context())
	}
	text, rerr := os.ReadFile(config)
	if err := errors.Join(err, rerr); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other.toml")
	if err := os.WriteFile(other, bytes.Replace(text, []byte("/martlet?"), []byte("/other?"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := runBinary(t, nil, "restore", dir+"/backup0", "--whole", "--json", "--config", other); got.code != 0 || !strings.Contains(got.out, `"failed":0`) {
		t.Errorf("restore --whole: %+v", got)
	}
	if got := runBinary(t, nil, "verify", "--json", "--config", other); got.code != 0 || !strings.Contains(got.out, `"accounts":3`) {
		t.Errorf("verify of what was restored: %+v", got)
	}
	if got := runBinary(t, nil, "restore", dir+"/backup0", "--whole", "--config", other); got.code != 1 || !strings.Contains(got.err, "is not empty") {
		t.Errorf("restore --whole a second time: %+v", got)
	}
}
