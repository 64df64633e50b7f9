package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/check/dnsbl"
	"github.com/martlet-mail/martlet/internal/check/spf"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/publish"
)

func (d *Doctor) resolverAnswers(ctx context.Context) finding {
	fix := "install a resolver on this machine (Debian: apt install unbound) and name it in the configuration: [queue] resolver = \"127.0.0.1:53\""
	var last error
	for _, name := range append([]string{d.Site.Hostname}, d.Probe...) {
		_, _, err := d.Resolver.LookupMX(ctx, name)
		if err == nil || notThere(err) {
			return ok("the name service answers")
		}
		last = err
	}
	return fail(fix, "the name service does not answer: %v", last)
}

// resolverValidates asks for a name of which it is known that it is signed.
func (d *Doctor) resolverValidates(ctx context.Context) finding {
	answered := ""
	for _, name := range append([]string{d.Site.Hostname}, d.Signed...) {
		_, info, err := d.Resolver.LookupAddr(ctx, name)
		if err == nil && info.AD {
			return ok("the resolver checks DNSSEC (%s)", name)
		}
		if err == nil && name != d.Site.Hostname {
			answered = name
		}
	}
	if answered == "" {
		return skip("no name that is known to be signed could be looked up")
	}
	return warn("run a resolver that checks DNSSEC on this machine (Debian: apt install unbound) and name it: [queue] resolver = \"127.0.0.1:53\"; or, if the one that is asked does and the way to it is safe: resolver_validates = true",
		"the resolver does not say that %s is authentic; mail to domains with DANE goes out without it", answered)
}

func (d *Doctor) hostname(ctx context.Context) finding {
	name := d.Site.Hostname
	fix := "set hostname in the configuration to a name of your own, such as mail.example.org"
	_, notAddress := netip.ParseAddr(name)
	switch {
	case name == "localhost" || !strings.Contains(name, ".") || notAddress == nil:
		return fail(fix, "%q is no full name that others could look up", name)
	case slices.ContainsFunc([]string{"local", "localdomain", "lan", "home", "internal", "invalid", "arpa"}, func(end string) bool { return strings.HasSuffix(name, "."+end) }):
		return fail(fix, "%s is a name that others do not have", name)
	}
	return ok("this server is %s", name)
}

// addressRecord is the record for an address.
func (d *Doctor) addressRecord(a netip.Addr) publish.Record {
	kind := "A"
	if a.Is6() {
		kind = "AAAA"
	}
	return publish.Record{Name: d.Site.Hostname, Type: kind, Value: a.String()}
}

func (d *Doctor) hostnameAddress(ctx context.Context) finding {
	have, _, err := d.Resolver.LookupAddr(ctx, d.Site.Hostname)
	if err != nil && !notThere(err) {
		return unanswered(err)
	}
	if len(d.Site.Addresses) == 0 {
		return fail("set addresses in [dns] of the configuration, and make records A (and AAAA) of "+d.Site.Hostname+" with them", "nothing is known of the addresses of this server")
	}
	for _, a := range d.Site.Addresses {
		if !slices.Contains(have, a) {
			return fail(put(d.addressRecord(a)), "%s does not lead to %s, an address of this server, but to %s", d.Site.Hostname, a, list(have))
		}
	}
	for _, a := range have {
		if !slices.Contains(d.Site.Addresses, a) {
			return fail("take out of the DNS: "+strings.TrimPrefix(put(d.addressRecord(a)), "put into the DNS: ")+"; or, if it is one of this server's, add it to addresses in [dns]",
				"%s leads to %s, too, which is no address of this server", d.Site.Hostname, a)
		}
	}
	return ok("%s leads to %s", d.Site.Hostname, list(have))
}

func list[T fmt.Stringer](all []T) string {
	var words []string
	for _, a := range all {
		words = append(words, a.String())
	}
	if len(words) == 0 {
		return "nothing"
	}
	return strings.Join(words, ", ")
}

func (d *Doctor) hostnameAlias(ctx context.Context) finding {
	end, _, err := d.Resolver.LookupCNAME(ctx, d.Site.Hostname)
	switch {
	case notThere(err):
		return skip("%s does not exist", d.Site.Hostname)
	case err != nil:
		return unanswered(err)
	case end != d.Site.Hostname:
		return fail("replace the CNAME record of "+d.Site.Hostname+" by records A (and AAAA) with the addresses", "%s is an alias of %s, which an MX record may not name (RFC 5321, 5.1)", d.Site.Hostname, end)
	}
	return ok("%s is no alias", d.Site.Hostname)
}

