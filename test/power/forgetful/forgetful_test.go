//go:build linux

package forgetful

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// What was synced is there after a cut, what was not is not.
func TestCut(t *testing.T) {
	d, dir := mounted(t)
	sub := filepath.Join(dir, "sub")
	must(t, os.Mkdir(sub, 0o755))
	syncDir(t, dir)

	put(t, filepath.Join(sub, "whole"), "all of it", true)
	put(t, filepath.Join(sub, "bytes"), "synced", true)
	put(t, filepath.Join(sub, "old"), "moved", true)
	put(t, filepath.Join(sub, "gone"), "removed", true)
	put(t, filepath.Join(sub, "kept"), "unlinked", true)
	syncDir(t, sub)
	put(t, filepath.Join(sub, "nameless"), "synced, but not its name", true)
	put(t, filepath.Join(dir, "unsynced"), "neither", false)
	syncDir(t, dir)
	add(t, filepath.Join(sub, "bytes"), " and not")
	must(t, os.Truncate(filepath.Join(sub, "whole"), 3))
	must(t, os.Rename(filepath.Join(sub, "old"), filepath.Join(sub, "new")))
	must(t, os.Remove(filepath.Join(sub, "kept")))

	wantFiles(t, dir, "sub/bytes", "sub/gone", "sub/nameless", "sub/new", "sub/whole", "unsynced")
	again(t, d, dir, 0)
	wantFiles(t, dir, "sub/bytes", "sub/gone", "sub/kept", "sub/old", "sub/whole", "unsynced")
	for name, want := range map[string]string{
		"sub/bytes": "synced", "sub/whole": "all of it", "sub/old": "moved", "sub/kept": "unlinked", "unsynced": "",
	} {
		wantText(t, filepath.Join(dir, name), want)
	}

	must(t, os.Rename(filepath.Join(sub, "old"), filepath.Join(sub, "new")))
	must(t, os.Remove(filepath.Join(sub, "gone")))
	syncDir(t, sub)
	again(t, d, dir, 0)
	wantFiles(t, dir, "sub/bytes", "sub/kept", "sub/new", "sub/whole", "unsynced")
}

// With the whole share nothing is lost; with half of it some of many things are, and the
// same seed loses the same.
func TestShare(t *testing.T) {
	d, dir := mounted(t)
	put(t, filepath.Join(dir, "a"), "text", false)
	again(t, d, dir, 1)
	wantText(t, filepath.Join(dir, "a"), "text")

	var first string
	for range 2 {
		tr := newTree()
		n := tr.add(syscall.S_IFREG)
		tr.apply(change{{tr.root(), "f", n}})
		tr.syncDir(tr.root())
		n.write(make([]byte, 1000*sector), 0)
		n.sync()
		n.write(bytes.Repeat([]byte{1}, 1000*sector), 0)
		for i := range 100 {
			tr.apply(change{{tr.root(), string(rune('A' + i)), n}})
		}
		tr.cut(rand.New(rand.NewPCG(1, 2)), 0.5)
		ones := bytes.Count(tr.root().names["f"].data, []byte{1}) / sector
		if names := len(tr.root().names); ones < 300 || ones > 700 || names < 20 || names > 80 {
			t.Errorf("half of it is %d of 1000 sectors, %d of 100 names", ones, names)
		}
		if found := string(tr.root().names["f"].data); first == "" {
			first = found
		} else if found != first {
			t.Error("the same seed left something else")
		}
	}
}

// A file that was cut off and grew again does not have its old bytes.
func TestShrinkAndGrow(t *testing.T) {
	tr := newTree()
	n := tr.add(syscall.S_IFREG)
	n.write(bytes.Repeat([]byte{1}, 3*page), 0)
	n.sync()
	n.resize(10)
	n.write([]byte{2}, 2*page)
	n.sync()
	want := append(bytes.Repeat([]byte{1}, 10), make([]byte, 2*page-10)...)
	if !bytes.Equal(n.kept, append(want, 2)) {
		t.Errorf("%d bytes, not what was written", len(n.kept))
	}
}

// Syncing the directory that a file was moved to keeps what came before in the other.
func TestSyncDirInOrder(t *testing.T) {
	tr := newTree()
	a, b, f, g := tr.add(syscall.S_IFDIR), tr.add(syscall.S_IFDIR), tr.add(syscall.S_IFREG), tr.add(syscall.S_IFREG)
	tr.apply(change{{a, "x", f}})
	tr.apply(change{{a, "x", nil}, {b, "y", f}})
	tr.apply(change{{a, "x", g}})
	tr.syncDir(b)
	if a.keptNames["x"] != nil || b.keptNames["y"] != f || len(tr.pending) != 1 {
		t.Errorf("%v %v, %d pending", a.keptNames, b.keptNames, len(tr.pending))
	}
}

// A disk that lies keeps nothing.
func TestLies(t *testing.T) {
	d, dir := mounted(t)
	d.Lie()
	put(t, filepath.Join(dir, "a"), "text", true)
	syncDir(t, dir)
	again(t, d, dir, 0)
	wantFiles(t, dir)
}

// When the power goes, the call it goes before does nothing, and no other does.
func TestPowerOff(t *testing.T) {
	d, dir := mounted(t)
	told := 0
	d.CutAfter(3, func() { told++ })
	put(t, filepath.Join(dir, "a"), "x", false) // two calls
	if err := os.Mkdir(filepath.Join(dir, "b"), 0o755); !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "c"), 0o755); !errors.Is(err, syscall.EIO) || told != 1 {
		t.Error(err, told)
	}
	again(t, d, dir, 1)
	wantFiles(t, dir, "a")
}

func mounted(t *testing.T) (*Disk, string) {
	t.Helper()
	if err := Usable(); err != nil {
		t.Skipf("no file system can be mounted here, so this is NOT tested: %v", err)
	}
	dir := t.TempDir()
	d := New()
	must(t, d.Mount(dir))
	t.Cleanup(func() { must(t, d.Unmount()) })
	return d, dir
}

func again(t *testing.T, d *Disk, dir string, share float64) {
	t.Helper()
	must(t, d.Unmount())
	d.PowerOn(rand.New(rand.NewPCG(1, 1)), share)
	must(t, d.Mount(dir))
}

func put(t *testing.T, path, text string, sync bool) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	_, err = f.WriteString(text)
	must(t, err)
	if sync {
		must(t, f.Sync())
	}
	must(t, f.Close())
}

func add(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString(text)
	must(t, err)
	must(t, f.Close())
}

func syncDir(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
}

func wantFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	var got []string
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			got = append(got, rel)
		}
		return err
	}))
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("there are %q, not %q", got, want)
	}
}

func wantText(t *testing.T, path, want string) {
	t.Helper()
	if b, err := os.ReadFile(path); err != nil || string(b) != want {
		t.Errorf("%s: %q, %v, not %q", path, b, err, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
