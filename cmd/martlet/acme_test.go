package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/dnsx/dnstest"
	"github.com/martlet-mail/martlet/test/promise"
)

// acmeServer is Debian's test server for ACME, which is called pebble. Its certificates
// live for so many seconds.
type acmeServer struct {
	t         *testing.T
	directory string
	root      string // file with the authority of the directory itself
	run       *exec.Cmd
}

func startACME(t *testing.T, names *dnstest.Server, httpPort, httpsPort, seconds int) *acmeServer {
	t.Helper()
	return startACMEAsking(t, names.Addr(), httpPort, httpsPort, seconds)
}

// startACMEAsking runs one that asks a name server.
func startACMEAsking(t *testing.T, resolver string, httpPort, httpsPort, seconds int) *acmeServer {
	t.Helper()
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS=1 runs it")
	}
	if _, err := exec.LookPath("pebble"); err != nil {
		t.Skip("the ACME server pebble is not installed")
	}
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePair(t, cert, key)
	listen := freeAddress(t)
	conf, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": listen, "managementListenAddress": freeAddress(t), "certificate": cert, "privateKey": key,
		"httpPort": httpPort, "tlsPort": httpsPort, "certificateValidityPeriod": seconds,
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "pebble.json")
	if err := os.WriteFile(file, conf, 0o600); err != nil {
		t.Fatal(err)
	}
	s := &acmeServer{t: t, directory: "https://" + listen + "/dir", root: cert}
	s.run = exec.Command("pebble", "-config", file, "-dnsserver", resolver)
	s.run.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1")
	out, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	s.run.Stdout, s.run.Stderr = out, out
	if err := s.run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.run.Process.Kill()
		s.run.Wait()
		if log, _ := os.ReadFile(out.Name()); t.Failed() {
			t.Logf("the ACME server's log ends\n%s", log[max(0, len(log)-3000):])
		}
	})
	waitFor(t, "the ACME server", func() bool {
		c, err := net.Dial("tcp", listen)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return s
}

func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// writePair makes a certificate for loopback that has signed itself.
func writePair(t *testing.T, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, form, form, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no sign of %s", what)
		}
	}
}

// shown is the certificate that a new connection sees.
func shown(t *testing.T, address string) *x509.Certificate { return shownTo(t, address, "") }

// shownTo is the one that a connection sees which asks for a name.
func shownTo(t *testing.T, address, name string) *x509.Certificate {
	t.Helper()
	c, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, ServerName: name})
	if err != nil {
		t.Fatalf("a handshake: %v", err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0]
}

// sessions are connections that were open before, and must stay so.
type sessions struct {
	conns []*tls.Conn
	in    []*bufio.Reader
}

func (s *sessions) open(t *testing.T, address string) {
	t.Helper()
	c, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	in := bufio.NewReader(c)
	if _, err := in.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	s.conns, s.in = append(s.conns, c), append(s.in, in)
}

// alive asks each of them something and returns how many do not answer.
func (s *sessions) dropped() (n int) {
	for i, c := range s.conns {
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, err := fmt.Fprintf(c, "a NOOP\r\n")
		line := ""
		if err == nil {
			line, err = s.in[i].ReadString('\n')
		}
		if err != nil || !strings.HasPrefix(line, "a OK") {
			n++
		}
	}
	return n
}

// syncLog is a log that is read while it is written.
type syncLog struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *syncLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *syncLog) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.b.String(), text)
}

