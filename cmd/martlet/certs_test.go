package main

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// verifyLocal checks the certificate as a client that trusts only the authority does.
func verifyLocal(t *testing.T, l localCA, name string) error {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(l.certFile(), l.keyFile())
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(l.caFile())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: l.now()})
	return err
}

func TestLocalCA(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	l := localCA{dir: filepath.Join(t.TempDir(), "tls"), now: func() time.Time { return now }}
	files := func() (ca, cert string) {
		t.Helper()
		if err := l.ensure(); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"localhost", "martlet.test", "autoconfig.martlet.test", "127.0.0.1", "::1"} {
			if err := verifyLocal(t, l, name); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		a, err1 := os.ReadFile(l.caFile())
		b, err2 := os.ReadFile(l.certFile())
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		return string(a), string(b)
	}
	ca, cert := files()
	if err := verifyLocal(t, l, "example.org"); err == nil {
		t.Error("the certificate is valid for example.org")
	}
	if ca2, cert2 := files(); ca2 != ca || cert2 != cert {
		t.Error("a second start made new files")
	}
	now = now.Add(serverLife - renewBefore + time.Hour)
	ca3, cert3 := files()
	if ca3 != ca || cert3 == cert {
		t.Error("near its end the certificate must be renewed, by the same authority")
	}
	if err := os.WriteFile(l.keyFile(), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if ca4, cert4 := files(); ca4 != ca || cert4 == cert3 {
		t.Error("a broken key must be replaced, by the same authority")
	}
	now = now.AddDate(authorityYears, 0, -100)
	if ca5, _ := files(); ca5 == ca {
		t.Error("the authority is near its end and still there")
	}
	for _, key := range []string{l.keyFile(), filepath.Join(l.dir, "ca-key.pem")} {
		if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, mode %v", key, err, info.Mode())
		}
	}
}

// TestLocalCAConstraints: who trusts the authority trusts it for this machine only.
func TestLocalCAConstraints(t *testing.T) {
	l := localCA{dir: t.TempDir(), now: time.Now}
	ca, key, err := l.authority()
	if err != nil {
		t.Fatal(err)
	}
	der, err := sign(&x509.Certificate{NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"bank.example"}}, ca, key, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "bank.example"}); err == nil {
		t.Error("the authority can vouch for any name")
	}
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, text := range []string{"one", "two"} {
		if err := writeFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); string(got) != text {
			t.Errorf("read %q, want %q", got, text)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("%d files are left", len(left))
	}
	if err := writeFile(filepath.Join(dir, "no", "f"), nil, 0o600); err == nil {
		t.Error("writing into a missing folder is no error")
	}
}
