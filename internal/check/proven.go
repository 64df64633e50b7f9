package check

import (
	"strings"

	"github.com/martlet-mail/martlet/internal/check/dkim"
	"github.com/martlet-mail/martlet/internal/check/dmarc"
	"github.com/martlet-mail/martlet/internal/check/spf"
	"github.com/martlet-mail/martlet/internal/dnsx"
)

// AuthorProven tells whether somebody stands behind the one domain that the message says it is from:
// DMARC passes, or, where the domain has no policy, would with one that asks for nothing
// special; or a forwarder whose word is taken has sent it on.
func (v *Verdict) AuthorProven() bool {
	if v.Trusted.Domain != "" && !v.Trusted.Open && v.DMARC.Problem == "" {
		return true
	}
	switch v.DMARC.Status {
	case dmarc.Pass:
		return true
	case dmarc.None, dmarc.PermError:
	default:
		return false
	}
	if len(v.Authors) != 1 {
		return false
	}
	if v.SPF.Status == spf.Pass && v.IsOfAuthor(v.SPF.Domain) {
		return true
	}
	for _, s := range v.DKIM {
		if s.Status == dkim.Pass && v.IsOfAuthor(s.Domain) {
			return true
		}
	}
	return false
}

// Unknown tells whether what AuthorProven says may be another thing soon.
func (v *Verdict) Unknown() bool { return v.DMARC.Status == dmarc.TempError }

// IsOfAuthor tells whether a host or domain would stand behind an author of the message if it
// sent it: they are of one organization.
func (v *Verdict) IsOfAuthor(name string) bool {
	name = canonical(name)
	if name == "" {
		return false
	}
	for _, a := range v.Authors {
		if below(name, a) || below(a, name) {
			return true
		}
	}
	return below(name, v.DMARC.Organization)
}

// canonical is a domain's name in A-labels, if it is one.
func canonical(name string) string {
	if a, err := dnsx.ASCII(name); err == nil {
		return a
	}
	return strings.ToLower(name)
}

// SenderProven tells whether the sender of the envelope is who he says: a report to him goes
// to nobody who has not written. The null sender gets none.
func (v *Verdict) SenderProven() bool {
	return v.SPF.Status == spf.Pass && !v.SPF.IsHelo || v.DMARC.Status == dmarc.Pass && below(v.Envelope.From.Domain, v.DMARC.Organization)
}

// Mailboxes reads the authors of a message of our own people, to vouch for them: see
// dmarc.Mailboxes.
func Mailboxes(header []byte) (addresses []string, problem string) { return dmarc.Mailboxes(header) }
