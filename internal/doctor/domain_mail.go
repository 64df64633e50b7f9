package doctor

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/check/spf"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/publish"
)

// wanted returns the record that a domain should have under a name.
func (d *Doctor) wanted(dom publish.Domain, name, kind string) (publish.Record, bool) {
	all := publish.Records(d.Site, dom)
	i := slices.IndexFunc(all, func(r publish.Record) bool { return r.Name == name && r.Type == kind })
	if i < 0 {
		return publish.Record{}, false
	}
	return all[i], true
}

func (d *Doctor) mx(ctx context.Context, dom publish.Domain) finding {
	want, _ := d.wanted(dom, dom.Name, "MX")
	hosts, _, err := d.Resolver.LookupMX(ctx, dom.Name)
	switch {
	case notThere(err):
		return fail(put(want), "%s has no MX record, so mail does not come here", dom.Name)
	case err != nil:
		return unanswered(err)
	case hosts[0].Host == "":
		return fail("replace the MX record of "+dom.Name+" by: "+want.Value, "%s says by its MX record that it takes no mail (RFC 7505)", dom.Name)
	}
	var words []string
	for _, h := range hosts {
		words = append(words, h.Host)
	}
	i := slices.IndexFunc(hosts, func(h dnsx.MX) bool { return h.Host == d.Site.Hostname })
	switch {
	case i < 0:
		return fail(put(want)+"; and take the others out", "mail for %s goes to %s, not to %s", dom.Name, strings.Join(words, ", "), d.Site.Hostname)
	case hosts[0].Host != d.Site.Hostname && hosts[0].Preference < hosts[i].Preference:
		return warn("give "+d.Site.Hostname+" the lowest number of the MX records of "+dom.Name, "mail for %s goes to %s first, and to this server only if that does not answer", dom.Name, hosts[0].Host)
	}
	return ok("mail for %s goes to %s", dom.Name, strings.Join(words, ", "))
}

func (d *Doctor) mxAlias(ctx context.Context, dom publish.Domain) finding {
	hosts, _, err := d.Resolver.LookupMX(ctx, dom.Name)
	if err != nil {
		return skip("there is no MX record to look at")
	}
	for _, h := range hosts {
		if h.Host == "" {
			continue
		}
		end, _, err := d.Resolver.LookupCNAME(ctx, h.Host)
		if err == nil && end != h.Host {
			return fail("let the MX record of "+dom.Name+" name "+end+" itself", "the MX record of %s names %s, an alias of %s, which is not allowed (RFC 2181, 10.3)", dom.Name, h.Host, end)
		}
	}
	return ok("the MX records name no alias")
}

func (d *Doctor) mxAddress(ctx context.Context, dom publish.Domain) finding {
	hosts, _, err := d.Resolver.LookupMX(ctx, dom.Name)
	if err != nil {
		return skip("there is no MX record to look at")
	}
	for _, h := range hosts {
		if h.Host == "" {
			continue
		}
		addrs, _, err := d.Resolver.LookupAddr(ctx, h.Host)
		switch {
		case notThere(err):
			return fail("make a record A (and AAAA) of "+h.Host+", or take it out of the MX records of "+dom.Name, "%s, which an MX record of %s names, has no address", h.Host, dom.Name)
		case err != nil:
			return unanswered(err)
		}
		for _, a := range addrs {
			if (a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast()) && !slices.Contains(d.Site.Addresses, a) {
				return fail("make the record of "+h.Host+" lead to a public address", "%s, which an MX record of %s names, leads to %s, which others cannot reach", h.Host, dom.Name, a)
			}
		}
	}
	return ok("the hosts of the MX records have addresses")
}

// spfTexts are the SPF records of a domain.
func (d *Doctor) spfTexts(ctx context.Context, dom publish.Domain) ([]string, error) {
	texts, _, err := d.Resolver.LookupTXT(ctx, dom.Name)
	if notThere(err) {
		err = nil
	}
	return slices.DeleteFunc(slices.Clone(texts), func(t string) bool {
		first, _, _ := strings.Cut(t, " ")
		return !strings.EqualFold(first, "v=spf1")
	}), err
}

