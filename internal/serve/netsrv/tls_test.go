package netsrv

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/disk"
	"github.com/martlet-mail/martlet/internal/fault"
)

// writePair makes a certificate for a name and writes it with its key.
func writePair(t *testing.T, dir, name string) [2]string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		DNSNames:     []string{name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	files := [2]string{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	write(t, files[0], pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, files[1], pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	return files
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

var onDisk = disk.Files{FS: vfs.Default}

func certificate(t *testing.T) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	t.Helper()
	certs, err := LoadCertificates(nil, time.Now, onDisk, writePair(t, t.TempDir(), "mx.test"))
	if err != nil {
		t.Fatal(err)
	}
	return certs.Get
}

// starttls is a protocol of two commands: "tls", and "bind TYPE".
func starttls(ctx context.Context, c *Conn) {
	for {
		if _, err := c.Wait(); err != nil {
			return
		}
		line, err := c.R.ReadString('\n')
		if err != nil {
			return
		}
		kind, isBind := strings.CutPrefix(strings.TrimSpace(line), "bind ")
		switch {
		case isBind:
			c.W.WriteString(hex.EncodeToString(c.ChannelBinding(kind)) + "\n")
		case !c.CanStartTLS():
			c.W.WriteString("no\n")
		default:
			c.W.WriteString("go\n")
			if err := c.StartTLS(ctx); err != nil {
				c.W.WriteString(fault.Say(err) + "\n")
				return
			}
		}
	}
}

func TestStartTLS(t *testing.T) {
	_, addr := start(t, Options{Certificate: certificate(t)}, Service{Handle: starttls, TLS: StartTLS})
	nc := dial(t, addr)
	if got := ask(t, nc, "tls\n"); got != "go\n" {
		t.Fatalf("got %q", got)
	}
	tc := tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
	if got := ask(t, tc, "tls\n"); got != "no\n" {
		t.Errorf("a second STARTTLS: %q", got)
	}
}

// TestStartTLSInjection sends a command behind STARTTLS in the same packet; it must
// never be answered, neither before nor after the handshake.
func TestStartTLSInjection(t *testing.T) {
	_, addr := start(t, Options{Certificate: certificate(t)}, Service{Handle: starttls, TLS: StartTLS})
	nc := dial(t, addr)
	io.WriteString(nc, "tls\nbind injected\n")
	all, _ := io.ReadAll(nc)
	if got := string(all); got != "go\nnothing may follow STARTTLS before the handshake\n" {
		t.Errorf("got %q", got)
	}
}

func TestNoCertificateNoTLS(t *testing.T) {
	_, addr := start(t, Options{}, Service{Handle: starttls, TLS: StartTLS})
	if got := ask(t, dial(t, addr), "tls\n"); got != "no\n" {
		t.Errorf("got %q", got)
	}
	_, addr = start(t, Options{}, Service{Handle: starttls, TLS: ImplicitTLS})
	if all, err := io.ReadAll(dial(t, addr)); len(all) > 0 || err != nil {
		t.Errorf("got %q, %v", all, err)
	}
}

func TestImplicitTLSAndVersions(t *testing.T) {
	s, addr := start(t, Options{Certificate: certificate(t)}, Service{Handle: echo, TLS: ImplicitTLS})
	for version, ok := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		tc, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: version})
		if (err == nil) != ok {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
		if err == nil {
			ask(t, tc, "hello\n")
			tc.Close()
		}
	}
	nc := dial(t, addr)
	io.WriteString(nc, "EHLO plain.test\r\n")
	io.Copy(io.Discard, nc)
	for s.Stats().Open > 0 { // a client may know of the end before it is counted
		time.Sleep(time.Millisecond)
	}
	if n := s.Stats().BadTLS; n != 2 {
		t.Errorf("%d bad handshakes counted, want 2", n)
	}
}

