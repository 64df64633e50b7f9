// Package pgtest starts private PostgreSQL servers for tests: real ones, in folders of
// their own, which can be killed, frozen, started again, followed by a standby, and reached
// over a wire that breaks where the test says.
//
// It is for tests alone and knows nothing of what they store. Where the server's programs
// are missing, the test is skipped and says so.
package pgtest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Options say what server it is to be. Zero is one that syncs each commit to its disk.
type Options struct {
	Settings map[string]string // of postgresql.conf
}

// Server is a PostgreSQL server of the test.
type Server struct {
	dir      string // of everything
	data     string
	port     int
	settings map[string]string
	process  *os.Process
	ended    chan struct{} // closed when the process is gone
	log      string
	standbys int
}

// Start starts a server that ends with the test.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s, err := start(t, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Remove)
	return s
}

func start(t testing.TB, o Options) (*Server, error) {
	if tool("initdb") == "" || tool("postgres") == "" {
		t.Skip("PostgreSQL's initdb and postgres are not installed: apt-get install postgresql")
	}
	template, done, err := cluster()
	if err != nil {
		return nil, err
	}
	defer done()
	s, err := newServer(o.Settings)
	if err != nil {
		return nil, err
	}
	if err := run("cp", "-a", template, s.data); err != nil {
		return nil, err
	}
	return s, s.Start()
}

func newServer(settings map[string]string) (*Server, error) {
	dir, err := folder()
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	return &Server{dir: dir, data: filepath.Join(dir, "data"), log: filepath.Join(dir, "log"), port: port, settings: settings}, nil
}

// freePort returns a port that nobody listens on now.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// URL returns where the server is reached over its socket in the file system.
func (s *Server) URL() string { return s.urlOf("postgres", s.dir) }

// TCP returns where it is reached over the loopback.
func (s *Server) TCP() string { return s.urlOf("postgres", "127.0.0.1") }

// Address returns host and port of its TCP listener.
func (s *Server) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

func (s *Server) urlOf(database, host string) string {
	return fmt.Sprintf("host=%s port=%d user=postgres dbname=%s sslmode=disable", host, s.port, database)
}

// By returns a URL that leads to the same database by way of an address: the server's, or
// that of a proxy.
func By(url, address string) string {
	host, port, _ := net.SplitHostPort(address)
	fields := strings.Fields(url)
	for i, f := range fields {
		switch name, _, _ := strings.Cut(f, "="); name {
		case "host":
			fields[i] = "host=" + host
		case "port":
			fields[i] = "port=" + port
		}
	}
	return strings.Join(fields, " ")
}

// Folder returns where its files are.
func (s *Server) Folder() string { return s.data }

// Database makes an empty database and returns its URL over the socket.
func (s *Server) Database(t testing.TB, name string) string {
	t.Helper()
	if err := s.SQL("CREATE DATABASE " + name); err != nil {
		t.Fatal(err)
	}
	return s.urlOf(name, s.dir)
}

// Schema makes an empty schema in the database postgres and returns a URL over the socket by
// which names are looked up there: as good as a database of its own, and made ten times as
// fast.
func (s *Server) Schema(t testing.TB, name string) string {
	t.Helper()
	if err := s.SQL("CREATE SCHEMA " + name); err != nil {
		t.Fatal(err)
	}
	return s.URL() + " search_path=" + name
}

// DatabaseTCP is the URL of a database over TCP, by way of an address: the server's, or
// that of a proxy.
func (s *Server) DatabaseTCP(name, address string) string {
	host, port, _ := net.SplitHostPort(address)
	return fmt.Sprintf("host=%s port=%s user=postgres dbname=%s sslmode=disable", host, port, name)
}

// SQL runs statements, each in a transaction of its own.
func (s *Server) SQL(statements ...string) error {
	_, err := s.Query(statements...)
	return err
}

// Query runs statements and returns what they print: fields by "|", rows by lines.
func (s *Server) Query(statements ...string) (string, error) {
	return s.QueryIn("postgres", statements...)
}

// QueryIn is Query in another database than postgres.
func (s *Server) QueryIn(database string, statements ...string) (string, error) {
	ctx := context.Background()
	c, err := pgconn.Connect(ctx, s.urlOf(database, s.dir))
	if err != nil {
		return "", err
	}
	defer c.Close(ctx)
	var lines []string
	for _, st := range statements {
		results, err := c.Exec(ctx, st).ReadAll()
		if err != nil {
			return "", fmt.Errorf("%s: %w", st, err)
		}
		for _, result := range results {
			for _, row := range result.Rows {
				lines = append(lines, string(bytes.Join(row, []byte("|"))))
			}
		}
	}
	return strings.Join(lines, "\n"), nil
}

