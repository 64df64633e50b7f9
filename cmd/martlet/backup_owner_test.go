//go:build unix

package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// What root's own commands write into a backup belongs to the user who made it; if something
// there is not that user's, the command says so and what to do.
func TestRootAndBackups(t *testing.T) {
	a := newAsNobody(t, "nobody")
	if out, err := a.run("domain", "add", "example.org"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	info, err := os.Stat(a.data)
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	dir := filepath.Join(filepath.Dir(a.config), "backup")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"backup", dir}, {"backup", dir}, {"backup", "verify", dir}, {"backup", "prune", dir, "--keep-last", "1"}, {"backup", dir}} {
		if out, err := a.run(args...); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	data := a.data
	a.data = dir
	if found := a.owners(); len(found) != 1 || found[owner.Uid] == 0 {
		t.Errorf("files of the backup by user: %v, want only %d's", found, owner.Uid)
	}
	packs, _ := filepath.Glob(filepath.Join(dir, "packs", "*.pack"))
	if err := errors.Join(os.Chown(packs[0], 0, 0), os.Chmod(packs[0], 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(data, "store")); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"restore", dir, "--whole"}, {"backup", "verify", dir}, {"backup", "prune", dir, "--keep-last", "1"}} {
		if out, err := a.run(args...); err == nil || !strings.Contains(out, "chown -R") {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	if err := os.Chown(packs[0], int(owner.Uid), int(owner.Gid)); err != nil {
		t.Fatal(err)
	}
	if out, err := a.run("restore", dir, "--whole"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
