package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"
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
