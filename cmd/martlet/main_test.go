package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// binary is the program under test, built once.
var binary struct {
	once sync.Once
	dir  string
	path string
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if binary.dir != "" {
		os.RemoveAll(binary.dir)
	}
	os.Exit(code)
}

// built returns the path of the binary: MARTLET_BINARY, or what this package builds.
func built(t *testing.T) string {
	t.Helper()
	if b := os.Getenv("MARTLET_BINARY"); b != "" {
		return b
	}
	binary.once.Do(func() {
		binary.dir, binary.err = os.MkdirTemp("", "martlet-bin-")
		if binary.err != nil {
			return
		}
		binary.path = filepath.Join(binary.dir, "martlet")
		out, err := exec.Command("go", "build", "-o", binary.path, ".").CombinedOutput()
		if err != nil {
			binary.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if binary.err != nil {
		t.Fatal(binary.err)
	}
	return binary.path
}

// ran is what a command did.
type ran struct {
	code     int
	out, err string
}

// command runs a command line in this process.
func command(t *testing.T, stdin string, args ...string) ran {
	t.Helper()
	var out, errOut bytes.Buffer
	code := run(context.Background(), args, strings.NewReader(stdin), &out, &errOut)
	return ran{code, out.String(), errOut.String()}
}

// basesGiven counts them: tests that run beside each other do not get the same.
var basesGiven atomic.Int64

// freeBase returns a port base whose ports nobody has at the moment.
func freeBase(t *testing.T) int {
	t.Helper()
	const low, step, bases = 20_000, 26, 450 // up to where connections get their ports
	for range bases {
		base := low + step*((os.Getpid()+int(basesGiven.Add(1))*97)%bases)
		if portsFree(base) {
			return base
		}
	}
	t.Fatal("no free ports")
	return 0
}

func portsFree(base int) bool {
	for _, s := range standardPorts {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", base+s.port))
		if err != nil {
			return false
		}
		ln.Close()
	}
	return true
}

// newConfig writes a configuration without listeners and returns its path.
func newConfig(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "martlet.toml")
	if err := os.WriteFile(path, []byte("hostname = \"mail.example.org\"\ndata = \"data\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
