// Package martlet starts the real binary with `martlet try` in a directory of its
// own, for tests and benchmarks that look at it from outside.
//
// It knows what the command's help promises and nothing of the server's inside.
package martlet

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Card is the line that `martlet try --json` prints.
type Card struct {
	Ready    bool           `json:"ready"`
	Dir      string         `json:"dir"`
	Config   string         `json:"config"`
	CA       string         `json:"ca"`
	Domain   string         `json:"domain"`
	Accounts []Account      `json:"accounts"`
	Ports    map[string]int `json:"ports"`
}

// Account is one login.
type Account struct {
	Address  string `json:"address"`
	Password string `json:"password"`
}

// Options of Start. Binary and Dir are needed.
type Options struct {
	Binary   string
	Dir      string
	Accounts []string          // besides alice and bob
	Set      map[string]string // configuration: "table.key" or "key" to a TOML value
	Log      io.Writer         // besides the file martlet.log in Dir; may be nil

	// Serve has `martlet serve` run on what `martlet try` has written, as in earnest,
	// from the second start on. It goes with Set.
	Serve bool

	// Before is called with each command that is about to serve, and may change how it is
	// started; may be nil.
	Before func(*exec.Cmd) error
}

// Server is a running martlet.
type Server struct {
	Card
	PID int
	Log string // path of what it wrote to standard error

	// Before may change how the program is started by the next Restart; it may be nil.
	Before func(*exec.Cmd)

	opt  Options
	base int
	laid bool // the configuration is written
	cmd  *exec.Cmd
	done chan error
	over error
	once sync.Once
}

// offsets of the standard ports; the base must leave all of them free.
var offsets = [...]int{24, 25, 80, 110, 143, 443, 465, 587, 993, 995, 4190}

