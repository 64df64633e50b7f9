package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/dnsx/dnstest"
)

const zoneSecret = "c2VjcmV0IG9mIHRoZSB6b25lIGV4YW1wbGUub3JnIQ=="

// startKnot runs Debian's name server Knot with a zone that the key "martlet" may change, and
// returns its address.
func startKnot(t *testing.T, zone, text string) string {
	t.Helper()
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS=1 runs it")
	}
	if _, err := exec.LookPath("knotd"); err != nil {
		t.Skip("the name server knotd is not installed")
	}
	dir := t.TempDir()
	address := freeAddress(t)
	host, port, _ := net.SplitHostPort(address)
	conf := fmt.Sprintf(`server:
    listen: %[1]s@%[2]s
    rundir: %[3]s
database:
    storage: %[3]s
log:
  - target: stderr
    any: warning
key:
  - id: martlet
    algorithm: hmac-sha256
    secret: %[4]s
acl:
  - id: update
    key: martlet
    action: update
zone:
  - domain: %[5]s
    storage: %[3]s
    file: zone
    acl: update
`, host, port, dir, zoneSecret, zone)
	for name, text := range map[string]string{"knot.conf": conf, "zone": text} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := exec.Command("knotd", "-c", filepath.Join(dir, "knot.conf"))
	var log syncLog
	run.Stdout, run.Stderr = &log, &log
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		run.Process.Kill()
		run.Wait()
		if t.Failed() {
			t.Logf("Knot says\n%s", log.b.String())
		}
	})
	waitFor(t, "the name server", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return address
}

// A name in a zone that the server may change is proven there: no listener for http is asked,
// and nothing of the proof stays behind.
func TestACMEByZone(t *testing.T) {
	t.Parallel()
	knot := startKnot(t, "example.org", "$ORIGIN example.org.\n$TTL 60\n@ IN SOA ns hostmaster 1 3600 600 86400 60\n@ IN NS ns\nns IN A 127.0.0.1\nmx IN A 127.0.0.1\n")
	names, err := dnstest.Start("mx.example.org. IN A 127.0.0.1\n")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(names.Close)
	ca := startACMEAsking(t, knot, 1, 1, 3600)
	config := newConfig(t)
	key := filepath.Join(filepath.Dir(config), "zone.key")
	text := fmt.Sprintf("hostname = \"mx.example.org\"\ndata = \"data\"\n[queue]\nresolver = %q\n[tls.acme]\nenabled = true\ndirectory = %q\nca = %q\n[[dns.update]]\nzone = \"example.org\"\nserver = %q\nkey_name = \"martlet\"\nkey_file = %q\n[[listen]]\nprotocol = \"http\"\naddress = \"127.0.0.1:0\"\n[[listen]]\nprotocol = \"imaps\"\naddress = \"127.0.0.1:0\"\n",
		names.Addr(), ca.directory, ca.root, knot, key)
	for file, text := range map[string]string{config: text, key: zoneSecret + "\n"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log := new(syncLog)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the server says\n%s", log.b.String())
		}
	})
	ports := serveHouse(t, config, slog.New(slog.NewTextHandler(log, nil)), renewal{every: time.Minute, left: 0.3})
	imaps := fmt.Sprintf("127.0.0.1:%d", ports["imaps"])
	waitFor(t, "a certificate", func() bool { return strings.HasPrefix(shown(t, imaps).Issuer.CommonName, "Pebble") })
	host, port, _ := net.SplitHostPort(knot)
	waitFor(t, "the end of the proof", func() bool {
		out, err := exec.Command("kdig", "+short", "@"+host, "-p", port, "_acme-challenge.mx.example.org", "TXT").CombinedOutput()
		return err == nil && strings.TrimSpace(string(out)) == ""
	})
}
