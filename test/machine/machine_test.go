//go:build linux

// Package machine is what a machine does to the real server: it restarts it, and runs out
// of space, of descriptors, of threads and of memory. Clients work meanwhile and keep a
// ledger.
//
// It needs MARTLET_PEERS=1, and most of it root.
package machine

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/peers/martlet"
	"github.com/martlet-mail/martlet/test/traffic"
)

func TestMain(m *testing.M) { os.Exit(traffic.Main(m)) }

// needsPeers skips a test that starts the real server where that was not asked for.
func needsPeers(t *testing.T) {
	t.Helper()
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS=1 runs it")
	}
}

// start starts a server in a folder of its own, which ends with the test.
func start(t *testing.T, opt martlet.Options) *martlet.Server {
	t.Helper()
	opt.Binary = traffic.Binary(t)
	if opt.Dir == "" {
		opt.Dir = filepath.Join(t.TempDir(), "try")
	}
	s, err := martlet.Start(opt)
	must(t, err)
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("the server's log ends\n%s", s.LogTail(25))
		}
	})
	return s
}

// sound checks that nothing differs from the ledger and that the store is whole.
func sound(t *testing.T, s *martlet.Server, l *traffic.Ledger) {
	t.Helper()
	v, err := l.Check(s)
	if err != nil || !v.OK() {
		t.Errorf("%v; %v", err, v)
	}
	if _, err := s.Command("verify", "--json"); err != nil {
		t.Error(err)
	}
}

// within waits until something holds.
func within(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// clients names n clients of each kind.
func clients(kinds map[string]int) (names []string) {
	for kind, n := range kinds {
		for i := range n {
			names = append(names, fmt.Sprint(kind, i))
		}
	}
	return names
}
