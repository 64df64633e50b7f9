package lab

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// Authority signs certificates that every host of the world trusts.
type Authority struct {
	Cert *x509.Certificate
	File string // its certificate, PEM

	dir  string
	key  *ecdsa.PrivateKey
	text string
}

// Issued is a certificate and its key, in PEM files.
type Issued struct {
	Cert      *x509.Certificate
	File, Key string
}

func newAuthority(dir string) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	form := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Authority of the small internet"}, SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	a := &Authority{dir: dir, key: key, File: filepath.Join(dir, "ca.pem")}
	der, err := x509.CreateCertificate(rand.Reader, form, form, key.Public(), key)
	if err != nil {
		return nil, err
	}
	if a.Cert, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	a.text = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return a, os.WriteFile(a.File, []byte(a.text), 0o644)
}

// Text is the certificate of the authority, PEM.
func (a *Authority) Text() string { return a.text }

// Pool trusts the authority alone.
func (a *Authority) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.Cert)
	return p
}

// Issue signs a certificate for names, good for so long. The files can be read by all.
func (a *Authority) Issue(life time.Duration, names ...string) (Issued, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Issued{}, err
	}
	return a.sign(key, time.Now().Add(-time.Hour), life, names)
}

// IssueOld is Issue with a certificate that was signed some time ago.
func (a *Authority) IssueOld(age, life time.Duration, names ...string) (Issued, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Issued{}, err
	}
	return a.sign(key, time.Now().Add(-age), life, names)
}

// IssueRSA is Issue with a key that old programs know.
func (a *Authority) IssueRSA(life time.Duration, names ...string) (Issued, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return Issued{}, err
	}
	return a.sign(key, time.Now().Add(-time.Hour), life, names)
}

func (a *Authority) sign(key crypto.Signer, from time.Time, life time.Duration, names []string) (Issued, error) {
	now := time.Now()
	form := &x509.Certificate{
		Subject: pkix.Name{CommonName: names[0]}, SerialNumber: big.NewInt(now.UnixNano()), DNSNames: names, NotBefore: from, NotAfter: now.Add(life),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, form, a.Cert, key.Public(), a.key)
	if err != nil {
		return Issued{}, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Issued{}, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Issued{}, err
	}
	i := Issued{Cert: cert, File: filepath.Join(a.dir, fmt.Sprintf("%s-%d.pem", names[0], form.SerialNumber)), Key: filepath.Join(a.dir, fmt.Sprintf("%s-%d.key", names[0], form.SerialNumber))}
	chain := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) + a.text
	if err := os.WriteFile(i.File, []byte(chain), 0o644); err != nil {
		return Issued{}, err
	}
	return i, os.WriteFile(i.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o644)
}

// TLSA is the data of a record "3 1 1" for the certificate (RFC 7671, 5.1).
func (i Issued) TLSA() string {
	return fmt.Sprintf("3 1 1 %x", sha256.Sum256(i.Cert.RawSubjectPublicKeyInfo))
}
