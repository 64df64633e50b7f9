package imapd

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/xdg-go/scram"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
)

// farConn is a connection from somewhere else: passwords may not travel it in plain.
type farConn struct{ net.Conn }

func (farConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 4000} }

// overTLS makes the world one with a certificate, whose clients are far away.
func overTLS(t *testing.T, w *world) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"mx.test"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	w.net = netsrv.New(netsrv.Options{Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }})
	w.service.TLS = netsrv.StartTLS
}

func (w *world) dialFar() net.Conn {
	ours, theirs := net.Pipe()
	go w.net.ServeConn(w.ctx, farConn{theirs}, w.service)
	return ours
}

// lineClient reads and writes by hand, for what changes the stream under it.
type lineClient struct {
	t *testing.T
	c net.Conn
	r *bufio.Reader
}

func (l *lineClient) say(text string) {
	l.t.Helper()
	if _, err := io.WriteString(l.c, text); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lineClient) hear(part string) string {
	l.t.Helper()
	l.c.SetReadDeadline(time.Now().Add(patience))
	line, err := l.r.ReadString('\n')
	if err != nil || !strings.Contains(line, part) {
		l.t.Fatalf("read %q, %v, want %q", line, err, part)
	}
	return line
}

func newLineClient(t *testing.T, c net.Conn) *lineClient {
	return &lineClient{t, c, bufio.NewReader(c)}
}

func (l *lineClient) startTLS() *tls.Conn {
	l.t.Helper()
	l.say("s STARTTLS\r\n")
	l.hear("s OK")
	c := tls.Client(l.c, &tls.Config{InsecureSkipVerify: true, ServerName: "mx.test"}) // the test's own certificate
	if err := c.Handshake(); err != nil {
		l.t.Fatal(err)
	}
	l.c, l.r = c, bufio.NewReader(c)
	return c
}

// Off loopback no password is taken in plain text (RFC 9051, 6.2.3 and 11.1).
func TestNoPlainPasswordsFromAfar(t *testing.T) {
	w := newWorld(t)
	overTLS(t, w)
	l := newLineClient(t, w.dialFar())
	greeting := l.hear("STARTTLS")
	if !strings.Contains(greeting, "LOGINDISABLED") || strings.Contains(greeting, "AUTH=") {
		t.Fatal(greeting)
	}
	l.say("a LOGIN alice@example.org x\r\n")
	l.hear("a NO [PRIVACYREQUIRED]")
	l.say("b AUTHENTICATE PLAIN AGEAYg==\r\n")
	l.hear("b NO [PRIVACYREQUIRED]")
	l.startTLS()
	l.say("c CAPABILITY\r\n")
	got := l.hear("AUTH=SCRAM-SHA-256-PLUS")
	if strings.Contains(got, "LOGINDISABLED") || strings.Contains(got, "STARTTLS") {
		t.Fatal(got)
	}
	l.hear("c OK")
	l.say("d LOGIN alice@example.org \"" + password + "\"\r\n")
	l.hear("d OK")
}

// What was sent along with STARTTLS is not carried out after it (CVE-2011-0411 and
// its kin): the connection ends.
func TestNothingFollowsSTARTTLS(t *testing.T) {
	w := newWorld(t)
	overTLS(t, w)
	l := newLineClient(t, w.dialFar())
	l.hear("* OK")
	l.say("a STARTTLS\r\nb LOGIN alice@example.org x\r\n")
	l.hear("* BYE")
	if rest, err := io.ReadAll(l.r); err != nil || len(rest) > 0 {
		t.Fatalf("%q %v", rest, err)
	}
}

// SCRAM bound to the TLS channel (RFC 5802, RFC 9266), with and without the binding.
func TestSCRAM(t *testing.T) {
	w := newWorld(t)
	overTLS(t, w)
	for _, plus := range []bool{false, true} {
		l := newLineClient(t, w.dialFar())
		l.hear("* OK")
		conn := l.startTLS()
		client, err := scram.SHA256.NewClient("alice@example.org", password, "")
		if err != nil {
			t.Fatal(err)
		}
		name, conv := "SCRAM-SHA-256", client.NewConversation()
		if plus {
			state := conn.ConnectionState()
			data, err := state.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
			if err != nil {
				t.Fatal(err)
			}
			name += "-PLUS"
			conv = client.NewConversationWithChannelBinding(scram.ChannelBinding{Type: scram.ChannelBindingTLSExporter, Data: data})
		}
		l.say("a AUTHENTICATE " + name + "\r\n")
		challenge := ""
		for !conv.Valid() {
			line := strings.TrimPrefix(strings.TrimSpace(l.hear("+")), "+")
			b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(line))
			if err != nil {
				t.Fatal(err)
			}
			if challenge, err = conv.Step(string(b)); err != nil {
				t.Fatal(err)
			}
			l.say(base64.StdEncoding.EncodeToString([]byte(challenge)) + "\r\n")
		}
		l.hear("a OK [CAPABILITY")
	}
}