func (d *Doctor) spf(ctx context.Context, dom publish.Domain) finding {
	want, _ := d.wanted(dom, dom.Name, "TXT")
	texts, err := d.spfTexts(ctx, dom)
	switch {
	case err != nil:
		return unanswered(err)
	case len(texts) == 0:
		return fail(put(want), "%s has no SPF record", dom.Name)
	case len(texts) > 1:
		return fail("make one of them: leave "+want.Value+" (with what others need added to it) and take the rest out of the TXT records of "+dom.Name, "%s has %d SPF records, and so none counts", dom.Name, len(texts))
	}
	return ok("%s has one SPF record: %s", dom.Name, texts[0])
}

// spfLookups evaluates for an address that nothing in a record is likely to match, so that
// all of it is read.
func (d *Doctor) spfLookups(ctx context.Context, dom publish.Domain) finding {
	texts, err := d.spfTexts(ctx, dom)
	if err != nil || len(texts) != 1 {
		return skip("there is no one SPF record to look at")
	}
	r := spf.Check(ctx, d.Resolver, d.spfQuery(netip.MustParseAddr("192.0.2.254"), dom))
	switch r.Status {
	case spf.TempError:
		return skip("%s", r.Reason)
	case spf.PermError:
		want, _ := d.wanted(dom, dom.Name, "TXT")
		return fail("mend the record: "+want.Value+" is all that this server needs; each include, a, mx, ptr, exists and redirect counts, also within others, and ten are allowed", "the SPF record of %s cannot be used: %s", dom.Name, r.Reason)
	}
	return ok("the SPF record of %s is valid and asks for no more than it may", dom.Name)
}

func (d *Doctor) spfQuery(a netip.Addr, dom publish.Domain) spf.Query {
	return spf.Query{Addr: a, Helo: d.Site.Hostname, From: mail.Address{Local: "postmaster", Domain: dom.Name}, Receiver: d.Site.Hostname, Now: d.Now()}
}

func (d *Doctor) spfAddresses(ctx context.Context, dom publish.Domain) finding {
	texts, err := d.spfTexts(ctx, dom)
	if err != nil || len(texts) != 1 {
		return skip("there is no one SPF record to look at")
	}
	if d.Site.Smarthost != "" {
		return skip("mail goes out through %s, and from which addresses is not known here", d.Site.Smarthost)
	}
	for _, a := range slices.Concat(d.Site.Addresses, d.Site.Sources) {
		r := spf.Check(ctx, d.Resolver, d.spfQuery(a, dom))
		switch r.Status {
		case spf.Pass:
		case spf.TempError, spf.PermError:
			return skip("%s", r.Reason)
		default:
			add := "ip4:"
			if a.Is6() {
				add = "ip6:"
			}
			return fail("put mx or "+add+a.String()+" into the SPF record of "+dom.Name+", before its all", "the SPF record of %s does not let %s, an address of this server, send: %s", dom.Name, a, r.Status)
		}
	}
	if len(d.Site.Addresses) == 0 {
		return skip("nothing is known of the addresses of this server")
	}
	return ok("the SPF record of %s lets each address of this server send", dom.Name)
}

func (d *Doctor) spfAll(ctx context.Context, dom publish.Domain) finding {
	texts, err := d.spfTexts(ctx, dom)
	if err != nil || len(texts) != 1 {
		return skip("there is no one SPF record to look at")
	}
	terms := strings.Fields(strings.ToLower(texts[0]))
	fix := "end the SPF record of " + dom.Name + " in -all"
	switch last := terms[len(terms)-1]; {
	case slices.Contains(terms, "+all") || slices.Contains(terms, "all"):
		return fail(fix, "the SPF record of %s lets the whole world send in its name", dom.Name)
	case slices.Contains(terms, "-all") || slices.Contains(terms, "~all"):
		return ok("the SPF record of %s ends in a refusal of all others", dom.Name)
	case strings.HasPrefix(last, "redirect="):
		return ok("the SPF record of %s leads to another", dom.Name)
	}
	return warn(fix, "the SPF record of %s says nothing of hosts that it does not name", dom.Name)
}
