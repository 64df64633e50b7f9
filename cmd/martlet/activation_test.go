//go:build unix

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A server that systemd starts takes the socket it is given, whose clients have waited, and
// tells systemd how it is doing.
func TestUnderSystemd(t *testing.T) {
	ln := listenTCP(t)
	dir := t.TempDir()
	told, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer told.Close()
	early, err := net.Dial("tcp", ln.Addr().String()) // before there is a server
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()

	cmd, _ := handing(t, dir, ln, ln.Addr().String())
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+told.LocalAddr().String(), "WATCHDOG_USEC=100000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	told.SetDeadline(time.Now().Add(30 * time.Second))
	hears(t, told, "READY=1")
	hears(t, told, "WATCHDOG=1")
	early.SetDeadline(time.Now().Add(30 * time.Second))
	if line, err := bufio.NewReader(early).ReadString('\n'); err != nil || !strings.HasPrefix(line, "* OK") {
		t.Errorf("who had waited was greeted with %q, %v", line, err)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	hears(t, told, "STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	late, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatalf("a client that comes between two servers is refused: %v", err)
	}
	late.Close()
}

// A socket that no listener wants is a mistake in the units: its clients would hang.
func TestSocketOfNobody(t *testing.T) {
	ln := listenTCP(t)
	cmd, said := handing(t, t.TempDir(), ln, "127.0.0.1:0")
	cmd.Run()
	for _, part := range []string{`"one"`, ln.Addr().String(), "[[listen]]"} {
		if !strings.Contains(said.String(), part) {
			t.Errorf("%s is missing in %q", part, said)
		}
	}
	if code := cmd.ProcessState.ExitCode(); code != 2 {
		t.Errorf("exit code %d", code)
	}
}

// Sockets that were meant for another process are not touched.
func TestSocketsOfAnother(t *testing.T) {
	t.Setenv("LISTEN_PID", fmt.Sprint(os.Getpid()+1))
	t.Setenv("LISTEN_FDS", "3")
	if h, err := handedOver(); h != nil || err != nil {
		t.Errorf("%v, %v", h, err)
	}
	if os.Getenv("LISTEN_FDS") != "" {
		t.Error("children would believe to be meant")
	}
}

func TestSameAddress(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{":25", "0.0.0.0:25", true}, {":25", "[::]:25", true}, {"127.0.0.1:25", "127.0.0.1:25", true},
		{"127.0.0.1:25", "[::ffff:127.0.0.1]:25", true}, {"127.0.0.1:25", "127.0.0.1:26", false},
		{"127.0.0.1:25", ":25", false}, {"127.0.0.1:25", "[::1]:25", false},
	} {
		a, errA := net.ResolveTCPAddr("tcp", c.a)
		b, errB := net.ResolveTCPAddr("tcp", c.b)
		if errA != nil || errB != nil || sameAddress(a, b) != c.want {
			t.Errorf("%s and %s: %v %v, want %v", c.a, c.b, errA, errB, c.want)
		}
	}
}

func listenTCP(t *testing.T) *net.TCPListener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.(*net.TCPListener)
}

// handing is a server with one listener that is started with one socket, and what it says.
func handing(t *testing.T, dir string, ln *net.TCPListener, address string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	config := filepath.Join(dir, "martlet.toml")
	text := fmt.Sprintf("hostname = \"mx.example.org\"\ndata = \"data\"\n[[listen]]\nprotocol = \"imap\"\naddress = %q\n", address)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := ln.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	// The shell becomes the server, so it knows its process id.
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" serve --config "$1"`, built(t), config)
	cmd.ExtraFiles = []*os.File{f}
	cmd.Env = append(os.Environ(), "LISTEN_FDS=1", "LISTEN_FDNAMES=one")
	var said bytes.Buffer
	cmd.Stderr = &said
	return cmd, &said
}

// hears waits for a state, whatever is told before.
func hears(t *testing.T, told *net.UnixConn, want string) {
	t.Helper()
	b := make([]byte, 1<<10)
	var all []string
	for !slices.Contains(all, want) {
		n, err := told.Read(b)
		if err != nil {
			t.Fatalf("%s was not told, but %q: %v", want, all, err)
		}
		all = append(all, string(b[:n]))
	}
}