func TestMinVersion(t *testing.T) {
	for least, ok := range map[uint16]bool{0: true, tls.VersionTLS10: true, tls.VersionTLS13: false} {
		_, addr := start(t, Options{Certificate: certificate(t), MinVersion: least}, Service{Handle: echo, TLS: ImplicitTLS})
		tc, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
		if (err == nil) != ok {
			t.Errorf("TLS 1.2 with the least of %x: %v", least, err)
		}
		if err == nil {
			tc.Close()
		}
	}
}

// TestSlowHandshake sends a handshake byte by byte, without end.
func TestSlowHandshake(t *testing.T) {
	_, addr := start(t, Options{Certificate: certificate(t), Handshake: 30 * time.Millisecond}, Service{Handle: echo, TLS: ImplicitTLS})
	nc := dial(t, addr)
	io.WriteString(nc, "\x16\x03\x01\x10\x00")
	for {
		if _, err := nc.Write([]byte{1}); err != nil {
			break // cut off, as it must be
		}
		time.Sleep(time.Millisecond)
	}
}

func TestChannelBinding(t *testing.T) {
	get := certificate(t)
	_, addr := start(t, Options{Certificate: get}, Service{Handle: starttls, TLS: ImplicitTLS})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		tc, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, MaxVersion: version})
		if err != nil {
			t.Fatal(err)
		}
		st := tc.ConnectionState()
		sum := sha256.Sum256(st.PeerCertificates[0].Raw)
		want := map[string][]byte{"tls-server-end-point": sum[:], "tls-unique": st.TLSUnique, "unheard-of": nil}
		if version == tls.VersionTLS13 {
			want["tls-exporter"], _ = st.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
		}
		if len(want["tls-unique"]) == 0 && len(want["tls-exporter"]) == 0 {
			t.Fatal("the client has no binding to compare with")
		}
		for _, kind := range []string{"tls-server-end-point", "tls-unique", "tls-exporter", "unheard-of"} {
			got, err := hex.DecodeString(strings.TrimSpace(ask(t, tc, "bind "+kind+"\n")))
			if err != nil || !bytes.Equal(got, want[kind]) {
				t.Errorf("%s, %s: got %x, want %x", tls.VersionName(version), kind, got, want[kind])
			}
		}
		tc.Close()
	}
}

func TestPlainHasNoBinding(t *testing.T) {
	_, addr := start(t, Options{Certificate: certificate(t)}, Service{Handle: starttls, TLS: StartTLS})
	if got := ask(t, dial(t, addr), "bind tls-exporter\n"); got != "\n" {
		t.Errorf("got %q", got)
	}
}

func TestReload(t *testing.T) {
	dir := t.TempDir()
	files := writePair(t, dir, "one.test")
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var log bytes.Buffer
	certs, err := LoadCertificates(slog.New(slog.NewTextHandler(&log, nil)), func() time.Time { return now }, onDisk, files)
	if err != nil {
		t.Fatal(err)
	}
	name := func() string {
		cert, err := certs.Get(&tls.ClientHelloInfo{})
		if err != nil {
			t.Fatal(err)
		}
		return cert.Leaf.Subject.CommonName
	}
	// touch makes the file times differ whatever the file system's accuracy is.
	touch := func() {
		now = now.Add(time.Minute)
		for _, f := range files {
			os.Chtimes(f, now, now)
		}
	}
	step := func(what, want, logged string) {
		t.Helper()
		if got := name(); got != want {
			t.Errorf("%s: certificate of %s, want %s", what, got, want)
		}
		if !strings.Contains(log.String(), logged) || logged == "" && log.Len() > 0 {
			t.Errorf("%s: log says %q, want %q", what, &log, logged)
		}
		log.Reset()
	}
	step("at first", "one.test", "")
	writePair(t, dir, "two.test")
	step("within the second", "one.test", "")
	touch()
	step("after it", "two.test", "certificate reloaded")
	write(t, files[0], []byte("half a file"))
	touch()
	step("broken", "two.test", "the old one stays")
	now = now.Add(time.Minute)
	step("said once", "two.test", "")
	os.Remove(files[1])
	now = now.Add(time.Minute)
	step("gone", "two.test", "the old one stays")
	now = now.Add(time.Minute)
	step("gone, said once", "two.test", "")
	writePair(t, dir, "three.test")
	touch()
	step("whole again", "three.test", "certificate reloaded")
}

