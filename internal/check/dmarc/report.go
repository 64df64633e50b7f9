package dmarc

import (
	"context"
	"strings"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// ReportTo returns the address at which reports for a URI of a record are wanted, if that is
// so: a host outside of the organization at whose domain the record was found must say that
// it takes them, or anybody could have it flooded (RFC 9990, External Destinations).
//
// ok is false where nothing may be sent. The error is Unavailable: ask again later.
func ReportTo(ctx context.Context, resolver dnsx.Resolver, domain, uri string) (to mail.Address, ok bool, err error) {
	to, mailto := MailTo(uri)
	if !mailto {
		return to, false, nil
	}
	domain, err = dnsx.ASCII(domain)
	host, bad := dnsx.ASCII(to.Domain)
	if err != nil || bad != nil {
		return to, false, nil
	}
	t := newTree(resolver)
	ours, err := t.climb(ctx, domain)
	if err != nil {
		return to, false, fault.Wrap(fault.Unavailable, "reports cannot be addressed now", err)
	}
	theirs, err := t.climb(ctx, host)
	if err != nil {
		return to, false, fault.Wrap(fault.Unavailable, "reports cannot be addressed now", err)
	}
	if ours.organization == theirs.organization {
		return to, true, nil
	}
	texts, _, err := resolver.LookupTXT(ctx, domain+"._report._dmarc."+host)
	switch {
	case fault.Is(err, fault.NotFound), fault.Is(err, fault.Invalid): // too long a name is none
		return to, false, nil
	case err != nil:
		return to, false, err
	}
	for _, text := range texts {
		r, valid := ParseRecord(text)
		if !valid {
			continue
		}
		ok = true
		for _, u := range r.RUA { // another address, at the same host
			other, named := MailTo(u)
			if !named || !strings.EqualFold(other.Domain, to.Domain) {
				return to, false, nil
			}
			return other, true, nil
		}
	}
	return to, ok, nil
}
