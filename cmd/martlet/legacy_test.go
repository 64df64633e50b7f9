package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestLegacyListener: a listener for old clients is one of its own, by its name and by
// what it serves.
func TestLegacyListener(t *testing.T) {
	dir, base := t.TempDir(), freeBase(t)
	text := "hostname = \"mx.example.org\"\n"
	for i, more := range []string{"legacy = true", "legacy = false"} {
		text += fmt.Sprintf("[[listen]]\nprotocol = \"imap\"\naddress = \"127.0.0.1:%d\"\n%s\n", base+143-100*(1-i), more)
	}
	if err := os.WriteFile(filepath.Join(dir, "martlet.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startTry(t, "--dir", dir, "--port-base", fmt.Sprint(base))
	if len(s.ready.Ports) != 2 || s.ready.Ports["imap"] != base+143 || s.ready.Ports["imap-legacy"] != base+43 {
		t.Errorf("ports: %v", s.ready.Ports)
	}
	for name, want := range map[string]string{"imap": "* OK [CAPABILITY IMAP4rev1", "imap-legacy": "* OK Martlet"} {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.ready.Ports[name]))
		if err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, want) {
			t.Errorf("%s greets with %q, %v", name, line, err)
		}
		c.Close()
	}
	if s.end(syscall.SIGTERM); !strings.Contains(s.log.String(), "imap-legacy:") {
		t.Errorf("the log does not tell of it:\n%s", s.log)
	}
	var card strings.Builder
	if err := s.ready.card(&card); err != nil || !strings.Contains(card.String(), fmt.Sprintf("imap-legacy %d", base+43)) {
		t.Errorf("card: %v\n%s", err, card.String())
	}
}
