package pgtest

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"sync"
	"syscall"
	"testing"
)

// tool returns the path of one of the server's programs, the newest of those installed, ""
// if there is none.
func tool(name string) string {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		return n
	}
	sort.Slice(found, func(i, j int) bool { return version(found[i]) < version(found[j]) })
	if len(found) > 0 {
		return found[len(found)-1]
	}
	path, _ := exec.LookPath(name)
	return path
}

// Installed tells whether the server's programs are there.
func Installed() bool { return tool("initdb") != "" && tool("postgres") != "" }

// credential returns as whom the server runs: root is refused by it.
func credential() *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// folder makes a folder that belongs to the server. Its name is short: that of a socket
// in it may have about a hundred bytes.
func folder() (string, error) {
	dir, err := os.MkdirTemp("/tmp", "pgtest-")
	if err != nil {
		return "", err
	}
	if c := credential(); c != nil {
		if err := os.Chown(dir, int(c.Uid), int(c.Gid)); err != nil {
			return "", err
		}
	}
	return dir, os.Chmod(dir, 0o755)
}

// run runs a program as whom the server runs.
func run(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential()}
	cmd.Dir = "/tmp"
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/bin:/bin", "TZ=UTC"}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// template is a cluster as initdb makes it, which all servers of this process are copies
// of. It is removed when nobody needs it.
var template struct {
	mu    sync.Mutex
	dir   string
	users int
}

// cluster returns the template; done gives it back.
func cluster() (dir string, done func(), err error) {
	template.mu.Lock()
	defer template.mu.Unlock()
	if template.dir == "" {
		made, err := folder()
		if err != nil {
			return "", nil, err
		}
		if err := run(tool("initdb"), "-N", "-D", filepath.Join(made, "data"), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-locale", "--wal-segsize=1"); err != nil {
			_ = os.RemoveAll(made)
			return "", nil, err
		}
		template.dir = made
	}
	template.users++
	return filepath.Join(template.dir, "data"), sync.OnceFunc(release), nil
}

func release() {
	template.mu.Lock()
	defer template.mu.Unlock()
	if template.users--; template.users == 0 {
		_ = os.RemoveAll(template.dir)
		template.dir = ""
	}
}

// Main runs the tests of a package whose servers share one template and, by Shared, one
// server: func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }.
func Main(m *testing.M) int {
	if !Installed() {
		return m.Run()
	}
	_, done, err := cluster()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer done()
	defer func() {
		shared.mu.Lock()
		defer shared.mu.Unlock()
		if shared.server != nil {
			shared.server.Remove()
			shared.server = nil
		}
	}()
	shared.kept = true
	return m.Run()
}

var shared struct {
	mu     sync.Mutex
	kept   bool // Main ends the server
	server *Server
	n      int
}

// Shared returns the URL of an empty schema on a server that the tests of this process
// share. Nobody may harm the server. Without Main it is a server of this test alone.
func Shared(t testing.TB) (url string) {
	t.Helper()
	s, n := sharedServer(t)
	return s.Schema(t, "test"+strconv.Itoa(n))
}

// SharedServer returns the server of Shared.
func SharedServer(t testing.TB) *Server {
	t.Helper()
	s, _ := sharedServer(t)
	return s
}

func sharedServer(t testing.TB) (*Server, int) {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	shared.n++
	if !shared.kept {
		return Start(t, Options{}), shared.n
	}
	if shared.server == nil {
		s, err := start(t, Options{})
		if err != nil {
			t.Fatal(err)
		}
		shared.server = s
	}
	return shared.server, shared.n
}
