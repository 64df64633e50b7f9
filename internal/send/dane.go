package send

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Values of TLSA records (RFC 6698, 2.1; named by RFC 7218).
const (
	usageTA, usageEE              = 2, 3
	selectCert, selectKey         = 0, 1
	matchFull, match256, match512 = 0, 1, 2
)

// tlsaSet is what DNS says of a host's certificates.
type tlsaSet struct {
	base   string      // TLSA base domain (RFC 7672, 2.2.3)
	usable []dnsx.TLSA // what the host is to be judged by; none: TLS with any certificate
	text   []string    // all records, as reports show them
}

// tlsa finds the records of a host (RFC 7672, 2.2.2 and 2.2.3): none if it has none that
// DNSSEC vouches for. An error means that nobody can know, and that the host must not be
// used now (RFC 7672, 2.1.2).
func (c *Courier) tlsa(ctx context.Context, t target) (*tlsaSet, error) {
	var bases []string
	switch {
	case t.literal || t.host == "":
	case t.secure && t.final != t.host:
		bases = []string{t.final, t.host}
	case t.secure:
		bases = []string{t.host}
	case t.final != t.host:
		// Its addresses are of a zone that is not signed, but the alias may be of one that is.
		_, info, err := c.opt.Resolver.LookupCNAME(ctx, t.host)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return nil, err
		}
		if info.AD {
			bases = []string{t.host}
		}
	}
	for _, base := range bases {
		all, info, err := c.opt.Resolver.LookupTLSA(ctx, fmt.Sprintf("_%d._tcp.%s", t.addr.Port(), base))
		switch {
		case fault.Is(err, fault.NotFound), err == nil && !info.AD:
			continue
		case err != nil:
			return nil, err
		}
		set := &tlsaSet{base: base, usable: usableTLSA(all)}
		for _, r := range all[:min(len(all), 20)] {
			set.text = append(set.text, fmt.Sprintf("%d %d %d %s", r.Usage, r.Selector, r.Matching, hex.EncodeToString(r.Data[:min(len(r.Data), 64)])))
		}
		return set, nil
	}
	return nil, nil
}

// usableTLSA leaves out what cannot serve SMTP (RFC 7672, 3.1.3; RFC 6698, 4.1), and
// digests for which there is a stronger one of the same usage and selector (RFC 7671, 9).
func usableTLSA(all []dnsx.TLSA) []dnsx.TLSA {
	usable := slices.DeleteFunc(slices.Clone(all), func(r dnsx.TLSA) bool { return !wellFormed(r) })
	return slices.DeleteFunc(slices.Clone(usable), func(r dnsx.TLSA) bool {
		return r.Matching == match256 && slices.ContainsFunc(usable, func(o dnsx.TLSA) bool {
			return o.Usage == r.Usage && o.Selector == r.Selector && o.Matching == match512
		})
	})
}

func wellFormed(r dnsx.TLSA) bool {
	if r.Usage != usageTA && r.Usage != usageEE || r.Selector > selectKey {
		return false
	}
	switch r.Matching {
	case matchFull:
		var err error
		if r.Selector == selectCert {
			_, err = x509.ParseCertificate(r.Data)
		} else {
			_, err = x509.ParsePKIXPublicKey(r.Data)
		}
		return err == nil
	case match256:
		return len(r.Data) == sha256.Size
	case match512:
		return len(r.Data) == sha512.Size
	}
	return false
}

// associates tells whether a record speaks of a certificate (RFC 6698, 2.1).
func associates(r dnsx.TLSA, cert *x509.Certificate) bool {
	of := cert.Raw
	if r.Selector == selectKey {
		of = cert.RawSubjectPublicKeyInfo
	}
	switch r.Matching {
	case match256:
		sum := sha256.Sum256(of)
		of = sum[:]
	case match512:
		sum := sha512.Sum512(of)
		of = sum[:]
	}
	return bytes.Equal(of, r.Data)
}

// certFault is a certificate that will not do.
type certFault struct {
	kind mail.TLSFault
	why  string
}

func (e *certFault) Error() string { return e.why }

// judge checks what a host has shown against its records. names are those it may be
// called by (RFC 7672, 3.2.2).
func (s *tlsaSet) judge(state tls.ConnectionState, names []string, now time.Time) error {
	chain := state.PeerCertificates
	if len(chain) == 0 {
		return &certFault{mail.NotValid, "it shows no certificate"}
	}
	worst := &certFault{mail.NotValid, "no TLSA record of " + s.base + " matches what it shows"}
	for _, r := range s.usable {
		if r.Usage == usageEE {
			// Neither names nor times count (RFC 7672, 3.1.1).
			if associates(r, chain[0]) {
				return nil
			}
			continue
		}
		for _, anchor := range anchors(r, chain) {
			bad := under(anchor, chain, names, now)
			if bad == nil {
				return nil
			}
			worst = bad
		}
	}
	return worst
}

// anchors returns the trust anchors that a record names: certificates of the chain above
// the host's own, or one that the record holds itself. The host's own is none, be it shown
// twice.
func anchors(r dnsx.TLSA, chain []*x509.Certificate) (found []*x509.Certificate) {
	for _, cert := range chain[1:] {
		if associates(r, cert) && !cert.Equal(chain[0]) {
			found = append(found, cert)
		}
	}
	if len(found) == 0 && r.Matching == matchFull && r.Selector == selectCert {
		if cert, err := x509.ParseCertificate(r.Data); err == nil && !cert.Equal(chain[0]) {
			found = append(found, cert)
		}
	}
	return found
}

// under tells whether a chain leads to an anchor, and to one of the names.
func under(anchor *x509.Certificate, chain []*x509.Certificate, names []string, now time.Time) *certFault {
	opts := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now}
	opts.Roots.AddCert(anchor)
	for _, cert := range chain[1:] {
		opts.Intermediates.AddCert(cert)
	}
	if _, err := chain[0].Verify(opts); err != nil {
		return certFaultOf(err)
	}
	if !bears(chain[0], names) {
		return &certFault{mail.HostMismatch, "its certificate is not for " + strings.Join(names, " or ")}
	}
	return nil
}

// bears tells whether a certificate is for one of the names (RFC 7672, 3.2.3): the common
// name counts only if there is no other.
func bears(cert *x509.Certificate, names []string) bool {
	shown := cert.DNSNames
	if len(shown) == 0 {
		shown = []string{cert.Subject.CommonName}
	}
	for _, s := range shown {
		s = strings.ToLower(strings.TrimSuffix(s, "."))
		for _, n := range names {
			n = strings.ToLower(n)
			if s == n && !strings.Contains(s, "*") {
				return true
			}
			if parent, ok := strings.CutPrefix(s, "*."); ok && parent != "" {
				if _, rest, cut := strings.Cut(n, "."); cut && rest == parent {
					return true
				}
			}
		}
	}
	return false
}