func TestTooManyBadCommands(t *testing.T) {
	w := newWorld(t)
	c := w.connect("A")
	c.read(t)
	for range 20 {
		c.send(t, "x\r\n")
	}
	last := ""
	for {
		line, ok := c.read(t)
		if !ok {
			break
		}
		last = line
	}
	if last != "* BYE too many bad commands" {
		t.Fatal(last)
	}
}

// The client whose logins fail again and again is sent away, and not before.
func TestTooManyFailedLogins(t *testing.T) {
	w := newWorld(t)
	l := newLineClient(t, w.dial())
	l.hear("* OK")
	for range 2 {
		l.say("a LOGIN alice@example.org wrong\r\n")
		l.hear("a NO [AUTHENTICATIONFAILED]")
	}
	l.say("a " + signIn + "\r\n")
	l.hear("a OK")
	l = newLineClient(t, w.dial())
	l.hear("* OK")
	for _, attempt := range []string{"LOGIN alice@example.org wrong", "AUTHENTICATE PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00alice@example.org\x00wrong")), "LOGIN nobody@example.org wrong"} {
		l.say("a " + attempt + "\r\n")
		l.hear("a NO [AUTHENTICATIONFAILED]")
	}
	l.hear("* BYE too many failed logins")
}

// A literal that nobody asked for and nobody will read ends the connection; one that
// waits for leave is simply not asked for.
func TestEndlessLiterals(t *testing.T) {
	w := newWorld(t)
	l := newLineClient(t, w.dial())
	l.hear("* OK")
	l.say("a LOGIN {4294967295}\r\n")
	l.hear("a BAD a literal of 4294967295 bytes is too large here")
	l.say("b LOGIN {99999999999+}\r\n")
	l.hear("* BYE a literal is too large to be skipped")
}

// A line without end is refused, and what follows it is read as what it is.
func TestOverlongLine(t *testing.T) {
	w := newWorld(t)
	c := w.login("A", "")
	c.command(t, "SELECT INBOX")
	for _, long := range []string{
		"a SEARCH " + strings.Repeat("x", 200_000),
		"a FETCH " + strings.Repeat("1,", 100_000) + "1 FLAGS",
		"a SEARCH " + strings.Repeat("(", 100_000),
		"a SEARCH " + strings.Repeat("OR ", 300) + "ALL",
		"a " + strings.Repeat("x", 100_000),
		strings.Repeat("x", 100_000) + " NOOP",
		"a SEARCH TEXT {300000+}\r\n" + strings.Repeat("x", 300_000),
		"a SEARCH CHARSET UTF-8 TEXT {2+}\r\n\xff\xfe",
		"a CREATE " + strings.Repeat("a/", 5000) + "b",
		"a CREATE {4+}\r\na\x00bc",
	} {
		c.send(t, long+"\r\n")
		if got, _ := c.read(t); !strings.HasPrefix(got, "a BAD ") && !strings.HasPrefix(got, "* BAD ") && !strings.HasPrefix(got, "a NO [CANNOT]") {
			t.Errorf("%.30q: %q", long, got)
		}
		if lines, tagged := c.command(t, "NOOP"); len(lines) > 0 || tagged != "zz OK NOOP done" {
			t.Fatalf("%.30q: then %q %q", long, lines, tagged)
		}
	}
}

// Who a client is may take 30 fields of 30 and 1,024 bytes, before login too (RFC
// 2971, 3.3).
func TestLargeID(t *testing.T) {
	c := newWorld(t).connect("A")
	c.read(t)
	var fields []string
	for i := range 30 {
		fields = append(fields, fmt.Sprintf(`"%030d" "%s"`, i, strings.Repeat("v", 1024)))
	}
	if _, tagged := c.command(t, "ID ("+strings.Join(fields, " ")+")"); tagged != "zz OK ID done" {
		t.Error(tagged)
	}
	if _, tagged := c.command(t, "ID ("+strings.Join(fields, " ")+` "one" "more")`); !strings.HasPrefix(tagged, "zz BAD") {
		t.Error(tagged)
	}
}

