package main

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// startWithHTTP serves a configuration with an http listener, whose address it returns,
// and more settings.
func startWithHTTP(t *testing.T, settings ...string) (config, address string) {
	t.Helper()
	config = newConfig(t)
	f, err := os.OpenFile(config, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString("\n[[listen]]\nprotocol = \"http\"\naddress = \"127.0.0.1:0\"\n" + strings.Join(settings, ""))
	}
	if err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	return config, fmt.Sprintf("127.0.0.1:%d", startHouse(t, config)["http"])
}

// rawHTTP sends bytes, and returns the status of the first answer, 0 if there was none, and
// how many answers there were.
func rawHTTP(t *testing.T, address, send string) (status, answers int) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	go io.WriteString(c, send) // the server may hang up before it has read all
	in := bufio.NewReader(c)
	for ; ; answers++ {
		r, err := http.ReadResponse(in, nil)
		if err != nil {
			return status, answers
		}
		if status == 0 {
			status = r.StatusCode
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return status, answers + 1
		}
	}
}

// Requests that are none, or that two servers could read differently, are refused; one
// request has one answer; and the server goes on.
func TestAttack88HTTP(t *testing.T) {
	_, address := startWithHTTP(t)
	const host = "Host: mx.example.org\r\nConnection: close\r\n"
	for _, c := range []struct {
		name, send string
		status     int // 0: the connection is closed without a word
	}{
		{"plain", "GET /healthz HTTP/1.1\r\n" + host + "\r\n", 200},
		{"foreign host", "GET /healthz HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", 200}, // says nothing of the host
		{"two hosts", "GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n", 400},
		{"length and chunks", "POST /healthz HTTP/1.1\r\n" + host + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /readyz HTTP/1.1\r\n" + host + "\r\n", 405},
		{"two lengths", "POST /healthz HTTP/1.1\r\n" + host + "Content-Length: 4\r\nContent-Length: 44\r\n\r\nabcdGET /readyz HTTP/1.1\r\n" + host + "\r\n", 400},
		{"odd encoding", "POST /healthz HTTP/1.1\r\n" + host + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501},
		{"negative length", "POST /healthz HTTP/1.1\r\n" + host + "Content-Length: -1\r\n\r\n", 400},
		{"huge chunk", "POST /healthz HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n", 405},
		{"folded header", "GET /healthz HTTP/1.1\r\n" + host + "X: a\r\n b: c\r\n\r\n", 200},
		{"space before colon", "GET /healthz HTTP/1.1\r\n" + host + "Content-Length : 5\r\n\r\n", 400},
		{"line feed alone", "GET /healthz HTTP/1.1\nHost: a\nConnection: close\n\n", 200},
		{"header of a megabyte", "GET /healthz HTTP/1.1\r\n" + host + "X: " + strings.Repeat("a", 1<<20) + "\r\n\r\n", 431},
		{"100,000 headers", "GET /healthz HTTP/1.1\r\n" + host + strings.Repeat("X: a\r\n", 100_000) + "\r\n", 431},
		{"path upwards", "GET /../../etc/passwd HTTP/1.1\r\n" + host + "\r\n", 307},
		{"path upwards, encoded", "GET /..%2f..%2fetc%2fpasswd HTTP/1.1\r\n" + host + "\r\n", 404},
		{"administration", "GET /v1/accounts HTTP/1.1\r\n" + host + "\r\n", 404},
		{"ranges", "GET /healthz HTTP/1.1\r\n" + host + "Range: bytes=" + strings.Repeat("0-,", 1000) + "0-\r\n\r\n", 200},
		{"a tunnel", "CONNECT 127.0.0.1:25 HTTP/1.1\r\n" + host + "\r\n", 404},
		{"trace", "TRACE /healthz HTTP/1.1\r\n" + host + "\r\n", 405},
		{"no protocol", "GET /healthz\r\n\r\n", 400},
		{"SMTP", "EHLO client.example.net\r\nMAIL FROM:<>\r\n\r\n", 400},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400},
		{"NUL in the path", "GET /health\x00z HTTP/1.1\r\n" + host + "\r\n", 400},
	} {
		status, answers := rawHTTP(t, address, c.send)
		if status != c.status || answers > 1 {
			t.Errorf("%s: status %d (%d answers), want %d", c.name, status, answers, c.status)
		}
	}
	if status, _ := rawHTTP(t, address, "GET /readyz HTTP/1.1\r\n"+host+"\r\n"); status != 200 {
		t.Errorf("afterwards it answers %d", status)
	}
}

// Administration is a socket of the server's own user; what comes in over the network
// does not reach it, names given to it are no paths, and figures are for trusted
// networks.
func TestAttack91Administration(t *testing.T) {
	config, _ := startWithHTTP(t)
	cfg, _, err := loadConfigFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(cfg.AdminSocket()); err != nil || info.Mode().Perm() != 0o600 || info.Mode()&fs.ModeSocket == 0 {
		t.Errorf("the socket: %v, %v", info, err)
	}
	if got := command(t, "", "domain", "add", "example.org", "--config", config); got.code != 0 {
		t.Fatal(got.err)
	}
	if got := command(t, "", "account", "remove", "../domains/example.org", "--config", config); got.code == 0 {
		t.Errorf("a name of an account removed a domain: %s", got.out)
	}
	outside := filepath.Join(filepath.Dir(string(cfg.Data)), "outside")
	before := listing(t, filepath.Dir(string(cfg.Data)))
	for _, name := range []string{"../outside", "/etc/passwd", "a/../../outside", "..", ".", "a\x00b", "%2e%2e%2foutside", strings.Repeat("a", 5000), "-rf", "$(id)"} {
		for _, line := range [][]string{
			{"domain", "add", "--", name}, {"account", "add", "--", name + "@example.org"}, {"account", "show", "--", "carol@" + name},
			{"alias", "add", "--", name + "@example.org", "carol@example.org"}, {"queue", "show", "--", name}, {"account", "remove", "--", "../" + name + "@example.org"},
		} {
			if got := command(t, "", append([]string{line[0], line[1], "--config", config}, line[2:]...)...); got.code == 0 && line[1] != "add" {
				t.Errorf("%.60q: %s", line, got.out)
			}
		}
	}
	if after := listing(t, filepath.Dir(string(cfg.Data))); after != before {
		t.Errorf("there is something new outside of the store:\n%s\nbefore:\n%s", after, before)
	}
	if _, err := os.Lstat(outside); err == nil {
		t.Error("a name became a path")
	}
	request, err := http.NewRequest("GET", "http://mx.example.org/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	for peer, want := range map[string]int{"127.0.0.1:1": 204, "192.0.2.1:1": 403, "[::ffff:192.0.2.1]:1": 403, "": 403, "@": 403} {
		w := &statusOnly{header: http.Header{}}
		request.RemoteAddr = peer
		trustedOnly(cfg.Trusted, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) })).ServeHTTP(w, request)
		if w.status != want {
			t.Errorf("figures for %q: %d, want %d", peer, w.status, want)
		}
	}
}

type statusOnly struct {
	header http.Header
	status int
}

func (s *statusOnly) Header() http.Header         { return s.header }
func (s *statusOnly) Write(p []byte) (int, error) { return len(p), nil }
func (s *statusOnly) WriteHeader(status int)      { s.status = status }

// listing names what lies beside the store's own files.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == "store" {
			return fs.SkipDir
		}
		names = append(names, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, "\n")
}
