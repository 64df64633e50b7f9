package doctor

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/publish"
)

const getCertificate = "let an authority give certificates: [tls.acme] enabled = true in the configuration, and a listener for http on port 80"

// chain is the certificate of the hostname, or what there is to say that there is none.
func (d *Doctor) chain() ([]*x509.Certificate, finding) {
	if d.Chain == nil {
		return nil, skip("nothing is known of certificates")
	}
	chain, err := d.Chain()
	if err != nil {
		return nil, fail("see certificate and key in [tls] of the configuration", "the certificate cannot be read: %v", err)
	}
	if len(chain) == 0 {
		return nil, skip("there is no certificate")
	}
	return chain, finding{}
}

func (d *Doctor) certificate(context.Context) finding {
	chain, none := d.chain()
	switch {
	case none.status == Skipped && d.Chain != nil && d.ACME:
		return fail("see the server's log for why the authority gave none; it must reach port 80 or 443 of "+d.Site.Hostname, "no certificate has come from the authority yet")
	case none.status == Skipped && d.Chain != nil:
		return fail(getCertificate, "the server has no certificate; mail and passwords would go in the clear")
	case chain == nil:
		return none
	}
	return ok("there is a certificate of %s", chain[0].Issuer.CommonName)
}

func (d *Doctor) certificateName(context.Context) finding {
	chain, none := d.chain()
	if chain == nil {
		return none
	}
	if err := chain[0].VerifyHostname(d.Site.Hostname); err != nil {
		return fail("get a certificate for "+d.Site.Hostname+": "+getCertificate, "the certificate is for %s, not for %s", strings.Join(chain[0].DNSNames, ", "), d.Site.Hostname)
	}
	return ok("the certificate is for %s", d.Site.Hostname)
}

func (d *Doctor) certificateTime(context.Context) finding {
	chain, none := d.chain()
	if chain == nil {
		return none
	}
	leaf, now := chain[0], d.Now()
	left := leaf.NotAfter.Sub(now)
	renew := "renew the files of certificate and key in [tls]"
	if d.ACME {
		renew = "see the server's log for why the authority does not renew it"
	}
	switch {
	case now.Before(leaf.NotBefore):
		return fail("set the clock of this machine", "the certificate is valid from %s on only", leaf.NotBefore.Format(time.DateOnly))
	case left <= 0:
		return fail(renew, "the certificate has ended on %s", leaf.NotAfter.Format(time.DateOnly))
	case left < min(14*24*time.Hour, leaf.NotAfter.Sub(leaf.NotBefore)/4):
		return warn(renew, "the certificate ends in %s", days(left))
	}
	return ok("the certificate is valid for %s more", days(left))
}

func (d *Doctor) certificateChain(context.Context) finding {
	chain, none := d.chain()
	if chain == nil {
		return none
	}
	above := x509.NewCertPool()
	for _, c := range chain[1:] {
		above.AddCert(c)
	}
	now := d.Now()
	if now.After(chain[0].NotAfter) || now.Before(chain[0].NotBefore) {
		return skip("certificate-time tells")
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: d.Roots, Intermediates: above, CurrentTime: now})
	if err != nil {
		return fail("put the certificates of the authorities between behind the certificate in its file (fullchain.pem), or: "+getCertificate, "clients do not trust the certificate: %v", err)
	}
	return ok("clients trust the certificate")
}

func (d *Doctor) acme(context.Context) finding {
	if !d.ACME {
		return skip("certificates do not come from an authority by themselves")
	}
	if len(d.Missing) > 0 {
		return fail("make each name lead to this server, or take it out of names in [tls.acme]; the authority asks on port 80 or 443, see the server's log", "no certificate has come for %s", strings.Join(d.Missing, ", "))
	}
	_, http := d.listener("http")
	_, https := d.listener("https")
	if !http && !https {
		return fail("add to the configuration: [[listen]] protocol = \"http\" address = \":80\"", "the authority cannot ask this server: there is no listener for http or https")
	}
	return ok("certificates come and are renewed by themselves")
}

// caa climbs as an authority does (RFC 8659, 3).
func (d *Doctor) caa(ctx context.Context) finding {
	for name := d.Site.Hostname; strings.Contains(name, "."); _, name, _ = strings.Cut(name, ".") {
		set, _, err := d.Resolver.LookupCAA(ctx, name)
		if notThere(err) {
			continue
		}
		if err != nil {
			return unanswered(err)
		}
		set = slices.DeleteFunc(slices.Clone(set), func(c dnsx.CAA) bool { return !strings.EqualFold(c.Tag, "issue") })
		if len(set) == 0 {
			continue
		}
		return d.mayIssue(name, set)
	}
	return ok("no CAA record forbids an authority to give certificates for %s", d.Site.Hostname)
}

func (d *Doctor) mayIssue(name string, set []dnsx.CAA) finding {
	if d.Site.Issuer == "" {
		return skip("%s has CAA records, and it is not known who gives certificates to this server", name)
	}
	for _, c := range set {
		who, _, _ := strings.Cut(c.Value, ";")
		if strings.EqualFold(strings.TrimSpace(who), d.Site.Issuer) {
			return ok("the CAA records of %s let %s give certificates", name, d.Site.Issuer)
		}
	}
	return fail(put(publish.Record{Name: name, Type: "CAA", Value: `0 issue "` + d.Site.Issuer + `"`}), "the CAA records of %s do not let %s give certificates; the next renewal fails", name, d.Site.Issuer)
}

// tlsa compares what DANE promises with what is shown: a promise that is not kept stops mail.
func (d *Doctor) tlsa(ctx context.Context) finding {
	name := "_25._tcp." + d.Site.Hostname
	set, info, err := d.Resolver.LookupTLSA(ctx, name)
	switch {
	case notThere(err):
		return skip("%s has no TLSA record, so DANE is not used", name)
	case err != nil:
		return unanswered(err)
	case len(d.Site.TLSKeys) == 0:
		return fail("take the TLSA records of "+name+" out of the DNS until there is a certificate", "there are TLSA records, and the server has no certificate that fits")
	}
	want := publish.Record{Name: name, Type: "TLSA", Value: "3 1 1 " + hex.EncodeToString(d.Site.TLSKeys[0][:])}
	if !slices.ContainsFunc(set, d.fits) {
		return fail(put(want), "no TLSA record fits the certificate; hosts that use DANE send no mail here")
	}
	if !info.AD {
		return warn("have the zone of "+d.Site.Hostname+" signed by DNSSEC at the registrar, or take the TLSA records out", "the TLSA records are not in a signed zone, and so nobody heeds them")
	}
	return ok("a TLSA record fits the certificate")
}

// fits tells whether a record is one of the present certificate or of an authority above it
// (RFC 7672, 3.1: usages 2 and 3).
func (d *Doctor) fits(t dnsx.TLSA) bool {
	chain, _ := d.chain()
	for i, c := range chain {
		if t.Usage == 3 && i > 0 || t.Usage == 2 && i == 0 || t.Usage < 2 {
			continue
		}
		data := c.Raw
		if t.Selector == 1 {
			data = c.RawSubjectPublicKeyInfo
		}
		switch t.Matching {
		case 1:
			sum := sha256.Sum256(data)
			data = sum[:]
		case 2:
			sum := sha512.Sum512(data)
			data = sum[:]
		}
		if bytes.Equal(data, t.Data) {
			return true
		}
	}
	return false
}
