package netsrv

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Revocations are the certificates of clients that are void before their time
// (RFC 5280, 5), in a file that may change while the server runs.
type Revocations struct {
	disk        Files
	file        string
	authorities []*x509.Certificate
	log         *slog.Logger
	now         func() time.Time

	mu      sync.Mutex
	checked time.Time
	stamp   fileStamp
	void    map[string]bool // by issuer and serial number
}

// maxRevocations bounds the file, in bytes; an entry has some 40.
const maxRevocations = 64 << 20

// LoadRevocations reads lists in PEM, each signed by one of the authorities. log may
// be nil.
func LoadRevocations(log *slog.Logger, now func() time.Time, disk Files, file string, authorities []*x509.Certificate) (*Revocations, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	r := &Revocations{disk: disk, file: file, authorities: authorities, log: log, now: now, checked: now()}
	return r, r.reload()
}

// Has tells whether a certificate is revoked. At most once a second it looks whether the
// file has changed; one that is broken is logged, and the old lists stay in use.
func (r *Revocations) Has(cert *x509.Certificate) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if since := now.Sub(r.checked); since >= time.Second || since < 0 {
		r.checked = now
		if err := r.reload(); err != nil {
			r.log.Error("revocation lists not reloaded, the old ones stay", "file", r.file, "err", err)
		}
	}
	return r.void[revokedKey(cert.RawIssuer, cert.SerialNumber.Bytes())]
}

func revokedKey(issuer, serial []byte) string { return string(issuer) + "\x00" + string(serial) }

// reload reads the file if it is not that of the last try.
func (r *Revocations) reload() error {
	st, err := r.disk.Stat(r.file)
	if err != nil {
		return fault.Wrap(fault.Invalid, "revocation list cannot be read", err)
	}
	stamp := fileStamp{st.ModTime(), st.Size()}
	if stamp == r.stamp {
		return nil
	}
	r.stamp = stamp
	if st.Size() > maxRevocations {
		return fault.Newf(fault.TooLarge, "revocation list %s is larger than %d bytes", r.file, maxRevocations)
	}
	text, err := r.disk.ReadFile(r.file)
	if err != nil {
		r.stamp = fileStamp{} // it may be good: the next look tries again
		return fault.Wrap(fault.Invalid, "revocation list cannot be read", err)
	}
	void, err := r.parse(text)
	if err != nil {
		return fault.Wrap(fault.Invalid, "revocation list "+r.file+" cannot be used", err)
	}
	r.void = void
	r.log.Info("revocation lists read", "file", r.file, "certificates", len(void))
	return nil
}

func (r *Revocations) parse(text []byte) (map[string]bool, error) {
	void, lists := map[string]bool{}, 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		list, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return nil, err
		}
		if !r.signed(list) {
			return nil, fault.Newf(fault.Invalid, "a list of %s is signed by no authority of clients", list.Issuer)
		}
		if !list.NextUpdate.IsZero() && r.now().After(list.NextUpdate) {
			r.log.Warn("revocation list is old, it is used all the same", "issuer", list.Issuer.String(), "due", list.NextUpdate)
		}
		for _, e := range list.RevokedCertificateEntries {
			void[revokedKey(list.RawIssuer, e.SerialNumber.Bytes())] = true
		}
		lists++
	}
	if lists == 0 {
		return nil, fault.New(fault.Invalid, "there is no list in PEM form in it")
	}
	return void, nil
}

func (r *Revocations) signed(list *x509.RevocationList) bool {
	for _, a := range r.authorities {
		if bytes.Equal(a.RawSubject, list.RawIssuer) && list.CheckSignatureFrom(a) == nil {
			return true
		}
	}
	return false
}

// refuse is the last check of a handshake, of one that takes up an old session too.
func (r *Revocations) refuse(st tls.ConnectionState) error {
	for _, chain := range st.VerifiedChains {
		for _, cert := range chain {
			if r.Has(cert) {
				return fault.Newf(fault.Denied, "the certificate of %s is revoked", cert.Subject)
			}
		}
	}
	return nil
}
