package cyrus

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// talk sends the lines one after the other and returns the last reply to each.
func talk(t *testing.T, addr, end string, lines ...string) []string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, l := range lines {
		fmt.Fprintf(c, "%s\r\n", l)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatalf("%q: %v", l, err)
			}
			if strings.HasPrefix(line, "*") || line[3] == '-' {
				if strings.Contains(line, end) {
					out = append(out, line)
				}
				continue
			}
			out = append(out, line)
			break
		}
	}
	return out
}

// TestCyrus delivers mail, restarts, and finds it.
func TestCyrus(t *testing.T) {
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS=1 runs it; it needs root and Debian's package")
	}
	unpacked, _ := filepath.Abs("../../../bin/peers/cyrus")
	if _, err := os.Stat(filepath.Join(unpacked, binaries, "imapd")); err != nil {
		t.Skip("test/deps.sh bench unpacks Cyrus")
	}
	dir := filepath.Join(t.TempDir(), "c")
	s, err := Start(Options{Dir: dir, Unpacked: unpacked, Domain: "martlet.test", Users: []string{"alice"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { s.Stop() }()
	said := talk(t, s.LMTP, "\x00", "LHLO x", "MAIL FROM:<a@b.example>", "RCPT TO:<alice@martlet.test>", "DATA",
		"Message-ID: <1@x>\r\n\r\nhello\r\n.")
	if last := said[len(said)-1]; !strings.HasPrefix(last, "250 ") {
		t.Fatalf("the delivery was answered %q", last)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.memory()); err == nil {
		t.Errorf("%s is left", s.memory())
	}
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	said = talk(t, s.IMAP, "EXISTS", `a LOGIN alice@martlet.test `+Password, "b SELECT INBOX")
	if !strings.Contains(strings.Join(said, ""), "* 1 EXISTS") {
		t.Errorf("after a restart: %q", said)
	}
}

func TestText(t *testing.T) {
	text := Text("martlet.test")
	for _, want := range []string{"statuscache: yes", "servername: martlet.test", "idled cmd=", "127.0.0.1:IMAPS_PORT"} {
		if !strings.Contains(text, want) {
			t.Errorf("the configuration lacks %q", want)
		}
	}
	if strings.Contains(text, "%!") || strings.Contains(text, os.TempDir()) {
		t.Errorf("the configuration is not filled in:\n%s", text)
	}
}
