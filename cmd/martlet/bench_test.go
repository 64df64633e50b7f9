package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/bench"
)

func TestBenchUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--help"}, exitDone, ""},
		{nil, exitUsage, "--user"},
		{[]string{"nonsense", "--user", "u"}, exitUsage, `"nonsense"`},
		{[]string{"--user", "u", "--lmtp", "x"}, exitUsage, "port number"},
		{[]string{"--user", "u", "--sizes", "huge"}, exitUsage, "--sizes"},
		{[]string{"--user", "u", "--messages", "0"}, exitUsage, "above zero"},
		{[]string{"--user", "u", "--connections", "0"}, exitUsage, "above zero"},
		{[]string{"idle-memory", "--user", "u"}, exitUsage, "process id"},
		{[]string{"--user", "u", "--password", "a", "--password-stdin"}, exitUsage, "password"},
		{[]string{"--user", "u", "--ca", "x"}, exitUsage, "--tls"},
		{[]string{"--user", "u", "--tls", "always"}, exitUsage, `"always"`},
		{[]string{"--user", "u", "--tls", "pop3=implicit"}, exitUsage, "imap, lmtp or smtp"},
		{[]string{"--user", "u", "--tls", "implicit", "--ca", "bench.go"}, exitUsage, "no certificate"},
		{[]string{"--user", "u", "--grow-bytes", "much"}, exitUsage, "10GB"},
		{[]string{"--user", "u", "--pid-file", "/nonexistent"}, exitFailed, "/nonexistent"},
		{[]string{"disk", "--user", "u"}, exitUsage, "--data"},
		{[]string{"handshake", "--user", "u"}, exitUsage, "--tls"},
		{[]string{"restart", "--user", "u"}, exitUsage, "--restart"},
		{[]string{"restart", "--user", "u", "--stop", "x"}, exitUsage, "starts the server again"},
		{[]string{"lmtp", "--user", "u", "--lmtp", "1"}, exitFailed, "cannot reach the LMTP server"},
	} {
		var out, errOut bytes.Buffer
		code := run(context.Background(), append([]string{"bench"}, c.args...), strings.NewReader(""), &out, &errOut)
		if code != c.code || !strings.Contains(errOut.String(), c.says) {
			t.Errorf("bench %v: code %d, not %d; it says %q", c.args, code, c.code, errOut.String())
		}
	}
}

// acceptAll is an LMTP server that takes everything.
func acceptAll(t *testing.T) (port string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.WriteString(c, "220 ready\r\n")
				data := false
				for s := bufio.NewScanner(c); s.Scan(); {
					switch {
					case data && s.Text() != ".":
					case s.Text() == "DATA":
						data = true
						io.WriteString(c, "354 go on\r\n")
					default:
						data = false
						io.WriteString(c, "250 ok\r\n")
					}
				}
			}()
		}
	}()
	_, port, _ = net.SplitHostPort(ln.Addr().String())
	return port
}

