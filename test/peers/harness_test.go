// Package peers runs the real server, as it is built, beside real mail programs: the
// ones people use, from Debian's packages, and other people's libraries.
//
// The tests start with MARTLET_PEERS=1, which `make test` sets, since they need those
// packages, root (for a private Postfix and a small file system) and some minutes.
// Each program gets a home directory of its own and a time limit; nothing is left
// running.
//
// With MARTLET_PEERS_AGAINST=dovecot the tests that need only IMAP, POP3 and LMTP run
// on a private Dovecot instead. What fails there is a mistake of the tests.
package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/peers/dovecot"
	"github.com/martlet-mail/martlet/test/peers/martlet"
)

// built is the binary under test, once for all tests.
var built string

func TestMain(m *testing.M) {
	if os.Getenv("MARTLET_PEERS") == "" {
		fmt.Println("peers: skipped; MARTLET_PEERS=1 runs them, see the package comment")
		return
	}
	dir, err := os.MkdirTemp("", "peers-")
	if err != nil {
		fmt.Println("peers:", err)
		os.Exit(1)
	}
	code := 1
	built = os.Getenv("MARTLET_BINARY")
	if built == "" {
		built = filepath.Join(dir, "martlet")
		err = build(built)
	}
	if err != nil {
		fmt.Println("peers:", err)
	} else {
		code = m.Run()
		programs.print()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

func build(path string) error {
	if against() == "dovecot" {
		return nil
	}
	cmd := exec.Command("go", "build", "-o", path, "./cmd/martlet")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("the server does not build: %w\n%s", err, out)
	}
	return nil
}

func against() string { return os.Getenv("MARTLET_PEERS_AGAINST") }

// tally counts how often each program ran.
type tally struct {
	mu   sync.Mutex
	runs map[string]int
}

var programs = tally{runs: map[string]int{}}

func (t *tally) add(name string) {
	t.mu.Lock()
	t.runs[filepath.Base(name)]++
	t.mu.Unlock()
}

func (t *tally) print() {
	var names []string
	for n := range t.runs {
		names = append(names, n)
	}
	slices.Sort(names)
	for i, n := range names {
		names[i] = fmt.Sprintf("%s %d", n, t.runs[n])
	}
	fmt.Println("peers: programs and how often each ran:", strings.Join(names, ", "))
}

// subject is the server under test.
type subject struct {
	*martlet.Server // nil for Dovecot
	addrs           map[string]string
	pid             int
	log             string
}

// start runs a server of its own for the test, with the accounts besides alice and
// bob.
func start(t *testing.T, opt martlet.Options) *subject {
	t.Helper()
	if against() == "dovecot" {
		return startDovecot(t)
	}
	opt.Binary, opt.Dir = built, filepath.Join(t.TempDir(), "data")
	m, err := martlet.Start(opt)
	if err != nil {
		t.Fatal(err)
	}
	programs.add("martlet")
	s := &subject{Server: m, addrs: map[string]string{}, pid: m.PID, log: m.Log}
	for name := range m.Ports {
		s.addrs[name] = m.Addr(name)
	}
	t.Cleanup(func() {
		err := m.Stop()
		if t.Failed() {
			t.Logf("the server's log ends\n%s", m.LogTail(15))
		}
		if err != nil {
			t.Errorf("the server did not stop cleanly: %v", err)
		}
		if log, _ := os.ReadFile(m.Log); bytes.Contains(log, []byte("panic")) || bytes.Contains(log, []byte("DATA RACE")) {
			t.Errorf("the server's log tells of a panic or a race\n%s", excerpt(log, "panic", "DATA RACE"))
		}
	})
	return s
}

// excerpt returns the part of log behind the first of the words.
func excerpt(log []byte, words ...string) []byte {
	for _, w := range words {
		if i := bytes.Index(log, []byte(w)); i >= 0 {
			return log[i:min(i+3_000, len(log))]
		}
	}
	return nil
}

func startDovecot(t *testing.T) *subject {
	t.Helper()
	d, err := dovecot.Start(filepath.Join(t.TempDir(), "d"), dovecot.Maildir)
	if err != nil {
		t.Fatal(err)
	}
	programs.add("dovecot")
	t.Cleanup(func() {
		d.Stop()
		if t.Failed() {
			log, _ := os.ReadFile(d.Log)
			t.Logf("Dovecot's log ends\n%s", log[max(len(log)-3_000, 0):])
		}
	})
	return &subject{addrs: map[string]string{"imap": d.IMAP, "pop3": d.POP3, "lmtp": d.LMTP}, pid: d.PID, log: d.Log}
}

// need skips a test that Dovecot has no listener for.
func (s *subject) need(t *testing.T, listeners ...string) {
	t.Helper()
	for _, l := range listeners {
		if s.addrs[l] == "" {
			if s.Server == nil {
				t.Skipf("Dovecot has no %s here", l)
			}
			t.Fatalf("the server has no listener %s", l)
		}
	}
}

func (s *subject) addr(name string) string { return s.addrs[name] }

func (s *subject) host(name string) (host, port string) {
	host, port, _ = strings.Cut(s.addrs[name], ":")
	return host, port
}

// account returns the login of a name.
func (s *subject) account(t *testing.T, name string) martlet.Account {
	t.Helper()
	if s.Server == nil {
		return martlet.Account{Address: name + "@martlet.test", Password: dovecot.Password}
	}
	a := s.Account(name)
	if a.Address == "" {
		t.Fatalf("the server has no account %s", name)
	}
	return a
}

// result is what a program left.
type result struct {
	out, err string
	code     int
}

// program is a program to run.
type program struct {
	name  string
	args  []string
	home  string // HOME and working directory; empty means a new one
	in    string
	env   []string
	limit time.Duration // 60 s
	as    string        // user that owns the home and runs the program; empty means this one
}

// run runs the program and returns how it ended. A missing program fails the test: a
// suite that passes because nothing is installed says nothing.
func (p program) run(t *testing.T) result {
	t.Helper()
	if _, err := exec.LookPath(p.name); err != nil {
		t.Fatalf("%s is not installed (make test installs it): %v", p.name, err)
	}
	if p.home == "" {
		p.home = t.TempDir()
	}
	if p.limit == 0 {
		p.limit = time.Minute
	}
	ctx, cancel := context.WithTimeout(t.Context(), p.limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.name, p.args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if p.as != "" {
		cmd.SysProcAttr.Credential = give(t, p.home, p.as)
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	cmd.Dir = p.home
	cmd.Env = append([]string{"HOME=" + p.home, "PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "TERM=dumb", "TZ=UTC",
		"XDG_CONFIG_HOME=" + p.home, "XDG_RUNTIME_DIR=" + p.home}, p.env...)
	cmd.Stdin = strings.NewReader(p.in)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	programs.add(p.name)
	var exit *exec.ExitError
	if ctx.Err() != nil {
		t.Fatalf("%s did not end within %s\n%s%s", p, p.limit, tail(out.String()), tail(errOut.String()))
	} else if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", p, err)
	}
	return result{out.String(), errOut.String(), cmd.ProcessState.ExitCode()}
}

// give hands a directory and what is in it to a user.
func give(t *testing.T, dir, name string) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	var uid, gid int
	fmt.Sscan(u.Uid, &uid)
	fmt.Sscan(u.Gid, &gid)
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chown(path, uid, gid))
	})
	err = errors.Join(err, os.Chmod(filepath.Dir(dir), 0o711))
	if err != nil {
		t.Fatalf("this test needs root: %v", err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func (p program) String() string { return p.name + " " + strings.Join(p.args, " ") }

// succeed is run for a program that must end with code 0.
func (p program) succeed(t *testing.T) result {
	t.Helper()
	r := p.run(t)
	if r.code != 0 {
		t.Fatalf("%s ended with code %d\n%s\n%s", p, r.code, tail(r.out), tail(r.err))
	}
	return r
}

func tail(s string) string { return s[max(len(s)-4_000, 0):] }

// write writes a file into a program's home.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// within waits until what is true, for the time at most.
func within(t *testing.T, limit time.Duration, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if is() {
			return
		}
	}
	t.Fatalf("after %s still not: %s", limit, what)
}
