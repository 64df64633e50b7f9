package send

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/netip"
	"strings"
)

// TLSMode says how much protection a host must give.
type TLSMode uint8

const (
	// TLSOpportunistic uses TLS when it is offered, with any certificate, and goes
	// on in the clear when it fails (RFC 7435): better than nothing against those
	// who only listen.
	TLSOpportunistic TLSMode = iota
	// TLSRequired never goes on in the clear but takes any certificate.
	TLSRequired
	// TLSVerified also wants a certificate for the host's name from a known root.
	TLSVerified
)

// TLSRule is what one host must fulfil.
type TLSRule struct {
	Mode   TLSMode
	Name   string                          // name on the certificate; "" for the host's
	Verify func(tls.ConnectionState) error // a check of its own, such as DANE's, after that of Mode
}

// TLSPolicy returns the rule for one host of a domain. An error means that mail for
// the domain must not go to this host now; its sentence is given as the reason.
type TLSPolicy func(ctx context.Context, domain, host string) (TLSRule, error)

// rule returns what holds for a target.
func (c *Courier) rule(ctx context.Context, domain string, t target) (TLSRule, error) {
	if s := c.opt.Smarthost; s != nil {
		return s.rule(t), nil
	}
	if c.opt.TLSPolicy == nil {
		return TLSRule{}, nil
	}
	return c.opt.TLSPolicy(ctx, domain, t.host)
}

// certName is the name a certificate must bear. An address stands in brackets, which
// is the form crypto/x509 takes it in.
func certName(host string, rule TLSRule) string {
	name := rule.Name
	if name == "" {
		name = strings.Replace(host, "[ipv6:", "[", 1)
	}
	if _, err := netip.ParseAddr(name); err == nil {
		name = "[" + name + "]"
	}
	return name
}

// serverName is the name for SNI: none for an address (RFC 6066, 3).
func serverName(host string, rule TLSRule) string {
	if name := certName(host, rule); !strings.HasPrefix(name, "[") {
		return name
	}
	return ""
}

// judge checks a finished handshake and returns a note on the certificate.
func (r TLSRule) judge(host string, state tls.ConnectionState, conf *tls.Config) (string, error) {
	note := "certificate verified"
	if err := verifyChain(certName(host, r), state, conf); err != nil {
		if r.Mode == TLSVerified {
			return "", errors.New("its certificate is not valid: " + err.Error())
		}
		note = "certificate not verified"
	}
	if r.Verify != nil {
		if err := r.Verify(state); err != nil {
			return "", errors.New("its certificate is not acceptable: " + err.Error())
		}
	}
	return note, nil
}

func verifyChain(name string, state tls.ConnectionState, conf *tls.Config) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("none was shown")
	}
	opts := x509.VerifyOptions{Roots: conf.RootCAs, DNSName: name, Intermediates: x509.NewCertPool(), CurrentTime: conf.Time()}
	for _, c := range state.PeerCertificates[1:] {
		opts.Intermediates.AddCert(c)
	}
	_, err := state.PeerCertificates[0].Verify(opts)
	return err
}
