package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/internal/dnsx/dnstest"
)

// strangerHost is a server that the records of victim.example lead to, as somebody on the way
// would have it: it counts who comes.
type strangerHost struct {
	config string
	calls  atomic.Int32
}

func newStrangerHost(t *testing.T, more string) *strangerHost {
	t.Helper()
	s := &strangerHost{}
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
			s.calls.Add(1)
			c.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	dns, err := dnstest.Start(fmt.Sprintf("_imaps._tcp.victim.example. SRV 0 1 %[1]s imap.evil.example.\n_pop3s._tcp.victim.example. SRV 0 1 %[1]s imap.evil.example.\n"+
		"_submissions._tcp.victim.example. SRV 0 1 %[1]s imap.evil.example.\nimap.evil.example. A 127.0.0.1\n", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dns.Close)
	dir := t.TempDir()
	table := fmt.Sprintf("[Ours]\nfrom us 2026-11\nat ours.example\nimap imap.evil.example %[1]s tls\npop3 imap.evil.example %[1]s tls\nsmtp imap.evil.example %[1]s tls\n", port)
	if err := os.WriteFile(filepath.Join(dir, "ours.txt"), []byte(table), 0o600); err != nil {
		t.Fatal(err)
	}
	s.config = filepath.Join(dir, "martlet.toml")
	text := "data = \"data\"\n[discover]\ndatabase = \"\"\ndeadline = \"2s\"\noverrides = \"ours.txt\"\nresolver = \"" + dns.Addr() + "\"\n" + more
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"domain", "add", "example.org"}, {"account", "add", "carol@example.org", "--password-stdin"}} {
		if got := command(t, "pw of the tests\n", append(args, "--config", s.config)...); got.code != 0 {
			t.Fatal(got)
		}
	}
	return s
}

// signingIn are the commands that sign in at what was found of an address.
func signingIn(address string) map[string][]string {
	return map[string][]string{
		"imap": {"import", "imap", "--user", address, "--password-stdin", "--to", "carol@example.org", "--plan"},
		"pop3": {"import", "pop3", "--user", address, "--password-stdin", "--to", "carol@example.org", "--plan"},
		"link": {"link", "add", "carol@example.org", "--from", address, "--password-stdin"},
	}
}

// No command connects to a host that could be somebody else's before the person has named it.
// What is vouched for is gone to at once: the control.
func TestNoPasswordForStrangers(t *testing.T) {
	s := newStrangerHost(t, "allow_private = true\n[links]\nallow_private = true\n")
	for name, args := range signingIn("me@victim.example") {
		args = append(args, "--config", s.config)
		got := command(t, "secret\n", args...)
		if got.code != exitFailed || s.calls.Load() != 0 || !strings.Contains(got.err, "--yes-host imap.evil.example") || !strings.Contains(got.err, "belongs to evil.example") || !strings.Contains(got.err, "published in the DNS") {
			t.Errorf("%s: code %d, %d connections\n%s", name, got.code, s.calls.Load(), got.err)
		}
		got = command(t, "secret\n", append(args, "--yes-host", "imap.other.example")...)
		if got.code != exitFailed || s.calls.Load() != 0 || !strings.Contains(got.err, "--yes-host is imap.other.example, but") {
			t.Errorf("%s, another host: code %d, %d connections\n%s", name, got.code, s.calls.Load(), got.err)
		}
		if got = command(t, "secret\n", append(args, "--yes-host", "IMAP.evil.example.")...); got.code == 0 || s.calls.Swap(0) == 0 {
			t.Errorf("%s, confirmed: code %d, nobody came\n%s", name, got.code, got.err)
		}
	}
	for name, args := range signingIn("me@ours.example") {
		if got := command(t, "secret\n", append(args, "--config", s.config)...); got.code == 0 || s.calls.Swap(0) == 0 || strings.Contains(got.err, "--yes-host") {
			t.Errorf("%s, vouched for: code %d, nobody came\n%s", name, got.code, got.err)
		}
	}
}

// What was found is not connected to at an address that is not public, whatever it leads to when
// it is connected to.
func TestFoundHostsStayOutside(t *testing.T) {
	s := newStrangerHost(t, "")
	for name, args := range signingIn("me@victim.example") {
		got := command(t, "secret\n", append(args, "--config", s.config, "--yes-host", "imap.evil.example")...)
		if got.code != exitFailed || s.calls.Load() != 0 || !strings.Contains(got.err, "not public") {
			t.Errorf("%s: code %d, %d connections\n%s", name, got.code, s.calls.Load(), got.err)
		}
	}
}

func TestMistrust(t *testing.T) {
	for want, s := range map[string]discover.Service{
		"":                      {Host: "imap.a.example", Confidence: discover.Published, Source: "autoconfig"},
		"others on the way":     {Host: "imap.a.example", Confidence: discover.Published, Insecure: true},
		"nobody vouches for it": {Host: "imap.b.example", Confidence: discover.Published, Foreign: true},
		"it is only a guess":    {Host: "imap.a.example", Confidence: discover.Guessed},
	} {
		if got := mistrust(s); !strings.HasPrefix(got, want) || (got == "") != (want == "") {
			t.Errorf("%+v: %q, want %q", s, got, want)
		}
	}
}

// At a terminal the person is asked, and yes is said by yes alone.
func TestHostAskedAtTerminal(t *testing.T) {
	s := newStrangerHost(t, "allow_private = true\n")
	for answer, comes := range map[string]bool{"y\n": true, "YES\n": true, "\n": false, "no\n": false, "imap.evil.example\n": false} {
		person, screen := openTerminal(t)
		var out bytes.Buffer
		done := make(chan string)
		go func() {
			heard, buf := "", make([]byte, 4096)
			for _, step := range [][2]string{{"[y/N]", answer}, {"Password:", "secret\n"}} {
				for !strings.Contains(heard, step[0]) && !strings.Contains(heard, "martlet:") {
					n, err := person.Read(buf)
					if heard += string(buf[:n]); err != nil {
						break
					}
				}
				fmt.Fprint(person, step[1])
			}
			done <- heard
		}()
		args := signingIn("me@victim.example")["imap"]
		code := run(t.Context(), append(args, "--config", s.config), screen, &out, screen)
		heard := <-done
		if code != exitFailed || (s.calls.Swap(0) > 0) != comes || !strings.Contains(heard, "belongs to evil.example") {
			t.Errorf("%q: code %d\n%s", answer, code, heard)
		}
	}
}
