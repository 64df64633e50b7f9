//go:build linux

package machine

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/peers/martlet"
	"github.com/martlet-mail/martlet/test/promise"
	"github.com/martlet-mail/martlet/test/traffic"
)

// TestNoDescriptorsR8 lowers the limit of file descriptors under a server at work and takes
// what is left by connections. Who is connected goes on, large messages for which the
// store needs new files too; the server does not spin; when the connections go, others
// come in.
func TestNoDescriptorsR8(t *testing.T) {
	needsPeers(t)
	s := start(t, martlet.Options{Accounts: []string{"carol"}, Serve: true})
	must(t, s.Stop())
	must(t, s.Restart())
	crowd := &traffic.Crowd{
		Server: s, Ledger: traffic.NewLedger(), Seed: 8, Big: 4, Pause: 5 * time.Millisecond,
		Refused: func(_ string, r *traffic.Refusal) bool { return r.Temporary() },
	}
	trials := promise.Times(t, "R8", 1, 20)
	turnedAway := 0
	for i := range trials {
		var log journal
		wait := work(t, crowd, &log, clients(map[string]int{"smtp": 2, "lmtp": 2, "append": 2, "move": 1, "idle": 1}))
		busy := crowd.Done() + 30
		within(t, "the clients are at work", func() bool { return crowd.Done() >= busy && crowd.Idle() == 1 })

		limitDescriptors(t, s.PID, uint64(descriptors(t, s.PID)+20))
		hogs := occupy(t, s, 100)
		turnedAway += 100 - open(hogs)
		busy = crowd.Done() + 60
		within(t, fmt.Sprintf("trial %d: who is connected goes on", i), func() bool { return crowd.Done() >= busy })
		crowd.Stop()
		wait()
		if log.ends > 0 {
			t.Errorf("trial %d: %d sessions were ended, first: %s", i, log.ends, strings.Join(log.first, "; "))
		}
		used, began := processor(t, s.PID), time.Now()
		time.Sleep(time.Second)
		if used = processor(t, s.PID) - used; used > time.Since(began)/4 {
			t.Errorf("trial %d: a server without descriptors and without work uses %v of processor time in a second", i, used)
		}
		for _, c := range hogs {
			c.Close()
		}
		within(t, "a new client can log in", func() bool {
			a := s.Account("alice")
			c, err := traffic.Reader(s.Addr("imap"), a.Address, a.Password)
			if err == nil {
				c.Close()
			}
			return err == nil
		})
		limitDescriptors(t, s.PID, 20_000)
	}
	if turnedAway == 0 {
		t.Error("there were descriptors for everybody: nothing was tested")
	}
	b, err := os.ReadFile(s.Log)
	must(t, err)
	if !strings.Contains(string(b), "descriptors") {
		t.Error("the log does not say what there is too little of")
	}
	sound(t, s, crowd.Ledger)
	promise.Kept(t, "R8", "times without descriptors", trials, "connections turned away", turnedAway, "transactions meanwhile", crowd.Done(), "lost", 0)
}

// occupy opens connections and keeps them.
func occupy(t *testing.T, s *martlet.Server, n int) (all []net.Conn) {
	t.Helper()
	for i := range n {
		c, err := net.DialTimeout("tcp", s.Addr([]string{"smtp", "imap", "pop3"}[i%3]), 10*time.Second)
		must(t, err)
		t.Cleanup(func() { c.Close() })
		all = append(all, c)
	}
	return all
}

// open counts the connections that are served: the others are closed, or hear nothing.
func open(all []net.Conn) (n int) {
	deadline := time.Now().Add(500 * time.Millisecond)
	for _, c := range all {
		c.SetReadDeadline(deadline)
		b := make([]byte, 100)
		k, _ := c.Read(b)
		if first := string(b[:k]); strings.HasPrefix(first, "220") || strings.HasPrefix(first, "* OK") || strings.HasPrefix(first, "+OK") {
			n++
		}
	}
	return n
}

