package traffic

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// Binary returns the path of the real server: MARTLET_BINARY, or else what the tree of
// this file builds.
func Binary(t testing.TB) string {
	t.Helper()
	return Build(t, filepath.Join(t.TempDir(), "martlet"))
}

// Build is Binary with a place for what is built.
func Build(t testing.TB, path string) string {
	t.Helper()
	if b := os.Getenv("MARTLET_BINARY"); b != "" {
		return b
	}
	_, here, _, _ := runtime.Caller(0)
	cmd := exec.Command("go", "build", "-o", path, "./cmd/martlet")
	cmd.Dir = filepath.Join(filepath.Dir(here), "..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the server does not build: %v\n%s", err, out)
	}
	return path
}
