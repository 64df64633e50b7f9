package inject

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestMain(m *testing.M) {
	Enter()
	if os.Getenv("INJECT_WORK") != "" {
		work(os.Getenv("INJECT_WORK"))
		return
	}
	os.Exit(m.Run())
}

// work is what the program under test does: ten times it writes and syncs.
func work(folder string) {
	f, err := os.Create(filepath.Join(folder, "a"))
	if err != nil {
		panic(err)
	}
	for i := range 10 {
		done := make(chan error)
		go func() { // by whatever thread
			runtime.LockOSThread()
			_, err := f.Write([]byte{byte('0' + i)})
			done <- err
		}()
		if err := <-done; err != nil {
			println("write", i, err.Error())
		}
		if err := f.Sync(); err != nil {
			println("sync", i, err.Error())
		}
	}
	if _, err := f.Write([]byte("abcd")); err != nil {
		println("write", 10, err.Error())
	}
	if err := os.Rename(filepath.Join(folder, "a"), filepath.Join(folder, "b")); err != nil {
		println("rename", err.Error())
	}
	if _, err := os.ReadFile(filepath.Join(folder, "b")); err != nil {
		println("read", err.Error())
	}
}

// run runs work under a rule and returns what it said, the file that it left, and how it ended.
func run(t *testing.T, rule Rule) (said, left string, err error) {
	t.Helper()
	folder := t.TempDir()
	tap := New(folder, append(slices.Clone(Changes), Reads...)...)
	tap.Set(rule)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "INJECT_WORK="+folder)
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := tap.Wrap(cmd); err != nil {
		t.Fatal(err)
	}
	err = cmd.Run()
	b, _ := os.ReadFile(filepath.Join(folder, "a"))
	c, _ := os.ReadFile(filepath.Join(folder, "b"))
	return out.String(), string(b) + "|" + string(c), err
}

// nth answers the nth call of a kind, and with ever those after it.
func nth(kind string, n int, ever bool, a Answer) Rule {
	seen := 0
	return func(c Call) Answer {
		if c.Kind != kind {
			return Answer{}
		}
		if seen++; seen == n || ever && seen > n {
			return a
		}
		return Answer{}
	}
}

func TestCalls(t *testing.T) {
	if err := Works(); err != nil {
		t.Skipf("calls to the system cannot be seen here: %v", err)
	}
	eio := Answer{Errno: syscall.EIO}
	for _, c := range []struct {
		what       string
		rule       Rule
		said, left string
		killed     bool
	}{
		{"nothing", nil, "", "|0123456789abcd", false},
		{"one write", nth("write", 4, false, eio), "write 3 write", "|012456789abcd", false},
		{"writes for ever", nth("write", 9, true, eio), "write 8 write", "|01234567", false},
		{"sync", nth("fsync", 2, false, eio), "sync 1 sync", "|0123456789abcd", false},
		{"rename", nth("renameat", 1, false, eio), "rename rename", "0123456789abcd|", false},
		{"create", nth("openat", 1, false, eio), "panic: open", "|", true},
		{"open", nth("open", 1, true, eio), "read open", "|0123456789abcd", false},
		{"lie", nth("write", 4, true, Answer{Lie: true}), "", "|012", false},
		{"kill at a write", nth("write", 4, false, Answer{Kill: true}), "", "012|", true},
		{"kill in a write", nth("write", 11, false, Answer{Kill: true, Half: true}), "", "0123456789ab|", true},
		{"kill at a sync", nth("fsync", 4, false, Answer{Kill: true}), "", "0123|", true},
		{"kill at the rename", nth("renameat", 1, false, Answer{Kill: true}), "", "0123456789abcd|", true},
	} {
		said, left, err := run(t, c.rule)
		if !strings.HasPrefix(said, c.said) || c.said == "" && said != "" || left != c.left || (err != nil) != c.killed {
			t.Errorf("%s: said %q, left %q, %v", c.what, said, left, err)
		}
	}
	if _, left, _ := run(t, func(c Call) Answer {
		if c.Path != "a" && c.Path != "b" {
			t.Errorf("a call on %q", c.Path)
		}
		return Answer{}
	}); left != "|0123456789abcd" {
		t.Errorf("left %q", left)
	}
}