// A large message streams: byte for byte, in memory that does not grow with it.
func TestLargeMessage(t *testing.T) {
	w := newWorld(t)
	var big bytes.Buffer
	big.WriteString("Subject: big\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	rng := mrand.New(mrand.NewPCG(1, 1))
	raw := make([]byte, 57)
	for big.Len() < 5<<20 {
		for i := range raw {
			raw[i] = byte(rng.Uint32())
		}
		big.WriteString(base64.StdEncoding.EncodeToString(raw) + "\r\n")
	}
	w.deliver("INBOX", big.Bytes(), 0)
	conn := w.dial()
	l := newLineClient(t, conn)
	l.hear("* OK")
	l.say("a LOGIN alice@example.org \"" + password + "\"\r\n")
	l.hear("a OK")
	l.say("b EXAMINE INBOX\r\n")
	for !strings.HasPrefix(l.hear(""), "b OK") {
	}
	runtime.GC()
	var before, during runtime.MemStats
	runtime.ReadMemStats(&before)
	l.say("c FETCH 1 (BODY[] BINARY[1])\r\n")
	l.hear(fmt.Sprintf("* 1 FETCH (BODY[] {%d}", big.Len()))
	want := big.Bytes()
	buf := make([]byte, 1<<20)
	for len(want) > 0 {
		n, err := io.ReadFull(l.r, buf[:min(len(buf), len(want))])
		if err != nil || !bytes.Equal(buf[:n], want[:n]) {
			t.Fatalf("%d bytes before the end: %v", len(want), err)
		}
		want = want[n:]
	}
	runtime.GC()
	runtime.ReadMemStats(&during)
	if grown := int64(during.HeapAlloc) - int64(before.HeapAlloc); grown > 5<<19 {
		t.Errorf("memory grew by %d bytes for a message of %d", grown, big.Len())
	}
	var size int64
	if _, err := fmt.Sscanf(l.hear(" BINARY[1] ~{"), " BINARY[1] ~{%d}", &size); err != nil || size%57 != 0 {
		t.Fatal(size, err)
	}
	if n, err := io.CopyN(io.Discard, l.r, size); err != nil {
		t.Fatal(n, err)
	}
	l.hear(")")
	l.hear("c OK")
}

// A server that stops says so, to those who idle too, and to nobody else's surprise.
func TestStop(t *testing.T) {
	w := newWorld(t)
	quiet, idle := w.login("A", ""), w.login("B", "")
	idle.send(t, "a IDLE\r\n")
	idle.read(t)
	w.stop()
	for name, c := range map[string]*client{"quiet": quiet, "idle": idle} {
		if line, ok := c.read(t); !strings.HasPrefix(line, "* BYE [UNAVAILABLE]") {
			t.Errorf("%s: %q %v", name, line, ok)
		}
		if line, ok := c.read(t); ok {
			t.Errorf("%s: then %q", name, line)
		}
	}
}

// FETCH of more messages than a chunk holds gives each once, in order.
func TestManyChunks(t *testing.T) {
	w := newWorld(t)
	const n = 700
	for i := range n {
		w.deliver("INBOX", message(fmt.Sprint("number ", i)), mail.Seen)
	}
	c := w.login("A", "")
	c.command(t, "SELECT INBOX")
	for _, items := range []string{"UID", "ENVELOPE", "(UID BODY[HEADER.FIELDS (SUBJECT)])", "(BODY.PEEK[1] FLAGS)"} {
		lines, tagged := c.command(t, "FETCH 1:* "+items)
		next := 1
		for _, line := range lines {
			if strings.HasPrefix(line, "* ") {
				if !strings.HasPrefix(line, fmt.Sprintf("* %d FETCH", next)) {
					t.Fatalf("%s: %q, want number %d", items, line, next)
				}
				next++
			}
		}
		if next != n+1 || !strings.HasPrefix(tagged, "zz OK") {
			t.Fatalf("%s: %d messages, %s", items, next-1, tagged)
		}
	}
}
