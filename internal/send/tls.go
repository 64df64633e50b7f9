package send

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/sts"
)

// TLSMode says how much protection hosts must give.
type TLSMode uint8

const (
	// TLSAuto does what the host's TLSA records or its domain's MTA-STS policy ask for.
	// Without either it uses TLS when it is offered, with any certificate, and goes on in
	// the clear when it fails (RFC 7435): better than nothing against those who only listen.
	TLSAuto TLSMode = iota
	// TLSOpportunistic asks for no records and no policy.
	TLSOpportunistic
	// TLSRequired never goes on in the clear but takes any certificate.
	TLSRequired
	// TLSVerified also wants a certificate for the host's name from a known root.
	TLSVerified
	// TLSDANE wants TLSA records that DNSSEC vouches for, and a certificate that they name
	// (RFC 7672, 6).
	TLSDANE
)

// rule is what one host must fulfil, for mail of one domain.
type rule struct {
	mode   TLSMode  // any but TLSAuto
	sni    string   // "" for none
	names  []string // the certificate must bear one
	tlsa   *tlsaSet // nil: no DANE
	policy TLSPolicyFacts
	proof  mail.Proof // what a certificate that will do proves
	soft   bool       // what it asks for is observed, but mail goes anyway
	known  string     // an older problem with the policy, for reports
}

// TLS tells whether the rule forbids to go on in the clear.
func (r *rule) wantsTLS() bool { return r.mode > TLSOpportunistic && !r.soft }

// key tells rules apart: sessions made under equal ones are as good as each other.
func (r *rule) key() string {
	k := fmt.Sprint(r.mode, r.sni, r.names, r.soft, r.proof)
	if r.tlsa != nil {
		sum := sha256.Sum256([]byte(fmt.Sprint(r.tlsa.base, r.tlsa.usable)))
		k += hex.EncodeToString(sum[:16])
	}
	return k
}

// forbidden is a host that may not be used, by a rule and not by its own words.
func forbidden(kind mail.TLSFault, enhanced, text string) *refusal {
	r := ours(451, enhanced, text)
	r.Line = mail.Line{Failure: kind, Why: short200(text)}
	return r
}

func short200(s string) string {
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "")
	}
	return s
}

// rule returns what holds for a target. The error is a *refusal: mail must not go to this
// host now.
func (c *Courier) rule(ctx context.Context, j *job, t target) (rule, error) {
	if s := c.opt.Smarthost; s != nil {
		r := s.rule(t)
		if j.mustRequire() {
			return r, j.stricter(t, &r)
		}
		return r, nil
	}
	r := rule{mode: TLSOpportunistic, sni: serverName(t.host), names: []string{certName(t.host)},
		proof: mail.ProofPKIX, policy: TLSPolicyFacts{Type: "no-policy-found", Domain: j.domain}}
	mode := TLSAuto
	if j.via != nil {
		mode = j.via.TLS
	}
	if mode == TLSAuto || mode == TLSDANE {
		if err := c.byDANE(ctx, j, t, &r, mode); err != nil {
			return r, err
		}
	}
	if mode == TLSAuto && r.tlsa == nil {
		if err := c.bySTS(ctx, j, t, &r); err != nil {
			return r, err
		}
	}
	if mode == TLSRequired || mode == TLSVerified {
		r.mode = mode
	}
	if j.mustRequire() {
		return r, j.stricter(t, &r)
	}
	if mode == TLSAuto { // what the administrator asks for stands
		r.soft = r.soft || j.env.TLSOptional // RFC 8689, 4.2.2
	}
	return r, nil
}

// byDANE puts the host's TLSA records into a rule.
func (c *Courier) byDANE(ctx context.Context, j *job, t target, r *rule, mode TLSMode) error {
	set, err := (*tlsaSet)(nil), error(nil)
	if t.signed {
		set, err = c.tlsa(ctx, t)
	}
	switch {
	case err != nil:
		bad := forbidden(mail.DNSSECInvalid, "4.7.5", "the TLSA records of "+t.host+" cannot be looked up now: "+fault.Say(err))
		r.policy.Type = "tlsa"
		c.observe(j, t, nil, *r, bad.Line)
		if r.soft = mode == TLSAuto && j.env.TLSOptional && !j.env.RequireTLS; r.soft {
			return nil
		}
		return bad
	case set == nil && mode == TLSDANE:
		bad := forbidden(mail.DANERequired, "4.7.5", "mail for "+j.domain+" needs DANE, and "+t.host+" has no TLSA records that DNSSEC vouches for")
		r.policy.Type = "tlsa"
		c.observe(j, t, nil, *r, bad.Line)
		return bad
	case set == nil:
		return nil
	}
	r.tlsa, r.sni, r.names, r.proof = set, set.base, []string{set.base}, mail.ProofDANE
	r.names = append(r.names, t.alsoNamed...)
	r.policy = TLSPolicyFacts{Type: "tlsa", Domain: j.domain, Strings: set.text}
	r.mode = TLSVerified
	if len(set.usable) == 0 {
		r.mode, r.proof = TLSRequired, mail.AnyProof
		r.known = "none of its TLSA records is usable"
		if mode == TLSDANE {
			return forbidden(mail.TLSAInvalid, "4.7.5", "mail for "+j.domain+" needs DANE, and no TLSA record of "+t.host+" is usable")
		}
	}
	return nil
}

