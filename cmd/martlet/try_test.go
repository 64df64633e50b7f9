package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience bounds waits that normally take milliseconds, for slow machines.
const patience = time.Minute

// runBinary runs the built program to its end.
func runBinary(t *testing.T, env []string, args ...string) ran {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := exec.CommandContext(ctx, built(t), args...)
	c.Env = append(os.Environ(), env...)
	var out, errOut bytes.Buffer
	c.Stdout, c.Stderr = &out, &errOut
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("martlet %s: %v\n%s", strings.Join(args, " "), err, errOut.String())
	}
	return ran{c.ProcessState.ExitCode(), out.String(), errOut.String()}
}

// running is a try-out server in its own process.
type running struct {
	cmd   *exec.Cmd
	ready readiness
	line  string
	rest  chan string // what else came on standard output
	log   *bytes.Buffer
}

// startTry starts a try-out server and waits until it is ready.
func startTry(t *testing.T, args ...string) *running {
	t.Helper()
	s := &running{cmd: exec.Command(built(t), append([]string{"try", "--json"}, args...)...), rest: make(chan string, 1), log: new(bytes.Buffer)}
	s.cmd.Stderr = s.log
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.cmd.Process.Kill(); s.cmd.Wait() })
	late := time.AfterFunc(patience, func() { s.cmd.Process.Kill() })
	defer late.Stop()
	r := bufio.NewReader(out)
	s.line, err = r.ReadString('\n')
	if err != nil {
		s.cmd.Wait()
		t.Fatalf("martlet try ended: %v\n%s", s.cmd.ProcessState, s.log)
	}
	if err := json.Unmarshal([]byte(s.line), &s.ready); err != nil {
		t.Fatalf("%v in %s", err, s.line)
	}
	go func() {
		more, _ := io.ReadAll(r)
		s.rest <- string(more)
	}()
	return s
}

// end sends a signal and returns the exit code. A server that does not stop within the
// time it has is killed, which shows as -1.
func (s *running) end(sig os.Signal) int {
	late := time.AfterFunc(5*time.Second, func() { s.cmd.Process.Kill() })
	defer late.Stop()
	s.cmd.Process.Signal(sig)
	<-s.rest
	s.cmd.Wait()
	return s.cmd.ProcessState.ExitCode()
}

// imap sends commands over implicit TLS, trusting only the authority of the folder, and
// returns everything that came back.
func (s *running) imap(t *testing.T, commands ...string) string {
	t.Helper()
	pem, err := os.ReadFile(s.ready.CA)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	c, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.ready.Ports["imaps"]), &tls.Config{RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	for i, text := range append(commands, "LOGOUT") {
		fmt.Fprintf(c, "%d %s\r\n", i, text)
	}
	all, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

func (s *running) login(i int) string {
	return fmt.Sprintf("LOGIN %s %s", s.ready.Accounts[i].Address, s.ready.Accounts[i].Password)
}

func TestTry(t *testing.T) {
	dir, base := t.TempDir(), freeBase(t)
	args := []string{"--dir", dir, "--port-base", fmt.Sprint(base), "--account", "carol"}
	s := startTry(t, args...)
	checkReadiness(t, s, dir, base)
	for i := range s.ready.Accounts {
		got := s.imap(t, s.login(i), "EXAMINE INBOX")
		if !strings.Contains(got, "* 1 EXISTS") {
			t.Errorf("%s has no welcome message:\n%s", s.ready.Accounts[i].Address, got)
		}
	}
	checkHTTP(t, s)
	for _, c := range []string{"domain list", "account list", "mailbox list alice@martlet.test", "queue list", "verify"} {
		if got := runBinary(t, nil, append(strings.Fields(c), "--json", "--config", s.ready.Config)...); got.code != 0 {
			t.Errorf("martlet %s beside the server: %+v", c, got)
		}
	}
	if got := runBinary(t, nil, "account", "passwd", "bob@martlet.test", "--config", s.ready.Config); got.code != 0 {
		t.Fatal(got.err)
	}
	// A client that waits, and one that does not even speak.
	idle, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.ready.Ports["imap"]))
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	if code := s.end(syscall.SIGTERM); code != 0 {
		t.Errorf("SIGTERM: exit code %d, want 0 within 5 seconds\n%s", code, s.log)
	}

	again := startTry(t, args...)
	if a, b := s.ready.Accounts, again.ready.Accounts; a[0] != b[0] || a[2] != b[2] || b[1].Address != a[1].Address || b[1].Password != "" {
		t.Errorf("accounts after a restart: %v, before: %v; bob's password was changed and must not be shown", b, a)
	}
	if got := again.imap(t, again.login(0), "EXAMINE INBOX"); !strings.Contains(got, "* 1 EXISTS") {
		t.Errorf("after a restart:\n%s", got)
	}
	if code := again.end(os.Interrupt); code != 0 {
		t.Errorf("SIGINT: exit code %d, want 0", code)
	}
}