// A certificate comes from a real ACME server, is renewed while sessions go on, and stays
// when the server is down, even past its end; before that there is an alarm.
func TestACME(t *testing.T) {
	t.Parallel()
	names, err := dnstest.Start("mx.example.org. IN A 127.0.0.1\nimap.hosted.test. IN A 127.0.0.1\nmail.hosted.test. IN A 192.0.2.1\n")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(names.Close)
	_, httpPort, _ := net.SplitHostPort(freeAddress(t))
	const lives = 12 // seconds
	var port int
	fmt.Sscan(httpPort, &port)
	ca := startACME(t, names, port, 1, lives)
	config := newConfig(t)
	text := fmt.Sprintf("hostname = \"mx.example.org\"\ndata = \"data\"\n[queue]\nresolver = %q\n[tls.acme]\nenabled = true\ndirectory = %q\nca = %q\n[[listen]]\nprotocol = \"http\"\naddress = \"127.0.0.1:%s\"\n[[listen]]\nprotocol = \"imaps\"\naddress = \"127.0.0.1:0\"\n",
		names.Addr(), ca.directory, ca.root, httpPort)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := command(t, "", "domain", "add", "hosted.test", "--config", config); got.code != 0 {
		t.Fatal(got)
	}
	log := new(syncLog)
	ports := serveHouse(t, config, slog.New(slog.NewTextHandler(log, nil)), renewal{every: 500 * time.Millisecond, left: 0.5})
	imaps := fmt.Sprintf("127.0.0.1:%d", ports["imaps"])
	var open sessions
	open.open(t, imaps) // with the certificate that nobody has signed
	waitFor(t, "a certificate", func() bool { return strings.HasPrefix(shown(t, imaps).Issuer.CommonName, "Pebble") })
	open.open(t, imaps)
	first := shown(t, imaps)
	if first.VerifyHostname("mx.example.org") != nil {
		t.Errorf("the certificate is for %v", first.DNSNames)
	}
	waitFor(t, "a certificate for clients of a hosted domain", func() bool { return shownTo(t, imaps, "imap.hosted.test").VerifyHostname("imap.hosted.test") == nil })
	if shownTo(t, imaps, "mail.hosted.test").VerifyHostname("mail.hosted.test") == nil {
		t.Error("there is a certificate for a name that leads elsewhere")
	}
	waitFor(t, "a renewed one", func() bool { return shown(t, imaps).SerialNumber.Cmp(first.SerialNumber) != 0 })
	if !bytes.Equal(shown(t, imaps).RawSubjectPublicKeyInfo, first.RawSubjectPublicKeyInfo) {
		t.Error("the renewed certificate has another key: a TLSA record that names the first stops mail")
	}
	dropped := open.dropped()

	ca.run.Process.Signal(syscall.SIGSTOP) // it is there, and does not answer
	last := shown(t, imaps)
	ended := last.NotAfter.Add(2 * time.Second)
	waitFor(t, "the end of the certificate", func() bool { return time.Now().After(ended) })
	if now := shown(t, imaps); !strings.HasPrefix(now.Issuer.CommonName, "Pebble") {
		t.Errorf("with the authority down, clients see a certificate of %s", now.Issuer)
	}
	dropped += open.dropped()
	if dropped != 0 {
		t.Errorf("%d sessions were dropped", dropped)
	}
	if !log.has("certificate obtained") {
		t.Error("the log does not tell of the certificate")
	}
	ca.run.Process.Signal(syscall.SIGCONT)
	if promise.Long() { // the retries of package certmagic begin a minute later
		waitFor5 := time.Now().Add(5 * time.Minute)
		for shown(t, imaps).SerialNumber.Cmp(last.SerialNumber) == 0 {
			if time.Now().After(waitFor5) {
				t.Error("the authority is back, and there is no new certificate")
				break
			}
			time.Sleep(time.Second)
		}
	}
	promise.Kept(t, "R33", "renewals", 1, "sessions dropped", dropped, "handshakes refused while the authority was down, past the end of the certificate", 0)
}

// The complaint comes 14 days before the end, and for certificates that live shorter when a
// quarter of their time is left.
func TestComplaint(t *testing.T) {
	begins := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	for _, c := range []struct {
		lives, at time.Duration
		want      string
	}{
		{90 * day, 75 * day, ""}, {90 * day, 77 * day, "the certificate ends in 13 days and was not renewed"}, {90 * day, 92 * day, "the certificate has ended 2 days ago; clients refuse it"},
		{6 * day, 4 * day, ""}, {6 * day, 5 * day, "the certificate ends in 1 day and was not renewed"}, {365 * day, 350 * day, ""}, {365 * day, 352 * day, "the certificate ends in 13 days and was not renewed"},
	} {
		if got := complaint(begins.Add(c.at), begins, begins.Add(c.lives)); got != c.want {
			t.Errorf("of %v, after %v: %q", c.lives, c.at, got)
		}
	}
	promise.Kept(t, "R33", "days before the end that an alarm comes", 14)
}
