package netsrv

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// list makes a revocation list in PEM of certificates.
func (a *authority) list(t *testing.T, number int64, void ...tls.Certificate) []byte {
	t.Helper()
	template := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}
	for _, c := range void {
		cert, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: cert.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

func newSigner(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	template := &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	template.Subject.CommonName = "signer " + time.Now().String()
	a.cert, a.key = a.sign(t, template)
	return a
}

func TestRevocations(t *testing.T) {
	ours, other := newSigner(t), newSigner(t)
	pool := x509.NewCertPool()
	pool.AddCert(ours.cert)
	forClients := x509.ExtKeyUsageClientAuth
	lost, kept := ours.client(t, forClients, time.Time{}), ours.client(t, forClients, time.Time{})
	var mu sync.Mutex
	clock := time.Now()
	now := func() time.Time { mu.Lock(); defer mu.Unlock(); return clock }
	pass := func() { mu.Lock(); defer mu.Unlock(); clock = clock.Add(2 * time.Second) }

	file := filepath.Join(t.TempDir(), "crl.pem")
	change := func(content []byte) { // in place of the old one, with another time
		t.Helper()
		write(t, file+".new", content)
		stamp := now()
		if err := os.Chtimes(file+".new", stamp, stamp); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
		pass()
	}
	change(ours.list(t, 1))
	r, err := LoadRevocations(nil, now, onDisk, file, []*x509.Certificate{ours.cert})
	if err != nil {
		t.Fatal(err)
	}
	_, addr := start(t, Options{Certificate: certificate(t), ClientCAs: pool, Revoked: r}, Service{Handle: named, TLS: ImplicitTLS, ClientCertificates: true})
	cache := tls.NewLRUClientSessionCache(4)
	enter := func(show tls.Certificate) string {
		return line(addr, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{show}})
	}
	resume := func() string {
		return line(addr, &tls.Config{InsecureSkipVerify: true, ClientSessionCache: cache, Certificates: []tls.Certificate{lost}})
	}
	const alice = "alice@example.org\n"
	if a, b, c := enter(lost), enter(kept), resume(); a != alice || b != alice || c != alice {
		t.Errorf("before: %q %q %q", a, b, c)
	}
	change(ours.list(t, 2, lost))
	for _, list := range []struct {
		about  string
		broken []byte
	}{
		{"revoked", nil}, // and read before the broken ones take its place
		{"nonsense", []byte("x")},
		{"of a stranger", other.list(t, 3)},
		{"forged", bytes.Replace(ours.list(t, 3), []byte("A"), []byte("B"), 1)},
	} {
		if list.broken != nil {
			change(list.broken)
		}
		if a, b, c := enter(lost), enter(kept), resume(); a != "" || b != alice || c != "" {
			t.Errorf("%s: %q %q, resumed %q", list.about, a, b, c)
		}
	}
	if got := line(addr, &tls.Config{InsecureSkipVerify: true}); got != "nobody\n" {
		t.Errorf("without a certificate: %q", got)
	}
	change(append(ours.list(t, 4, kept), ours.list(t, 5)...))
	if a, b := enter(lost), enter(kept); a != alice || b != "" {
		t.Errorf("after: %q %q", a, b)
	}
}

func TestLoadRevocationsRefuses(t *testing.T) {
	ours, other := newSigner(t), newSigner(t)
	file := filepath.Join(t.TempDir(), "crl.pem")
	for about, content := range map[string][]byte{
		"nothing": nil, "empty": {}, "of a stranger": other.list(t, 1), "one of ours and one of a stranger": append(ours.list(t, 1), other.list(t, 1)...),
		"a certificate": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ours.cert.Raw}),
	} {
		if content != nil {
			write(t, file, content)
		}
		if _, err := LoadRevocations(nil, time.Now, onDisk, file, []*x509.Certificate{ours.cert}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", about, err)
		}
	}
}