// checkReadiness holds the line of --json against what scripts rely on.
func checkReadiness(t *testing.T, s *running, dir string, base int) {
	t.Helper()
	var fields map[string]json.RawMessage
	if err := json.Unmarshal([]byte(s.line), &fields); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ready", "dir", "config", "ca", "domain", "accounts", "ports"} {
		if _, ok := fields[name]; !ok {
			t.Errorf("the line of JSON lacks %q", name)
		}
		delete(fields, name)
	}
	if len(fields) > 0 {
		t.Errorf("the line of JSON has more than was promised: %v", fields)
	}
	r := s.ready
	if !r.Ready || r.Dir != dir || r.Config != filepath.Join(dir, "martlet.toml") || r.Domain != "martlet.test" {
		t.Errorf("ready: %+v", r)
	}
	for i, want := range []string{"alice@martlet.test", "bob@martlet.test", "carol@martlet.test"} {
		if i >= len(r.Accounts) || r.Accounts[i].Address != want || len(r.Accounts[i].Password) < 16 {
			t.Fatalf("accounts: %v", r.Accounts)
		}
	}
	for _, p := range standardPorts {
		port, there := r.Ports[string(p.protocol)]
		if there && port != base+p.port {
			t.Errorf("%s: port %d, want %d", p.protocol, port, base+p.port)
		}
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", base+p.port))
		if (err == nil) != there {
			t.Errorf("%s: listens %v, is in the line of JSON %v", p.protocol, err == nil, there)
		}
		if err == nil {
			c.Close()
		}
	}
	info, err := os.Stat(filepath.Join(dir, "accounts.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file of passwords: %v, mode %v", err, info.Mode())
	}
}