func TestLoadCertificatesRefuses(t *testing.T) {
	if _, err := LoadCertificates(nil, time.Now, onDisk); !fault.Is(err, fault.Invalid) {
		t.Errorf("no files: %v", err)
	}
	if _, err := LoadCertificates(nil, time.Now, onDisk, [2]string{"/nonexistent", "/nonexistent"}); !fault.Is(err, fault.Invalid) {
		t.Errorf("missing files: %v", err)
	}
}

// TestBySNI chooses among pairs by the name that the client asks for.
func TestBySNI(t *testing.T) {
	certs, err := LoadCertificates(nil, time.Now, onDisk, writePair(t, t.TempDir(), "one.test"), writePair(t, t.TempDir(), "two.test"))
	if err != nil {
		t.Fatal(err)
	}
	_, addr := start(t, Options{Certificate: certs.Get}, Service{Handle: echo, TLS: ImplicitTLS})
	for sni, want := range map[string]string{"one.test": "one.test", "two.test": "two.test", "three.test": "one.test", "": "one.test"} {
		nc := dial(t, addr)
		tc := tls.Client(nc, &tls.Config{InsecureSkipVerify: true, ServerName: sni})
		io.WriteString(tc, "hello\n")
		if _, err := bufio.NewReader(tc).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		if got := tc.ConnectionState().PeerCertificates[0].Subject.CommonName; got != want {
			t.Errorf("asked for %q, shown %q", sni, got)
		}
		tc.Close()
	}
}

// Much is written at once, whatever its length; each record is as large as can be, and few
// writes carry them.
func TestLargeWrites(t *testing.T) {
	lengths := []int{1, oneRecord, oneRecord + 1, joinBytes, joinBytes + 1, 3*joinBytes + 77}
	_, addr := start(t, Options{Certificate: certificate(t)}, Service{TLS: ImplicitTLS, Handle: func(_ context.Context, c *Conn) {
		for i, n := range lengths {
			if _, err := c.W.Write(bytes.Repeat([]byte{byte('a' + i)}, n)); err != nil {
				return
			}
		}
	}})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		tc, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, MaxVersion: version})
		if err != nil {
			t.Fatal(err)
		}
		var want []byte
		for i, n := range lengths {
			want = append(want, bytes.Repeat([]byte{byte('a' + i)}, n)...)
		}
		if got, err := io.ReadAll(tc); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes of %d, %v", tls.VersionName(version), len(got), len(want), err)
		}
		tc.Close()
	}

	far, near := net.Pipe()
	raw := &pacedConn{Conn: near, stall: time.Minute, minRate: 100}
	server := tls.Server(raw, &tls.Config{GetCertificate: certificate(t), DynamicRecordSizingDisabled: true})
	go tls.Client(far, &tls.Config{InsecureSkipVerify: true}).Read(make([]byte, 1)) // and no more
	if err := server.Handshake(); err != nil {
		t.Fatal(err)
	}
	before := raw.out
	go func() {
		time.Sleep(10 * time.Millisecond)
		near.SetWriteDeadline(longAgo)
	}()
	if _, err := raw.join(server, make([]byte, joinBytes)); !isTimeout(err) {
		t.Errorf("a client that does not read: %v", err)
	}
	if _, err := server.Write([]byte("more")); !isTimeout(err) || raw.out-before > joinBytes {
		t.Errorf("behind half a record: %v, %d bytes", err, raw.out-before)
	}
}
