package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLinkURL(t *testing.T) {
	for _, c := range []struct {
		from string
		want linkServer
	}{
		{"imaps://imap.example.net", linkServer{protocol: "imap", security: "tls", host: "imap.example.net", port: 993}},
		{"imap://127.0.0.1:1143/", linkServer{protocol: "imap", security: "offered", host: "127.0.0.1", port: 1143}},
		{"pop3s://[::1]:1995", linkServer{protocol: "pop3", security: "tls", host: "::1", port: 1995}},
		{"pop3://pop.example.net", linkServer{protocol: "pop3", security: "offered", host: "pop.example.net", port: 110}},
		{"http://example.net", linkServer{}}, {"imaps://", linkServer{}}, {"imaps://a@b", linkServer{}}, {"imaps://h:0", linkServer{}},
		{"imaps://h:99999", linkServer{}}, {"imaps://h/INBOX", linkServer{}}, {"imaps://h?x", linkServer{}},
	} {
		got, err := linkURL(c.from)
		if (err != nil) != (c.want.host == "") || got != c.want && err == nil {
			t.Errorf("%s: %+v %v", c.from, got, err)
		}
	}
}

// The commands, without a server: rules are stored, shown without what signs in, paused,
// resumed and forgotten; exit codes tell wrong usage from what failed.
func TestLinkCommands(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "martlet.toml")
	if err := os.WriteFile(config, []byte("data = \"data\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	martlet := func(want int, in string, args ...string) string {
		t.Helper()
		var out, errOut bytes.Buffer
		if code := run(context.Background(), append(args, "--config", config), strings.NewReader(in), &out, &errOut); code != want {
			t.Errorf("martlet %s: %d: %s%s", strings.Join(args, " "), code, &out, &errOut)
		}
		return out.String() + errOut.String()
	}
	martlet(0, "", "domain", "add", "example.org")
	martlet(0, "pw\n", "account", "add", "carol@example.org", "--password-stdin")
	add := []string{"link", "add", "carol@example.org", "--from", "imaps://imap.example.net", "--user", "carol", "--password-stdin", "--no-try"}
	for _, c := range []struct {
		code int
		in   string
		args []string
		says string
	}{
		{2, "", []string{"link", "add", "carol@example.org"}, "--from is missing"},
		{2, "", []string{"link", "add", "carol@example.org", "--from", "imaps://h"}, "--user is missing"},
		{2, "", []string{"link", "add", "carol@example.org", "--from", "ftp://h", "--user", "x"}, "pop3s://HOST"},
		{2, "", add, "standard input holds no password"},
		{2, "pw", append(add, "--poll", "soon"), "--poll"},
		{1, "pw", append(add, "--poll", "1s"), "must be from 10s"},
		{1, "pw", []string{"link", "add", "nobody@example.org", "--from", "imaps://h", "--user", "x", "--password-stdin", "--no-try"}, "nobody@example.org"},
		{1, "pw", []string{"link", "add", "carol@example.org", "--from", "pop3s://h", "--user", "x", "--password-stdin", "--no-try", "--both-ways"}, "POP3 has no flags"},
		{1, "pw", []string{"link", "add", "carol@example.org", "--from", "imap://127.0.0.1:1", "--user", "x", "--password-stdin"}, "127.0.0.1"},
		{2, "pw", append(add, "--oauth", "google"), "exclude each other"},
		{2, "", []string{"link", "add", "carol@example.org", "--from", "imaps://h", "--user", "x", "--oauth", "google"}, "--client-id is missing"},
		{2, "", []string{"link", "add", "carol@example.org", "--from", "imaps://h", "--user", "x", "--oauth", "nobody"}, "known are google"},
		{1, "", []string{"link", "add", "carol@example.org", "--from", "imaps://h", "--user", "x", "--oauth", "google", "--client-id", "x", "--device"}, "Google does not allow"},
		{1, "", []string{"link", "show", "1"}, "there is no link 1"},
		{1, "", []string{"link", "show", "x"}, "no number of a link"},
		{2, "", []string{"link"}, "needs one of"},
	} {
		if got := martlet(c.code, c.in, c.args...); !strings.Contains(got, c.says) {
			t.Errorf("martlet %s: %s", strings.Join(c.args, " "), got)
		}
	}
	const password = "hunter2 of the tests"
	out := martlet(0, password+"\n", append(add, "--both-ways", "--mailbox", "INBOX", "--since", "2026-01-02", "--json")...)
	var l linkLine
	if err := json.Unmarshal([]byte(out), &l); err != nil || l.ID != 1 || l.State != "waiting" || !l.Options.BothWays || l.Options.Poll != 300 || l.Options.Since == nil {
		t.Errorf("%s %v", out, err)
	}
	all := out + martlet(0, "", "link", "list") + martlet(0, "", "link", "list", "carol@example.org", "--json") + martlet(0, "", "link", "show", "1") +
		martlet(0, "", "link", "pause", "1") + martlet(0, "", "link", "list") + martlet(1, "", "link", "run", "1") + martlet(0, "", "link", "resume", "1") +
		martlet(0, password+"\n", "link", "passwd", "1", "--password-stdin") + martlet(0, "", "verify")
	for _, word := range []string{"imaps://imap.example.net:993", "waiting", "both ways", "martlet link resume 1", "paused"} {
		if !strings.Contains(all, word) {
			t.Errorf("nobody says %q", word)
		}
	}
	if strings.Contains(all, password) {
		t.Error("the password is shown")
	}
	martlet(0, "", "link", "remove", "1")
	martlet(0, password+"\n", add...)
	martlet(0, "", "account", "remove", "carol@example.org", "--yes")
	if out := martlet(0, "", "link", "list"); !strings.Contains(out, "there are no links") {
		t.Errorf("the links of an account that is gone: %s", out)
	}
}

// [links] allow_private = false holds for whatever name leads there.
func TestLinksStayOutside(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	for _, host := range []string{"127.0.0.1", "localhost", "::ffff:127.0.0.1", "0.0.0.0", "169.254.169.254", "10.0.0.1", "fe80::1", "100.64.0.1"} {
		c, err := linkDialer(false, "")(t.Context(), "tcp", net.JoinHostPort(host, port))
		if err == nil {
			c.Close()
			t.Errorf("%s is connected to", host)
		} else if !strings.Contains(fmt.Sprint(err), "allow_private") {
			t.Logf("%s: %v", host, err)
		}
	}
	c, err := linkDialer(true, "")(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}