func (d *Doctor) addressPublic(ctx context.Context) finding {
	if len(d.Site.Addresses) == 0 {
		return skip("nothing is known of the addresses of this server")
	}
	for _, a := range d.Site.Addresses {
		if a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsUnspecified() || a.IsMulticast() {
			return fail("set addresses in [dns] of the configuration to those at which others reach this server", "%s is an address that others cannot reach", a)
		}
	}
	return ok("the addresses are public: %s", list(d.Site.Addresses))
}

func (d *Doctor) ptr(ctx context.Context) finding {
	if len(d.Site.Addresses) == 0 {
		return skip("nothing is known of the addresses of this server")
	}
	for _, a := range d.Site.Addresses {
		want := publish.Record{Name: publish.ReverseName(a), Type: "PTR", Value: d.Site.Hostname}
		fix := "ask whoever gave you the address " + a.String() + " (control panel: reverse DNS) to set its name to " + d.Site.Hostname + ": " + strings.TrimPrefix(put(want), "put into the DNS: ")
		names, _, err := d.Resolver.LookupPTR(ctx, a)
		switch {
		case notThere(err):
			return fail(fix, "the address %s has no name; Gmail, Outlook and others refuse mail from it", a)
		case err != nil:
			return unanswered(err)
		case !slices.Contains(names, d.Site.Hostname):
			return fail(fix, "the address %s has the name %s, not %s", a, strings.Join(names, ", "), d.Site.Hostname)
		}
	}
	return ok("each address has the name %s", d.Site.Hostname)
}

func (d *Doctor) ptrConfirmed(ctx context.Context) finding {
	looked := false
	for _, a := range d.Site.Addresses {
		names, _, err := d.Resolver.LookupPTR(ctx, a)
		if err != nil {
			continue // ptr tells
		}
		for _, name := range names {
			back, _, err := d.Resolver.LookupAddr(ctx, name)
			if err != nil && !notThere(err) {
				return unanswered(err)
			}
			looked = true
			if !slices.Contains(back, a) {
				r := d.addressRecord(a)
				r.Name = name
				return fail(put(r), "the address %s has the name %s, which does not lead back to it", a, name)
			}
		}
	}
	if !looked {
		return skip("no address has a name")
	}
	return ok("each name of an address leads back to it")
}

func (d *Doctor) heloSPF(ctx context.Context) finding {
	fix := put(publish.Record{Name: d.Site.Hostname, Type: "TXT", Value: "v=spf1 a -all"})
	for _, a := range d.Site.Addresses {
		r := spf.Check(ctx, d.Resolver, spf.Query{Addr: a, Helo: d.Site.Hostname, Receiver: d.Site.Hostname, Now: d.Now()})
		switch r.Status {
		case spf.Pass:
		case spf.TempError:
			return skip("%s", r.Reason)
		case spf.None:
			return warn(fix, "%s, the name that this server greets with, has no SPF record; reports of failures that it sends are trusted less", d.Site.Hostname)
		default:
			return fail(fix, "%s may not send in the name of %s, which this server greets with: SPF says %s", a, d.Site.Hostname, strings.TrimSpace(string(r.Status)+" "+r.Reason))
		}
	}
	if len(d.Site.Addresses) == 0 {
		return skip("nothing is known of the addresses of this server")
	}
	return ok("SPF lets this server send in the name that it greets with")
}

func (d *Doctor) ipv6(ctx context.Context) finding {
	if d.Machine.Addresses == nil {
		return skip("the interfaces of the machine are not known")
	}
	have, err := d.Machine.Addresses()
	if err != nil {
		return skip("the interfaces of the machine cannot be read: %v", err)
	}
	six := func(a netip.Addr) bool { return a.Is6() && !a.Is4In6() && a.IsGlobalUnicast() && !a.IsPrivate() }
	here, published := slices.ContainsFunc(have, six), slices.ContainsFunc(d.Site.Addresses, six)
	switch {
	case published && !here:
		return warn("give the address to an interface of this machine, or take it out of addresses in [dns] and out of the DNS", "an IPv6 address is published that no interface of this machine has")
	case here && !published:
		a := have[slices.IndexFunc(have, six)]
		return warn(put(d.addressRecord(a))+"; and have its PTR record made", "this machine sends from %s, which %s does not lead to; Gmail and others refuse mail over IPv6 then", a, d.Site.Hostname)
	case !here:
		return ok("this machine has IPv4 only, and says so")
	}
	return ok("IPv6 is there and published")
}