// bySTS puts the domain's MTA-STS policy into a rule.
func (c *Courier) bySTS(ctx context.Context, j *job, t target, r *rule) error {
	if t.fixed || t.literal || c.opt.STS == nil {
		return nil
	}
	found, err := j.sts(ctx, c)
	if err != nil {
		return forbidden(mail.STSFetchError, "4.7.5", fault.Say(err))
	}
	p := found.Policy
	if p == nil {
		return nil
	}
	r.policy = TLSPolicyFacts{Type: "sts", Domain: j.domain, Strings: p.Lines(), Hosts: p.MX}
	r.mode, r.proof = TLSVerified, mail.ProofSTS
	r.soft = p.Mode != sts.Enforce
	if p.Matches(t.host) {
		return nil
	}
	bad := forbidden(mail.NotValid, "4.7.5", "the MTA-STS policy of "+j.domain+" does not name the mail host "+t.host)
	c.observe(j, t, nil, *r, bad.Line)
	if r.soft || j.env.TLSOptional && !j.env.RequireTLS {
		r.soft = true
		return nil
	}
	return bad
}

// sts asks for the domain's policy once, and tells of one that could not be had.
func (j *job) sts(ctx context.Context, c *Courier) (sts.Found, error) {
	if !j.asked {
		j.asked = true
		j.policy, j.noPolicy = c.opt.STS(ctx, j.domain)
		if f := j.policy; f.Failure != "" {
			facts := TLSPolicyFacts{Type: "sts", Domain: j.domain}
			if f.Policy != nil {
				facts.Strings, facts.Hosts = f.Policy.Lines(), f.Policy.MX
			}
			c.observe(j, target{}, nil, rule{policy: facts}, mail.Line{Failure: f.Failure, Why: short200(f.Why)})
		}
	}
	return j.policy, j.noPolicy
}

// stricter makes a rule what REQUIRETLS asks for (RFC 8689, 4.2.1): a name that DNSSEC or
// MTA-STS vouches for, or that did not come from DNS, and a certificate that proves it.
func (j *job) stricter(t target, r *rule) error {
	vouched := t.signed || t.fixed || t.literal || r.policy.Type == "sts" && j.policy.Policy != nil && j.policy.Policy.Matches(t.host)
	if f := j.policy; !vouched && f.Policy == nil && (f.Unknown || f.Failure == mail.STSFetchError) {
		return forbidden(mail.STSFetchError, "4.7.5", "whether a policy of "+j.domain+" vouches for "+t.host+" cannot be found out now; the sender wants TLS with a host that is vouched for")
	}
	if !vouched {
		return forbidden(mail.NotValid, "4.7.10", t.host+" takes mail for "+j.domain+" by the word of a name service that nobody has signed; the sender wants TLS with a host that is vouched for")
	}
	r.soft = false
	if r.tlsa == nil || len(r.tlsa.usable) == 0 {
		r.mode, r.tlsa = TLSVerified, nil
		if r.proof == mail.AnyProof {
			r.proof = mail.ProofPKIX
		}
	}
	return nil
}

// certName is the name a certificate must bear. An address stands in brackets, which
// is the form crypto/x509 takes it in.
func certName(host string) string {
	name := strings.Replace(host, "[ipv6:", "[", 1)
	if _, err := netip.ParseAddr(name); err == nil {
		name = "[" + name + "]"
	}
	return name
}

// serverName is the name for SNI: none for an address (RFC 6066, 3).
func serverName(host string) string {
	if name := certName(host); !strings.HasPrefix(name, "[") {
		return name
	}
	return ""
}

// judge checks a finished handshake. bad is what is wrong with the certificate, nil if it
// proves what the rule wants to be proved.
func (r *rule) judge(state tls.ConnectionState, conf *tls.Config) (proof mail.Proof, bad *certFault) {
	var err error
	if r.tlsa != nil && len(r.tlsa.usable) > 0 {
		err = r.tlsa.judge(state, r.names, conf.Time())
	} else {
		err = verifyChain(r.names[0], state, conf)
	}
	if err == nil {
		if r.proof == mail.AnyProof {
			return mail.ProofPKIX, nil
		}
		return r.proof, nil
	}
	if !errors.As(err, &bad) {
		bad = certFaultOf(err)
	}
	return mail.AnyProof, bad
}

func verifyChain(name string, state tls.ConnectionState, conf *tls.Config) error {
	if len(state.PeerCertificates) == 0 {
		return &certFault{mail.NotValid, "it shows no certificate"}
	}
	opts := x509.VerifyOptions{Roots: conf.RootCAs, DNSName: name, Intermediates: x509.NewCertPool(), CurrentTime: conf.Time()}
	for _, c := range state.PeerCertificates[1:] {
		opts.Intermediates.AddCert(c)
	}
	_, err := state.PeerCertificates[0].Verify(opts)
	return err
}

// certFaultOf sorts what crypto/x509 says (RFC 8460, 4.3.1).
func certFaultOf(err error) *certFault {
	kind := mail.NotTrusted
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &name):
		kind = mail.HostMismatch
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		kind = mail.Expired
	}
	return &certFault{kind, short200("its certificate is not valid: " + err.Error())}
}
