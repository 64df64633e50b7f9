// Package importing proves that an import may be killed, and its server too, at any moment:
// what is here in the end is what is at the source, once, byte for byte.
//
// It starts the real program, with MARTLET_PEERS=1.
package importing

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/peers/martlet"
	"github.com/martlet-mail/martlet/test/traffic"
)

func TestMain(m *testing.M) { os.Exit(traffic.Main(m)) }

const (
	messages = 4000
	large    = 20   // of them, of 2 MB
	pace     = 1000 // messages a second: an import lasts for longer than ten kills take
)

// writeMbox makes a source.
func writeMbox(t *testing.T, path string, rng *rand.Rand) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(f)
	for i := range messages {
		fmt.Fprintf(w, "From a@example.net Thu Jan  1 00:00:00 2026\nFrom: %d@example.net\nSubject: number %d\nMessage-ID: <%d@example.net>\nStatus: %s\n\n", i%7, i, i, []string{"RO", "O"}[i%2])
		n := rng.IntN(40)
		if i%(messages/large) == 7 {
			n = 40_000
		}
		for k := range n {
			fmt.Fprintf(w, "Line %d of message %d: %x\n", k, i, rng.Uint64())
		}
		w.WriteString("\n")
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// sum is the last line of an import.
type sum struct {
	Event     string `json:"event"`
	Whole     bool   `json:"whole"`
	Messages  int    `json:"messages"`
	Here      int    `json:"here"`
	Different int    `json:"different"`
	Brought   int    `json:"brought"`
}

// scene is a server and an import into it.
type scene struct {
	t      *testing.T
	server *martlet.Server
	binary string
	mbox   string
	rng    *rand.Rand
}

func (s *scene) command(args ...string) *exec.Cmd {
	args = append([]string{"import", "mbox", s.mbox, "--to", "alice@martlet.test", "--json", "--config", s.server.Config}, args...)
	return exec.Command(s.binary, args...)
}

// here is how many messages have come.
func (s *scene) here() (n int) {
	s.t.Helper()
	out, err := s.server.Command("mailbox", "list", "alice@martlet.test", "--json")
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		var m struct {
			Name     string
			Messages int
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			s.t.Fatal(err)
		}
		if m.Name == "source" {
			n = m.Messages
		}
	}
	return n
}

// A command that is killed ten times, and a server that is killed five times under a command
// that goes on, lose nothing and bring nothing twice.
func TestImportKilled(t *testing.T) {
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS=1 runs it")
	}
	const seed = 7
	s := &scene{t: t, binary: traffic.Binary(t), rng: rand.New(rand.NewPCG(1, seed))}
	t.Logf("seed %d", seed)
	s.mbox = filepath.Join(t.TempDir(), "source.mbox")
	writeMbox(t, s.mbox, s.rng)
	var err error
	if s.server, err = martlet.Start(martlet.Options{Binary: s.binary, Dir: filepath.Join(t.TempDir(), "data")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.server.Kill)
	midway := 0
	for range 10 {
		if s.killCommand() {
			midway++
		}
	}
	if midway < 5 {
		t.Errorf("of ten kills %d came in the middle: too few for a proof", midway)
	}
	kills := s.killServer()
	s.isWhole()
	t.Logf("10 kills of the command, %d in the middle, %d kills of the server, %d messages", midway, kills, messages)
}

// killCommand tells whether the import was neither at its beginning nor at its end.
func (s *scene) killCommand() bool {
	before := s.here()
	cmd := s.command("--messages-per-second", fmt.Sprint(pace))
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	if s.rng.IntN(4) > 0 {
		s.awaitMore(before, ended)
	}
	select {
	case <-ended:
	case <-time.After(time.Duration(s.rng.IntN(250)) * time.Millisecond):
	}
	_ = cmd.Process.Kill()
	<-ended
	n := s.here()
	return n > before && n < messages
}

// awaitMore waits until the import has brought something: how long a process takes to start
// is another matter on each machine.
func (s *scene) awaitMore(before int, ended <-chan struct{}) {
	s.t.Helper()
	for s.here() <= before {
		select {
		case <-ended:
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// killServer kills the server while a command goes on, and lets that come to its end.
func (s *scene) killServer() (kills int) {
	cmd := s.command("--messages-per-second", fmt.Sprint(2*pace), "--no-proof")
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case err := <-ended:
			if err != nil {
				s.t.Errorf("the import did not outlive %d kills of the server: %v\n%s%s", kills, err, out.String(), errOut.String())
			}
			return kills
		case <-time.After(time.Duration(100+s.rng.IntN(300)) * time.Millisecond):
		}
		if kills == 5 {
			continue
		}
		s.server.Kill()
		kills++
		if err := s.server.Restart(); err != nil {
			s.t.Fatal(err)
		}
	}
}

// isWhole compares source and account, and looks for control at what a comparison finds when
// there is something to be found.
func (s *scene) isWhole() {
	s.t.Helper()
	for _, how := range [][]string{nil, {"--verify"}} {
		last, err := s.last(how...)
		if err != nil || !last.Whole || last.Messages != messages || last.Here != messages || last.Different != 0 || last.Brought != 0 {
			s.t.Errorf("%v: %+v %v", how, last, err)
		}
	}
	if n := s.here(); n != messages {
		s.t.Errorf("%d messages are here, %d at the source", n, messages)
	}
	if out, err := s.server.Command("verify", "--json"); err != nil {
		s.t.Errorf("verify: %v\n%s", err, out)
	}
	b, err := os.ReadFile(s.mbox)
	if err != nil {
		s.t.Fatal(err)
	}
	changed := bytes.Replace(b, []byte("Line 0 of message 50"), []byte("Line 0 of message xx"), 1)
	if err := os.WriteFile(s.mbox, changed, 0o600); err != nil {
		s.t.Fatal(err)
	}
	if last, err := s.last("--verify"); err == nil || last.Whole || last.Different == 0 {
		s.t.Errorf("a message that is another one now was not found: %+v %v", last, err)
	}
}

func (s *scene) last(args ...string) (last sum, err error) {
	cmd := s.command(args...)
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, errOut.String())
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	_ = json.Unmarshal([]byte(lines[len(lines)-1]), &last)
	return last, err
}