func checkHTTP(t *testing.T, s *running) {
	t.Helper()
	for path, want := range map[string]string{"/healthz": "ok\n", "/readyz": "ready\n", "/metrics": "martlet_store_healthy 1\n"} {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", s.ready.Ports["http"], path))
		if err != nil {
			t.Error(err)
			continue
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || !strings.Contains(string(body), want) {
			t.Errorf("%s: %s\n%s", path, resp.Status, body)
		}
	}
}

// TestTryKeepsConfig: what a person edits holds, and flags hold against it.
func TestTryKeepsConfig(t *testing.T) {
	// A folder so deep that no socket can be named by its path.
	dir := filepath.Join(t.TempDir(), strings.Repeat("deep/", 30), "data")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	base := freeBase(t)
	config := filepath.Join(dir, "martlet.toml")
	text := fmt.Sprintf("hostname = \"mx.example.org\"\n[[listen]]\nprotocol = \"imap\"\naddress = \"127.0.0.1:%d\"\n[log]\nformat = \"json\"\n", base+143)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startTry(t, "--dir", dir)
	if len(s.ready.Ports) != 1 || s.ready.Ports["imap"] != base+143 {
		t.Errorf("ports: %v", s.ready.Ports)
	}
	if got := runBinary(t, nil, "domain", "list", "--json", "--config", config); got.code != 0 || !strings.Contains(got.out, `"martlet.test"`) {
		t.Errorf("domain list: %+v", got)
	}
	if code := s.end(syscall.SIGTERM); code != 0 || !strings.HasPrefix(s.log.String(), "{") {
		t.Errorf("exit code %d, log\n%s", code, s.log)
	}
	if now, err := os.ReadFile(config); err != nil || string(now) != text {
		t.Errorf("the configuration was rewritten: %v\n%s", err, now)
	}
	moved := freeBase(t)
	s = startTry(t, "--dir", dir, "--port-base", fmt.Sprint(moved))
	if s.ready.Ports["imap"] != moved+143 {
		t.Errorf("ports with --port-base %d: %v", moved, s.ready.Ports)
	}
	if code := s.end(syscall.SIGHUP); code != 0 {
		t.Errorf("SIGHUP: exit code %d", code)
	}
	// serve takes the same file.
	serve := exec.Command(built(t), "serve", "--json", "--config", config)
	out, err := serve.StdoutPipe()
	if err == nil {
		err = serve.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer serve.Process.Kill()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.Contains(line, `"ready":true`) {
		t.Errorf("serve: %q, %v", line, err)
	}
	serve.Process.Signal(syscall.SIGTERM)
	if err := serve.Wait(); err != nil {
		t.Errorf("serve: %v", err)
	}
}

func TestPortTaken(t *testing.T) {
	base := freeBase(t)
	ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", base+143))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dir := filepath.Join(t.TempDir(), "data")
	got := runBinary(t, nil, "try", "--json", "--dir", dir, "--port-base", fmt.Sprint(base))
	if got.code != 1 || got.out != "" || strings.Count(got.err, "\n") != 1 {
		t.Errorf("with a port taken: %+v", got)
	}
	for _, part := range []string{fmt.Sprintf("port %d (imap) is taken by ", base+143), fmt.Sprintf("process %d", os.Getpid()), "--port-base "} {
		if !strings.Contains(got.err, part) {
			t.Errorf("%q is missing in: %s", part, got.err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "martlet.toml")); err == nil {
		t.Error("a configuration with the taken port is left")
	}
	other := freeBase(t)
	s := startTry(t, "--dir", dir, "--port-base", fmt.Sprint(other))
	second := runBinary(t, nil, "try", "--json", "--dir", dir, "--port-base", fmt.Sprint(other))
	if second.code != 1 || !strings.Contains(second.err, "already runs on "+dir) {
		t.Errorf("a second server on the folder: %+v", second)
	}
	s.end(syscall.SIGTERM)
}

// TestTryKilled: kill -9 at any moment of the start, and the next start needs no repair:
// each account is there once, with the password told before, and one welcome message.
func TestTryKilled(t *testing.T) {
	dir, base := t.TempDir(), freeBase(t)
	args := []string{"--dir", dir, "--port-base", fmt.Sprint(base)}
	for _, after := range []time.Duration{0, 20, 40, 80, 120, 160, 200, 300} {
		c := exec.Command(built(t), append([]string{"try", "--json"}, args...)...)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(after * time.Millisecond)
		c.Process.Kill()
		c.Wait()
	}
	first := startTry(t, args...)
	first.cmd.Process.Kill()
	first.cmd.Wait()
	if got := runBinary(t, nil, "verify", "--config", first.ready.Config); got.code != 0 {
		t.Errorf("verify after kill -9: %+v", got)
	}
	s := startTry(t, args...)
	if fmt.Sprint(s.ready.Accounts) != fmt.Sprint(first.ready.Accounts) || len(s.ready.Accounts) != 2 {
		t.Errorf("accounts %v, told before %v", s.ready.Accounts, first.ready.Accounts)
	}
	for i := range s.ready.Accounts {
		if got := s.imap(t, s.login(i), "EXAMINE INBOX"); !strings.Contains(got, "* 1 EXISTS") {
			t.Errorf("after kill -9:\n%s", got)
		}
	}
	s.end(syscall.SIGTERM)
}

// TestCard: what a person sees has what he needs.
func TestCard(t *testing.T) {
	r := readiness{
		Dir: "/home/my data", CA: "/home/my data/tls/ca.pem",
		Accounts: []person{{"alice@martlet.test", "pw1"}, {"bob@martlet.test", "pw2"}, {"carol@martlet.test", ""}},
		Ports:    map[string]int{"submission": 10587, "imap": 10143, "imaps": 10993},
	}
	var b bytes.Buffer
	if err := r.card(&b); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join("testdata", "card.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("the card is\n%s", b.String())
	}
}
