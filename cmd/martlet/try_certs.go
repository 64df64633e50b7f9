package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Lifetimes of the try-out certificates. Several clients refuse a server certificate
// that is valid for longer than 398 days, even from an authority they were told to
// trust.
const (
	authorityYears = 10
	serverLife     = 365 * 24 * time.Hour
	renewBefore    = 60 * 24 * time.Hour
	clockSkew      = time.Hour // how far another machine's clock may be behind
)

// localCA is a certificate authority of this folder alone, and the certificate that it
// issues for names of this machine. The authority stays for as long as it is valid,
// so that a client needs to be told of it once.
type localCA struct {
	dir string
	now func() time.Time
}

func (l localCA) caFile() string   { return filepath.Join(l.dir, "ca.pem") }
func (l localCA) certFile() string { return filepath.Join(l.dir, "cert.pem") }
func (l localCA) keyFile() string  { return filepath.Join(l.dir, "key.pem") }

var (
	tryNames = []string{"localhost", tryDomain, "mail." + tryDomain, "autoconfig." + tryDomain, "autodiscover." + tryDomain, "ua-auto-config." + tryDomain}
	tryAddrs = []net.IP{net.IPv4(127, 0, 0, 1).To4(), net.IPv6loopback}
)

// ensure makes what is missing, broken or near its end.
func (l localCA) ensure() error {
	if err := makeFolder(l.dir); err != nil {
		return fault.Wrap(fault.Unavailable, "cannot make the folder for certificates", err)
	}
	ca, caKey, err := l.authority()
	if err != nil {
		return err
	}
	if l.serverIsGood(ca) {
		return nil
	}
	return l.issue(ca, caKey)
}

// authority reads the authority, or makes one if there is none that can still issue.
func (l localCA) authority() (*x509.Certificate, *ecdsa.PrivateKey, error) {
	keyFile := filepath.Join(l.dir, "ca-key.pem")
	pair, err := tls.LoadX509KeyPair(l.caFile(), keyFile)
	if err == nil {
		cert, err := x509.ParseCertificate(pair.Certificate[0])
		key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
		if err == nil && ok && cert.IsCA && l.now().Add(renewBefore).Before(cert.NotAfter) {
			return cert, key, nil
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fault.Wrap(fault.Internal, "cannot make a key", err)
	}
	now := l.now()
	template := &x509.Certificate{
		Subject:   pkix.Name{Organization: []string{"Martlet"}, CommonName: "Martlet try-out authority " + now.Format("2006-01-02")},
		NotBefore: now.Add(-clockSkew), NotAfter: now.AddDate(authorityYears, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		// Whoever gets hold of the key can pose as this machine to itself, and as
		// nobody else (RFC 5280, 4.2.1.10).
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         []string{"localhost", tryDomain},
		PermittedIPRanges: []*net.IPNet{
			{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)},
			{IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)},
		},
	}
	der, err := sign(template, template, key, key)
	if err != nil {
		return nil, nil, err
	}
	if err := writeKey(keyFile, key); err != nil {
		return nil, nil, err
	}
	if err := writeFile(l.caFile(), pemOf("CERTIFICATE", der), 0o644); err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fault.Wrap(fault.Internal, "cannot read the certificate just made", err)
	}
	return cert, key, nil
}

// serverIsGood tells whether the certificate is there, belongs to the authority, has
// all names and will last for a while.
func (l localCA) serverIsGood(ca *x509.Certificate) bool {
	pair, err := tls.LoadX509KeyPair(l.certFile(), l.keyFile())
	if err != nil {
		return false
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil || !l.now().Add(renewBefore).Before(leaf.NotAfter) {
		return false
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	for _, name := range append(append([]string(nil), tryNames...), tryAddrs[0].String(), tryAddrs[1].String()) {
		_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: l.now()})
		if err != nil {
			return false
		}
	}
	return true
}

// issue makes the server's certificate. The file holds the chain, the leaf first.
func (l localCA) issue(ca *x509.Certificate, caKey *ecdsa.PrivateKey) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fault.Wrap(fault.Internal, "cannot make a key", err)
	}
	now := l.now()
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "localhost"},
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(serverLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              tryNames, IPAddresses: tryAddrs,
	}
	der, err := sign(template, ca, key, caKey)
	if err != nil {
		return err
	}
	if err := writeKey(l.keyFile(), key); err != nil {
		return err
	}
	return writeFile(l.certFile(), append(pemOf("CERTIFICATE", der), pemOf("CERTIFICATE", ca.Raw)...), 0o644)
}

// sign completes a template with a serial number and key identifiers.
func sign(template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err == nil {
		template.SerialNumber = serial
		public, e := x509.MarshalPKIXPublicKey(&key.PublicKey)
		id := sha256.Sum256(public)
		template.SubjectKeyId, err = id[:20], e
	}
	var der []byte
	if err == nil {
		der, err = x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "cannot make a certificate", err)
	}
	return der, nil
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fault.Wrap(fault.Internal, "cannot write a key", err)
	}
	return writeFile(path, pemOf("PRIVATE KEY", der), 0o600)
}

// writeFile puts a whole file in place or none: a crash at any moment leaves the old
// one or the new one.
func writeFile(path string, content []byte, mode os.FileMode) error {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return fault.Wrap(fault.Unavailable, "cannot write "+path, err)
	}
	_, err = tmp.Write(content)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		os.Remove(tmp.Name())
		return fault.Wrap(fault.Unavailable, "cannot write "+path, err)
	}
	if err := syncFolder(dir); err != nil {
		return fault.Wrap(fault.Unavailable, "cannot write "+path, err)
	}
	return nil
}