func TestBenchJSON(t *testing.T) {
	var out, errOut bytes.Buffer
	args := []string{"bench", "--json", "--imap", "", "--lmtp", acceptAll(t), "--recipient", "a@b", "--recipient", "c@d",
		"--connections", "1,3", "--duration", "20ms"}
	if code := run(context.Background(), args, strings.NewReader(""), &out, &errOut); code != exitDone {
		t.Fatalf("code %d: %s", code, errOut.String())
	}
	var connections []int
	for line := range strings.Lines(out.String()) {
		var r struct {
			Scenario    string  `json:"scenario"`
			Connections int     `json:"connections"`
			Operations  int     `json:"operations"`
			Median      float64 `json:"median_ms"`
			Bytes       int64   `json:"bytes"`
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil || r.Scenario != "lmtp" || r.Bytes < int64(r.Operations)*1000 {
			t.Errorf("%q: %v", line, err)
		}
		connections = append(connections, r.Connections)
	}
	if len(connections) != 2 || connections[0] != 1 || connections[1] != 3 {
		t.Errorf("results for %v connections, not for 1 and 3", connections)
	}
	if errOut.Len() > 0 {
		t.Errorf("off a terminal it says %q", errOut.String())
	}
}

// The page about measuring has a row for each scenario and each field, and no others.
func TestBenchPage(t *testing.T) {
	b, err := os.ReadFile("../../docs/bench.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	scenarios, figures, _ := strings.Cut(page, "\n## Figures\n")
	known := map[string]bool{}
	for _, n := range bench.Names() {
		known[n[0]] = true
		star := ""
		if strings.HasPrefix(n[1], "* ") {
			star = " *"
		}
		if !strings.Contains(scenarios, "\n| `"+n[0]+"`"+star+" |") {
			t.Errorf("the page has no row for %s%s", n[0], star)
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9-]+)`").FindAllStringSubmatch(scenarios, -1) {
		if !known[m[1]] {
			t.Errorf("the page has a row for %s, which there is not", m[1])
		}
	}
	for f := range reflect.TypeFor[bench.Result]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !strings.Contains(figures, "`"+name+"`") {
			t.Errorf("the page does not say what %s means", name)
		}
	}
}

func TestBenchReadsFlags(t *testing.T) {
	for in, want := range map[string]int64{"10GB": 10_000_000_000, "1.5 kb": 1_500, "77": 77, "12B": 12} {
		if got, err := parseAmount("x", in); err != nil || got != want {
			t.Errorf("%q is %d, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "x", "-1GB", "0", "1e30"} {
		if _, err := parseAmount("x", in); err == nil {
			t.Errorf("%q is taken as a number of bytes", in)
		}
	}
	all, err := eachNumber("u{8..10}@x")
	if err != nil || !slices.Equal(all, []string{"u8@x", "u9@x", "u10@x"}) {
		t.Errorf("u{8..10}@x is %v, %v", all, err)
	}
	if _, err := eachNumber("u{9..1}@x"); err == nil {
		t.Error("u{9..1}@x is taken")
	}
	f := benchFlags{tls: "implicit,lmtp=none,smtp=starttls"}
	var tg bench.Target
	if err := f.secure(&tg); err != nil || tg.TLS.IMAP != bench.Implicit || tg.TLS.LMTP != bench.Plain || tg.TLS.SMTP != bench.StartTLS {
		t.Errorf("--tls: %+v, %v", tg.TLS, err)
	}
}

// The command of --restart may leave a server running that keeps its output open.
func TestBenchRestarts(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no sh")
	}
	for command, want := range map[string]int{"sleep 5 & echo started; echo 4711": 4711, "true": 0, "echo done": 0} {
		f := benchFlags{restart: command}
		if pid, err := f.restarter()(context.Background()); err != nil || pid != want {
			t.Errorf("%s: %d, %v", command, pid, err)
		}
	}
	f := benchFlags{restart: "echo it is broken; exit 3"}
	if _, err := f.restarter()(context.Background()); err == nil || !strings.Contains(err.Error(), "it is broken") {
		t.Errorf("a command that fails: %v", err)
	}
	f = benchFlags{restart: "true", pidFile: filepath.Join(t.TempDir(), "pid")}
	os.WriteFile(f.pidFile, []byte("17\nmore\n"), 0o600)
	if pid, err := f.restarter()(context.Background()); err != nil || pid != 17 {
		t.Errorf("the file of the process id gives %d, %v", pid, err)
	}
}

// Off a terminal progress is a line of JSON now and then.
func TestBenchProgress(t *testing.T) {
	var out bytes.Buffer
	b := newBenchBar(&out)
	b.show("x", 1, 2)
	b.last = b.last.Add(-time.Hour)
	b.show("x", 2, 2)
	if want := `{"event":"progress","what":"x","done":2,"total":2}` + "\n"; out.String() != want {
		t.Errorf("it says %q, want %q", out.String(), want)
	}
}