// Start runs `martlet try` and returns when it is ready. With settings it is run
// twice: first to write the configuration, which is then edited as a user would.
func Start(opt Options) (*Server, error) {
	s := &Server{opt: opt}
	var err error
	if s.base, err = PortBase(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(opt.Dir, 0o755); err != nil {
		return nil, err
	}
	s.Log = filepath.Join(opt.Dir, "martlet.log")
	if err := s.Restart(); err != nil {
		return nil, err
	}
	if len(opt.Set) == 0 {
		return s, nil
	}
	if err := s.Stop(); err != nil {
		return nil, fmt.Errorf("martlet did not stop cleanly: %w", err)
	}
	if err := s.edit(); err != nil {
		return nil, err
	}
	return s, s.Restart()
}

// edit puts the settings into the configuration file, in place of lines that set the
// same keys.
func (s *Server) edit() error {
	b, err := os.ReadFile(s.Config)
	if err != nil {
		return err
	}
	text := string(b)
	for key, value := range s.opt.Set {
		text = setKey(text, key, value)
	}
	return os.WriteFile(s.Config, []byte(text), 0o600)
}

// Set changes one key of the configuration; it holds from the next Restart.
func (s *Server) Set(key, value string) error {
	b, err := os.ReadFile(s.Config)
	if err != nil {
		return err
	}
	return os.WriteFile(s.Config, []byte(setKey(string(b), key, value)), 0o600)
}

// setKey sets table.key to value in TOML text, comments kept.
func setKey(text, key, value string) string {
	table, name := "", key
	if i := strings.LastIndexByte(key, '.'); i >= 0 {
		table, name = key[:i], key[i+1:]
	}
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	var out []string
	in, placed := "", false
	put := func() {
		if !placed {
			out = append(out, name+" = "+value)
			placed = true
		}
	}
	for _, l := range lines {
		trimmed := strings.TrimSpace(l)
		if strings.HasPrefix(trimmed, "[") {
			if in == table {
				put()
			}
			in = strings.Trim(trimmed, "[]")
			out = append(out, l)
			continue
		}
		k, _, ok := strings.Cut(trimmed, "=")
		if in == table && ok && strings.TrimSpace(k) == name {
			put()
			continue
		}
		out = append(out, l)
	}
	if in == table {
		put()
	}
	if !placed {
		out = append(out, "", "["+table+"]")
		put()
	}
	return strings.Join(out, "\n") + "\n"
}

// Restart starts the binary in its directory again, after Stop or Kill.
func (s *Server) Restart() error {
	args := []string{"try", "--json", "--dir", s.opt.Dir, "--port-base", strconv.Itoa(s.base)}
	for _, a := range s.opt.Accounts {
		args = append(args, "--account", a)
	}
	if s.opt.Serve && s.laid {
		args = []string{"serve", "--json", "--config", s.Config}
	}
	log, err := os.OpenFile(s.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	s.cmd = exec.Command(s.opt.Binary, args...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	s.cmd.Stderr = log
	if s.Before != nil {
		s.Before(s.cmd)
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if s.opt.Before != nil {
		if err := s.opt.Before(s.cmd); err != nil {
			return err
		}
	}
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("martlet: %w", err)
	}
	s.PID = s.cmd.Process.Pid
	s.done = make(chan error, 1)
	s.once, s.over = sync.Once{}, nil
	line := make(chan []byte, 1)
	go func() {
		b, _ := bufio.NewReader(out).ReadBytes('\n')
		line <- b
		io.Copy(io.Discard, out)
		s.done <- s.cmd.Wait()
	}()
	return s.ready(line)
}

func (s *Server) ready(line <-chan []byte) error {
	select {
	case b := <-line:
		if err := json.Unmarshal(b, &s.Card); err != nil || !s.Ready {
			s.Kill()
			return fmt.Errorf("martlet printed %q instead of a card; its log ends\n%s", b, s.LogTail(20))
		}
		s.laid = true
		return nil
	case <-time.After(30 * time.Second):
		s.Kill()
		return fmt.Errorf("martlet is not ready after 30 s; its log ends\n%s", s.LogTail(20))
	}
}

// LogTail returns the last n lines of the log.
func (s *Server) LogTail(n int) []byte {
	b, _ := os.ReadFile(s.Log)
	lines := bytes.SplitAfter(b, []byte("\n"))
	return bytes.Join(lines[max(len(lines)-n, 0):], nil)
}

// Stop sends SIGTERM and waits; the promise is 5 seconds and exit code 0.
func (s *Server) Stop() error { return s.end(syscall.SIGTERM) }

// Kill ends the process the hard way.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

func (s *Server) end(sig syscall.Signal) error {
	s.once.Do(func() {
		s.cmd.Process.Signal(sig)
		select {
		case s.over = <-s.done:
		case <-time.After(10 * time.Second):
			s.cmd.Process.Kill()
			<-s.done
			s.over = errors.New("still running 10 s after the signal")
		}
	})
	return s.over
}

// Addr returns host:port of a listener by the name it has on the card.
func (s *Server) Addr(name string) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Ports[name]))
}

// Account returns the account whose address begins with name and "@".
func (s *Server) Account(name string) Account {
	for _, a := range s.Accounts {
		if strings.HasPrefix(a.Address, name+"@") {
			return a
		}
	}
	return Account{}
}

// Command runs another subcommand on the same configuration and returns what it
// printed; an error holds what it said on standard error.
func (s *Server) Command(args ...string) (string, error) {
	cmd := exec.Command(s.opt.Binary, append(args, "--config", s.Config)...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("martlet %s: %w: %s", strings.Join(args, " "), err, errOut.String())
	}
	return out.String(), nil
}

// given is how many bases this process has got: a server may not listen on its own yet when
// the next one looks for free ports.
var given atomic.Int64

// PortBase returns a base from which all standard ports are free. It returns another one each
// time, until it has been through all.
func PortBase() (int, error) {
	// Below the ports that connections get (32768 and above): thousands of these may have
	// just been closed, and a port is not free for a while then.
	// No two offsets differ by a multiple of grid, so servers with different bases never
	// want the same port, not even while one of them is being started again.
	const low, grid, bases = 11_000, 26, 650
	for range bases / 7 {
		base := low + grid*((os.Getpid()+int(given.Add(1))*97)%bases)
		free := true
		for _, o := range offsets {
			l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(base+o)))
			if err != nil {
				free = false
				break
			}
			l.Close()
		}
		if free {
			return base, nil
		}
	}
	return 0, errors.New("no free ports")
}
