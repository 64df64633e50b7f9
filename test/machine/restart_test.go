//go:build linux

package machine

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/peers/martlet"
	"github.com/martlet-mail/martlet/test/promise"
	"github.com/martlet-mail/martlet/test/traffic"
)

// sockets opens the ports of a server that is not running and has it started with them,
// as systemd does with those of a .socket unit: they stay open while it restarts.
func sockets(t *testing.T, s *martlet.Server) {
	t.Helper()
	var names []string
	var files []*os.File
	for name := range s.Ports {
		ln, err := net.Listen("tcp", s.Addr(name))
		must(t, err)
		t.Cleanup(func() { ln.Close() })
		f, err := ln.(*net.TCPListener).File()
		must(t, err)
		t.Cleanup(func() { f.Close() })
		names, files = append(names, name), append(files, f)
	}
	s.Before = func(cmd *exec.Cmd) {
		// The shell becomes the server, so it knows its process id.
		cmd.Args = append([]string{"sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
		cmd.ExtraFiles = files
		cmd.Env = append(os.Environ(), fmt.Sprintf("LISTEN_FDS=%d", len(files)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	}
}

// journal is how the sessions of all clients have ended.
type journal struct {
	mu                     sync.Mutex
	ends, turned, failures int
	first                  []string
}

// note sorts the end of a session. A client may be told that the server stops when it has
// nothing under way; or in place of the answer to a command, which then has done nothing.
// A message whose MAIL was answered must be answered, and no connection may be refused.
func (j *journal) note(client string, err error) {
	if err == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	var end *traffic.End
	ok := errors.As(err, &end) && !end.Refused && end.Said != ""
	switch traffic.Kind(client) {
	case "smtp", "lmtp", "submission":
		ok = ok && !end.Mid
	case "idle":
		ok = ok && strings.HasPrefix(end.Said, "* BYE")
	}
	switch j.ends++; {
	case !ok:
		if j.failures++; len(j.first) < 10 {
			j.first = append(j.first, fmt.Sprintf("%s: %v", client, err))
		}
	case end.Mid:
		j.turned++
	}
}

// TestRestartR12 restarts the server again and again under fifty clients, which come back
// at once each time.
func TestRestartR12(t *testing.T) {
	needsPeers(t)
	opt := martlet.Options{Accounts: []string{"carol"}, Serve: true}
	for i := range 6 {
		opt.Accounts = append(opt.Accounts, fmt.Sprint("pop", i))
	}
	s := start(t, opt)
	must(t, s.Stop())
	sockets(t, s)
	must(t, s.Restart())

	restarts := promise.Times(t, "R12", 5, 100)
	rng := rand.New(rand.NewPCG(12, 1))
	const idlers = 10
	crowd := &traffic.Crowd{Server: s, Ledger: traffic.NewLedger(), Seed: 12, Pause: 20 * time.Millisecond, Big: 100}
	var log journal
	wait := work(t, crowd, &log, clients(map[string]int{"smtp": 10, "lmtp": 6, "submission": 4, "append": 8, "move": 6, "pop": 6, "idle": idlers}))
	for i := range restarts {
		busy := crowd.Done() + 100 + rng.IntN(100)
		within(t, "the clients are at work", func() bool { return crowd.Done() >= busy && crowd.Idle() == idlers })
		if err := s.Stop(); err != nil {
			t.Errorf("restart %d: %v", i, err)
		}
		must(t, s.Restart())
	}
	busy := crowd.Done() + 100
	within(t, "the clients are at work again", func() bool { return crowd.Done() >= busy })
	crowd.Stop()
	wait()
	if log.failures > 0 {
		t.Errorf("%d of %d ends of sessions were failures, first: %s", log.failures, log.ends, strings.Join(log.first, "\n"))
	}
	sound(t, s, crowd.Ledger)
	if crowd.Byes() != idlers*restarts {
		t.Errorf("%d clients in IDLE were told BYE, not %d", crowd.Byes(), idlers*restarts)
	}
	if log.ends < 30*restarts {
		t.Errorf("%d sessions were ended: too little for a proof", log.ends)
	}
	promise.Kept(t, "R12", "restarts", restarts, "clients", 50, "transactions", crowd.Done(), "failed", 0,
		"told BYE in IDLE", crowd.Byes(), "commands turned away by BYE", log.turned, "lost", 0)
}

// work has clients work, and come back when a session has ended, until the crowd stops.
func work(t *testing.T, crowd *traffic.Crowd, log *journal, names []string) (wait func()) {
	crowd.Begin()
	t.Cleanup(crowd.Stop)
	crowd.Shift++
	var wg sync.WaitGroup
	for _, name := range names {
		wg.Go(func() {
			for round := 0; !crowd.Stopped(); round++ {
				log.note(name, crowd.Run(name, round))
			}
		})
	}
	return wg.Wait
}

// TestRestartNoticesKill has the server killed instead of stopped: if that is no failure,
// the test above proves nothing. Without sockets that stay, connections are refused, too.
func TestRestartNoticesKill(t *testing.T) {
	needsPeers(t)
	s := start(t, martlet.Options{Accounts: []string{"carol"}})
	crowd := &traffic.Crowd{Server: s, Ledger: traffic.NewLedger(), Seed: 13}
	var log journal
	wait := work(t, crowd, &log, clients(map[string]int{"smtp": 4, "append": 4, "idle": 2}))
	time.Sleep(300 * time.Millisecond)
	s.Kill()
	time.Sleep(50 * time.Millisecond)
	must(t, s.Restart())
	crowd.Stop()
	wait()
	if log.failures < 10 {
		t.Errorf("a kill under 10 clients was %d failures", log.failures)
	}
}
