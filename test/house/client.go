package house

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// patience is far more than any answer takes: who waits longer has met a server that hangs.
const patience = 30 * time.Second

// Client is one connection that sends bytes and reads lines.
type Client struct {
	net.Conn
	In   *bufio.Reader
	Over bool // the server has hung up

	t testing.TB
}

// Dial connects to a protocol, and reads nothing yet.
func (h *House) Dial(t testing.TB, protocol string) *Client {
	t.Helper()
	c, err := net.Dial("tcp", h.Addr(protocol))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &Client{Conn: c, In: bufio.NewReader(c), t: t}
}

// Send writes bytes as they are. A server that hangs up meanwhile is no failure: what it
// said before tells more.
func (c *Client) Send(text string) { _, _ = io.WriteString(c.Conn, text) }

// Line reads one line without its end; "" when the server has hung up.
func (c *Client) Line() string {
	c.t.Helper()
	line, err := c.In.ReadString('\n')
	if err, ok := err.(net.Error); ok && err.Timeout() {
		c.t.Fatalf("no answer within %v, only %q", patience, line)
	}
	c.Over = err != nil
	return strings.TrimRight(line, "\r\n")
}

// Reply reads one reply of SMTP and returns its last line.
func (c *Client) Reply() string {
	c.t.Helper()
	for {
		if line := c.Line(); len(line) < 4 || line[3] != '-' {
			return line
		}
	}
}

// Ask sends a line and returns the reply of SMTP, or the line of POP3.
func (c *Client) Ask(line string) string {
	c.t.Helper()
	c.Send(line + "\r\n")
	return c.Reply()
}

// Tagged sends a command of IMAP and returns what is said until its tagged line, and that.
func (c *Client) Tagged(tag, command string) (untagged []string, tagged string) {
	c.t.Helper()
	c.Send(tag + " " + command + "\r\n")
	return c.Until(tag)
}

// Until reads lines of IMAP until a tagged one, or the end.
func (c *Client) Until(tag string) (untagged []string, tagged string) {
	c.t.Helper()
	for {
		line := c.Line()
		if c.Over || strings.HasPrefix(line, tag+" ") {
			return untagged, line
		}
		untagged = append(untagged, line)
	}
}

// Rest reads all that the server still says until it hangs up.
func (c *Client) Rest() string {
	c.t.Helper()
	all, err := io.ReadAll(c.In)
	if err, ok := err.(net.Error); ok && err.Timeout() {
		c.t.Fatalf("the server does not hang up; it said %q", all)
	}
	return string(all)
}

// TLS goes on in TLS, without a look at the certificate.
func (c *Client) TLS() {
	c.t.Helper()
	secure := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true})
	if err := secure.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	c.Conn, c.In = secure, bufio.NewReader(secure)
}

// certificate makes one that nobody has signed.
func certificate(t testing.TB) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{Hostname}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, form, form, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }
}