func (d *Doctor) dnssec(ctx context.Context) finding {
	_, info, err := d.Resolver.LookupAddr(ctx, d.Site.Hostname)
	switch {
	case err != nil && !notThere(err):
		return unanswered(err)
	case !info.AD:
		return skip("the zone of %s is not signed, or the resolver does not check it; DANE is of no use without, all else works", d.Site.Hostname)
	}
	return ok("the zone of %s is signed", d.Site.Hostname)
}

func (d *Doctor) dnsUpdate(ctx context.Context) finding {
	if d.Updater == nil {
		return skip("no zone is changed from here")
	}
	if err := d.Updater.Probe(ctx); err != nil {
		return fail("see the [[dns.update]] block of the zone in the configuration, and what the name server allows its key", "zones cannot be changed: %v", err)
	}
	return ok("the name servers of all zones in [[dns.update]] take our key")
}

// everListed is an address that every list has, so that it can be told from one that answers
// nobody, or us not (RFC 5782, 5).
var everListed = netip.MustParseAddr("127.0.0.2")

func (d *Doctor) blocklists(ctx context.Context) finding {
	if len(d.Blocklists) == 0 || len(d.Site.Addresses) == 0 {
		return skip("no list, or no address, is known")
	}
	var zones []dnsbl.Zone
	for _, name := range d.Blocklists {
		if codes, _, err := d.Resolver.LookupIP(ctx, dnsbl.Name(everListed, name), false); err == nil && codes[0].As4()[1] == 0 {
			zones = append(zones, dnsbl.Zone{Name: name, Action: dnsbl.Reject})
		}
	}
	if len(zones) == 0 {
		return skip("none of the lists answers us; they do not answer public resolvers such as 8.8.8.8")
	}
	for _, a := range d.Site.Addresses {
		for _, hit := range dnsbl.Ask(ctx, d.Resolver, a, zones) {
			if hit.Listed() {
				why := fmt.Sprintf("%s is on the list %s, by which many refuse mail", a, hit.Zone.Name)
				if hit.Text != "" {
					why += ": " + hit.Text
				}
				return fail("find out why, and ask to be taken off: search for "+hit.Zone.Name+" removal", "%s", why)
			}
		}
	}
	return ok("the addresses are on none of the lists that answered (%d of %d)", len(zones), len(d.Blocklists))
}

func (d *Doctor) nameLists(ctx context.Context, dom publish.Domain) finding {
	answered := 0
	for _, zone := range d.NameLists {
		addrs, _, err := d.Resolver.LookupIP(ctx, dom.Name+"."+zone, false)
		switch {
		case err == nil && len(addrs) > 0 && addrs[0].As4()[0] == 127 && addrs[0].As4()[1] == 0:
			return fail("open the list's page, find out why and ask to be taken off: "+zone, "%s is on the list %s (%s)", dom.Name, zone, addrs[0])
		case notThere(err):
			answered++
		}
	}
	if answered == 0 {
		return skip("no list of domains gave an answer")
	}
	return ok("%s is on none of the lists of domains that answered", dom.Name)
}

func (d *Doctor) domains(ctx context.Context) finding {
	switch {
	case d.Unread != nil:
		return fail("mend the store first", "domains cannot be read, and nothing was looked at that is theirs: %v", d.Unread)
	case len(d.Domains) == 0:
		return fail("martlet domain add example.org", "there is no domain yet")
	}
	var names []string
	for _, dom := range d.Domains {
		names = append(names, dom.Name)
	}
	return ok("there is %s", strings.Join(names, ", "))
}

// exists tells whether mail for an address is taken in.
func (d *Doctor) exists(ctx context.Context, local string, dom publish.Domain) finding {
	if d.Exists == nil {
		return skip("nothing is known of addresses")
	}
	found, err := d.Exists(ctx, mail.Address{Local: local, Domain: dom.Name})
	switch {
	case err != nil:
		return skip("it cannot be looked up: %v", err)
	case !found:
		return warn(fmt.Sprintf("martlet alias add %s@%s ADDRESS", local, dom.Name), "there is no %s@%s, to which others write when something is wrong (RFC 2142)", local, dom.Name)
	}
	return ok("there is %s@%s", local, dom.Name)
}

func (d *Doctor) postmaster(ctx context.Context, dom publish.Domain) finding {
	f := d.exists(ctx, "postmaster", dom)
	if f.status == Warn {
		f.status = Fail // RFC 5321, 4.5.1: it must be there
	}
	return f
}

func (d *Doctor) abuse(ctx context.Context, dom publish.Domain) finding {
	return d.exists(ctx, "abuse", dom)
}