// Start starts the server, again if it had ended, and waits until it can be used.
func (s *Server) Start() error {
	args := []string{"-D", s.data, "-k", s.dir, "-p", strconv.Itoa(s.port)}
	all := map[string]string{
		"listen_addresses": "127.0.0.1", "shared_buffers": "64MB", "max_connections": "150", "max_wal_size": "1GB",
		"wal_level": "replica", "max_wal_senders": "5", "logging_collector": "off", "log_checkpoints": "off",
		"unix_socket_permissions": "0777", "autovacuum_naptime": "30s", "wal_sender_timeout": "20s",
	}
	for k, v := range s.settings {
		all[k] = v
	}
	for k, v := range all {
		args = append(args, "-c", k+"="+v)
	}
	if err := s.launch(args); err != nil {
		return err
	}
	return s.await()
}

// launch starts the process from a thread that stays: its death is that of the server.
func (s *Server) launch(args []string) error {
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(tool("postgres"), args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/bin:/bin", "TZ=UTC"}
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: credential(), Pdeathsig: syscall.SIGQUIT}
	started := make(chan error)
	ended := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(ended)
	}()
	if err := <-started; err != nil {
		return err
	}
	s.process, s.ended = cmd.Process, ended
	return nil
}

// await waits until the server takes connections.
func (s *Server) await() error {
	for range 600 {
		select {
		case <-s.ended:
			return fmt.Errorf("the server has ended: %s", s.Log())
		default:
		}
		if answers(s.urlOf("postgres", s.dir)) {
			return nil
		}
		time.Sleep(30 * time.Millisecond)
	}
	return fmt.Errorf("the server does not begin to work: %s", s.Log())
}

// answers tells whether somebody can work there: not while a server starts or ends.
func answers(url string) bool {
	c, err := pgconn.Connect(context.Background(), url)
	if err != nil {
		return false
	}
	_ = c.Close(context.Background())
	return true
}

// Log returns what the server has logged.
func (s *Server) Log() string {
	b, _ := os.ReadFile(s.log)
	return string(b)
}

// Stop ends the server in order: sessions are ended, what is on its way is written.
func (s *Server) Stop() { s.end(syscall.SIGINT) }

// Kill ends the server and all its processes without a chance to do anything more.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

func (s *Server) end(sig syscall.Signal) {
	if s.process == nil {
		return
	}
	s.Thaw()
	if sig == syscall.SIGKILL {
		// The children have groups of their own, and would notice that the first is gone.
		pids := append(children(s.process.Pid), s.process.Pid)
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		defer gone(pids)
	} else {
		_ = s.process.Signal(sig)
	}
	<-s.ended
	s.process = nil
}

// gone waits until processes have ended: a server does not start beside them.
func gone(pids []int) {
	for _, pid := range pids {
		for range 1000 {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if _, after, ok := bytes.Cut(b, []byte(") ")); err != nil || ok && after[0] == 'Z' {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// Freeze stops all processes of the server where they are; Thaw lets them go on.
func (s *Server) Freeze() { s.signalAll(syscall.SIGSTOP) }

// Thaw ends Freeze.
func (s *Server) Thaw() { s.signalAll(syscall.SIGCONT) }

func (s *Server) signalAll(sig syscall.Signal) {
	if s.process == nil {
		return
	}
	_ = syscall.Kill(s.process.Pid, sig)
	for _, pid := range children(s.process.Pid) {
		_ = syscall.Kill(pid, sig)
	}
}

// children returns the processes that a process has started.
func children(parent int) (list []int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", parent, parent))
	if err != nil {
		return nil
	}
	for _, f := range bytes.Fields(b) {
		if pid, err := strconv.Atoi(string(f)); err == nil {
			list = append(list, pid)
		}
	}
	return list
}

// Work returns the processor time that the server and its present processes have used.
func (s *Server) Work() (sum time.Duration) {
	if s.process == nil {
		return 0
	}
	for _, pid := range append(children(s.process.Pid), s.process.Pid) {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		_, rest, _ := strings.Cut(string(b), ") ")
		if f := strings.Fields(rest); len(f) > 12 {
			for _, ticks := range f[11:13] { // of a hundredth of a second each
				n, _ := strconv.Atoi(ticks)
				sum += time.Duration(n) * 10 * time.Millisecond
			}
		}
	}
	return sum
}

// Remove kills the server and removes its files.
func (s *Server) Remove() {
	s.Kill()
	_ = os.RemoveAll(s.dir)
}
