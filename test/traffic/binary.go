package traffic

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// built is the server, once it has been built.
var built struct {
	once sync.Once
	dir  string
	err  error
}

// Main runs the tests of a package, with a place for the server that Binary builds.
func Main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "martlet-built-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	built.dir = dir
	return m.Run()
}

// Binary returns the path of the real server: MARTLET_BINARY, or else what the tree of
// this file builds, once for all tests of a package whose TestMain is Main.
func Binary(t testing.TB) string {
	t.Helper()
	if b := os.Getenv("MARTLET_BINARY"); b != "" {
		return b
	}
	path := filepath.Join(built.dir, "martlet")
	built.once.Do(func() {
		_, here, _, _ := runtime.Caller(0)
		cmd := exec.Command("go", "build", "-o", path, "./cmd/martlet")
		cmd.Dir = filepath.Join(filepath.Dir(here), "..", "..")
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("the server does not build: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return path
}
