package imapc

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/serve/netsrv"
	"github.com/martlet-mail/martlet/test/house"
)

var errRefused = syscall.ECONNREFUSED

// authority is a certificate authority of a test.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, form, form, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, pool: x509.NewCertPool()}
	a.cert, _ = x509.ParseCertificate(der)
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) issue(t *testing.T, name string, until time.Time) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{name}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, form, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// lively is a Martlet with a certificate, and options of a client of it.
func lively(t *testing.T, cert *tls.Certificate) (*house.House, Options) {
	t.Helper()
	h := house.New(t, house.Options{Sessions: func(o *netsrv.Options) {
		o.Certificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }
	}})
	h.Account(t, "carol")
	_, port, _ := net.SplitHostPort(h.Addr("imap"))
	n, _ := strconv.Atoi(port)
	opt := testOptions()
	opt.Port, opt.Security = uint16(n), StartTLS
	opt.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, h.Addr("imap"))
	}
	return h, opt
}

func TestCertificates(t *testing.T) {
	a := newAuthority(t)
	for _, c := range []struct {
		name  string
		until time.Time
		roots *x509.CertPool
		want  string
	}{
		{"imap.example.net", time.Now().Add(time.Hour), a.pool, ""},
		{"imap.example.com", time.Now().Add(time.Hour), a.pool, "is not for that name"},
		{"imap.example.net", time.Now().Add(-time.Hour), a.pool, "has expired"},
		{"imap.example.net", time.Now().Add(time.Hour), x509.NewCertPool(), "from an authority that is not known"},
	} {
		_, opt := lively(t, a.issue(t, c.name, c.until))
		opt.Roots = c.roots
		conn, err := Dial(t.Context(), opt)
		if c.want == "" {
			if err != nil {
				t.Errorf("%+v: %v", c, err)
			} else if conn.Protected() != "TLS 1.3" {
				t.Errorf("protected by %q", conn.Protected())
			}
			continue
		}
		if ProblemOf(err) != BadTLS || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
		opt.Insecure = true
		if _, err := Dial(t.Context(), opt); err != nil {
			t.Errorf("insecure: %v", err)
		}
	}
	opt := testOptions()
	opt.Security = TLS
	plain := house.New(t, house.Options{})
	opt.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, plain.Addr("imap"))
	}
	if _, err := Dial(t.Context(), opt); ProblemOf(err) != BadTLS || !strings.Contains(err.Error(), "does not speak TLS") {
		t.Errorf("TLS with a server that has none: %v", err)
	}
}

// Each mechanism, against the server's own side of it.
func TestMechanisms(t *testing.T) {
	a := newAuthority(t)
	_, opt := lively(t, a.issue(t, "imap.example.net", time.Now().Add(time.Hour)))
	opt.Roots, opt.Compress, opt.Version = a.pool, CompressAlways, "1"
	used := 0
	for _, mech := range []string{"", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-1", "PLAIN", "LOGIN", "XLOGIN"} {
		for _, password := range []string{house.Password, "wrong"} {
			c, err := Dial(t.Context(), opt)
			if err != nil {
				t.Fatal(err)
			}
			if mech != "" && mech != "LOGIN" && mech != "XLOGIN" && !c.Capable("AUTH="+mech) {
				continue
			}
			used++
			var lines []string
			c.opt.Trace = func(_ bool, l string) { lines = append(lines, l) }
			err = c.Login(t.Context(), Credentials{User: "carol@" + house.Domain, Password: password, Mechanism: mech})
			if right := password == house.Password; right != (err == nil) || !right && ProblemOf(err) != BadLogin {
				t.Errorf("%s with %q: %v", mech, password, err)
			}
			for _, l := range lines {
				if strings.Contains(l, password) || strings.Contains(l, "AUTHENTICATE "+mech+" ") && mech != "" && !strings.HasSuffix(l, "...") {
					t.Errorf("the trace shows a login: %s", l)
				}
			}
			if err == nil && !c.Compressed() {
				t.Errorf("%s: not compressed", mech)
			}
			if err == nil {
				if _, err := c.List(t.Context()); err != nil {
					t.Error(err)
				}
				if err := c.Logout(t.Context()); err != nil {
					t.Error(err)
				}
			}
			c.Close()
		}
	}
	if used < 10 {
		t.Errorf("only %d logins were tried", used)
	}
}

// A password does not go over a line that others read.
func TestNoPasswordInTheClear(t *testing.T) {
	client, server := net.Pipe()
	defer server.Close()
	go func() { server.Write([]byte("* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN AUTH=LOGIN] x\r\n")) }()
	c, err := New(t.Context(), far{client}, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Login(t.Context(), Credentials{User: "carol", Password: "secret"}); ProblemOf(err) != NoTLS {
		t.Errorf("login: %v", err)
	}
}

type far struct{ net.Conn }

func (far) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 143} }
