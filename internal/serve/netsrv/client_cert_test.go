package netsrv

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"testing"
	"time"
)

// authority signs certificates for clients.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.cert, a.key = a.sign(t, template)
	return a
}

// sign signs a template that has no times, or makes the authority itself.
func (a *authority) sign(t *testing.T, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore = time.Now().Add(-time.Hour)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func (a *authority) client(t *testing.T, usage x509.ExtKeyUsage, until time.Time) tls.Certificate {
	t.Helper()
	cert, key := a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "alice"}, EmailAddresses: []string{"alice@example.org"}, NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{usage},
	})
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// named tells the client whom its certificate names.
func named(_ context.Context, c *Conn) {
	if cert := c.ClientCertificate(); cert != nil {
		fmt.Fprintf(c.W, "%s\n", cert.EmailAddresses[0])
	} else {
		fmt.Fprint(c.W, "nobody\n")
	}
	c.Wait()
}

func TestClientCertificate(t *testing.T) {
	ours, other := newAuthority(t), newAuthority(t)
	pool := x509.NewCertPool()
	pool.AddCert(ours.cert)
	forClients := x509.ExtKeyUsageClientAuth
	good := ours.client(t, forClients, time.Time{})
	options := Options{Certificate: certificate(t), ClientCAs: pool}
	people := Service{Handle: named, TLS: ImplicitTLS, ClientCertificates: true}
	hosts := Service{Handle: named, TLS: ImplicitTLS}
	for _, c := range []struct {
		about string
		opt   Options
		svc   Service
		show  []tls.Certificate
		want  string // "" means that there is no session
	}{
		{"ours", options, people, []tls.Certificate{good}, "alice@example.org\n"},
		{"none", options, people, nil, "nobody\n"},
		{"of another authority", options, people, []tls.Certificate{other.client(t, forClients, time.Time{})}, ""},
		{"over", options, people, []tls.Certificate{ours.client(t, forClients, time.Now().Add(-time.Minute))}, ""},
		{"of a server", options, people, []tls.Certificate{ours.client(t, x509.ExtKeyUsageServerAuth, time.Time{})}, ""},
		{"not asked for by the service", options, hosts, []tls.Certificate{other.client(t, forClients, time.Time{})}, "nobody\n"},
		{"not asked for at all", Options{Certificate: options.Certificate}, people, []tls.Certificate{good}, "nobody\n"},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			_, addr := start(t, c.opt, c.svc)
			config := &tls.Config{InsecureSkipVerify: true, MaxVersion: version,
				// Sent whether or not the server names its authority.
				GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					if len(c.show) == 0 {
						return &tls.Certificate{}, nil
					}
					return &c.show[0], nil
				}}
			if got := line(addr, config); got != c.want {
				t.Errorf("%s, %s: %q, want %q", c.about, tls.VersionName(version), got, c.want)
			}
		}
	}
}

// line returns the first line a server says, "" if there is none.
func line(addr string, config *tls.Config) string {
	tc, err := tls.Dial("tcp", addr, config)
	if err != nil {
		return ""
	}
	defer tc.Close()
	tc.SetDeadline(time.Now().Add(20 * time.Second))
	buf := make([]byte, 100)
	n, _ := tc.Read(buf)
	return string(buf[:n])
}

// A session taken up again is still that of the certificate it began with.
func TestClientCertificateResumed(t *testing.T) {
	ours := newAuthority(t)
	pool := x509.NewCertPool()
	pool.AddCert(ours.cert)
	good := ours.client(t, x509.ExtKeyUsageClientAuth, time.Time{})
	_, addr := start(t, Options{Certificate: certificate(t), ClientCAs: pool}, Service{Handle: named, TLS: ImplicitTLS, ClientCertificates: true})
	cache := tls.NewLRUClientSessionCache(4)
	with := &tls.Config{InsecureSkipVerify: true, ClientSessionCache: cache, Certificates: []tls.Certificate{good}}
	for i := range 3 {
		if got := line(addr, with); got != "alice@example.org\n" {
			t.Errorf("connection %d: %q", i, got)
		}
	}
}

func TestNoChannelBinding(t *testing.T) {
	_, addr := start(t, Options{Certificate: certificate(t), NoChannelBinding: true}, Service{Handle: starttls, TLS: ImplicitTLS})
	tc, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer tc.Close()
	for _, kind := range []string{"tls-server-end-point", "tls-unique", "tls-exporter"} {
		if got := ask(t, tc, "bind "+kind+"\n"); got != "\n" {
			t.Errorf("%s: %q", kind, got)
		}
	}
}