// TestFewDescriptorsAtStartR8 starts the server with less and less of them: it serves, or
// says what is missing.
func TestFewDescriptorsAtStartR8(t *testing.T) {
	needsPeers(t)
	s := start(t, martlet.Options{})
	must(t, s.Stop())
	served, refused := 0, 0
	for _, n := range []int{12, 16, 24, 32, 64, 128, 256} {
		s.Before = func(cmd *exec.Cmd) {
			cmd.Args = append([]string{"sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, n), cmd.Path}, cmd.Args[1:]...)
			cmd.Path = "/bin/sh"
		}
		switch err := s.Restart(); {
		case err == nil:
			served++
			must(t, s.Stop())
		case strings.Contains(string(s.LogTail(3)), "too many open files") || strings.Contains(string(s.LogTail(3)), "descriptors"):
			refused++
		default:
			t.Errorf("with %d descriptors: %v", n, err)
		}
	}
	s.Before = nil
	must(t, s.Restart())
	if _, err := s.Command("verify"); err != nil {
		t.Error(err)
	}
	promise.Kept(t, "R8", "starts with few descriptors that serve", served, "that say what is missing", refused)
}

// TestNoThreadsR8 takes the threads from a server at work, and TestNoMemoryR8 its memory. A
// program in Go that gets no thread ends, and the kernel ends one that has no memory:
// whoever supervises it starts it again, and nothing is lost.
func TestNoThreadsR8(t *testing.T) {
	scarce(t, "pids", func(g group, s *martlet.Server) { g.set(t, "pids", g.now(t, "pids")) })
}

func TestNoMemoryR8(t *testing.T) {
	scarce(t, "memory", func(g group, s *martlet.Server) {
		for now := g.now(t, "memory"); ; now += 1 << 20 { // it may grow meanwhile
			if os.WriteFile(g.dir+"/"+g.files["memory"], []byte(fmt.Sprint(now+4<<20)), 0o644) == nil {
				return
			}
		}
	})
}

// enough is no limit.
var enough = map[string]int64{"pids": 100_000, "memory": 1 << 40}

func scarce(t *testing.T, what string, squeeze func(group, *martlet.Server)) {
	needsPeers(t)
	g := newGroup(t, what)
	s := start(t, martlet.Options{Accounts: []string{"carol"}, Serve: true})
	crowd := &traffic.Crowd{
		Server: s, Ledger: traffic.NewLedger(), Seed: 9, Big: 5,
		Refused: func(_ string, r *traffic.Refusal) bool { return r.Temporary() },
	}
	must(t, s.Stop())
	trials := promise.Times(t, "R8", 1, 20)
	died := 0
	for range trials {
		g.set(t, what, enough[what])
		must(t, s.Restart())
		g.take(t, s.PID)
		var log journal
		wait := work(t, crowd, &log, clients(map[string]int{"smtp": 2, "lmtp": 2, "append": 2, "move": 1}))
		busy := crowd.Done() + 20
		within(t, "the clients are at work", func() bool { return crowd.Done() >= busy })
		squeeze(g, s)
		hogs := occupy(t, s, 30)
		time.Sleep(700 * time.Millisecond)
		crowd.Stop()
		for _, c := range hogs {
			c.Close()
		}
		wait()
		if syscall.Kill(s.PID, 0) != nil || zombie(s.PID) {
			died++
		}
		s.Kill()
	}
	must(t, s.Restart())
	sound(t, s, crowd.Ledger)
	clear, unknown := crowd.Ledger.Counts()
	promise.Kept(t, "R8", "times without "+what, trials, "ended by it", died, "messages", clear, "cut off", unknown, "lost", 0)
}

// zombie tells whether a process has ended and nobody has asked how.
func zombie(pid int) bool {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	return b == nil || strings.HasPrefix(rest, "Z")
}
