package send

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
)

// target is one address of one host.
type target struct {
	host  string // name, or the literal itself
	addr  netip.AddrPort
	final string // name that holds the addresses, after all aliases

	literal bool // no name led here
	fixed   bool // the configuration led here, not the domain's records
	signed  bool // DNSSEC vouches for what led to the host (RFC 7672, 2.2.1)
	secure  bool // and for its addresses (RFC 7672, 2.2.2)

	alsoNamed []string // names beside the host's own that its certificate may bear (RFC 7672, 3.2.2)
}

// route is the way to the hosts of a domain: groups of equal preference, best first.
// Addresses are looked up only when a group's turn comes.
type route struct {
	c      *Courier
	domain string
	hosts  []dnsx.MX // what is left to try
	fixed  []target  // targets that need no lookup, given first
	port   uint16
	given  bool     // hosts are from the configuration
	signed bool     // DNSSEC vouches for the list of hosts
	names  []string // of the domain, with that at the end of its aliases
	any    bool     // some target was handed out
	hitch  bool     // some lookup failed for now
	loop   bool     // the list was cut at ourselves
	hidden bool     // some address was left out because it is private
}

// route finds the hosts that take mail for domain (RFC 5321, 5.1). The error is a
// *refusal.
func (c *Courier) route(ctx context.Context, j *job) (*route, error) {
	domain := j.domain
	r := &route{c: c, domain: domain, port: c.opt.Port}
	if s := c.opt.Smarthost; s != nil {
		r.give(s.Host, s.port())
		return r, nil
	}
	if j.via != nil && j.via.Host != "" {
		r.give(j.via.Host, j.via.Port)
		return r, nil
	}
	if strings.HasPrefix(domain, "[") {
		return r, r.literal()
	}
	if domain == "" {
		return nil, ours(553, "5.1.3", "the address has no domain")
	}
	hosts, info, err := c.opt.Resolver.LookupMX(ctx, domain)
	switch {
	case fault.Is(err, fault.Invalid):
		return nil, ours(553, "5.1.2", fmt.Sprintf("%q is not a valid domain name", domain))
	case dnsx.NoName(err):
		return nil, ours(550, "5.1.2", "the domain "+domain+" does not exist")
	case fault.Is(err, fault.NotFound):
		ascii, err := dnsx.ASCII(domain)
		if err != nil {
			return nil, ours(553, "5.1.2", fmt.Sprintf("%q is not a valid domain name", domain))
		}
		hosts = []dnsx.MX{{Host: ascii}} // the implicit MX
		info.Name = ""
	case err != nil:
		return nil, ours(451, "4.4.3", "the mail hosts of "+domain+" cannot be looked up now")
	}
	r.signed = info.AD
	if ascii, err := dnsx.ASCII(domain); err == nil {
		r.names = []string{ascii}
		if info.Name != "" && info.Name != ascii {
			r.names = append(r.names, info.Name)
		}
	}
	return r, r.order(hosts)
}

// give makes a host of the configuration the only one.
func (r *route) give(host string, port uint16) {
	r.given, r.signed = true, true
	if port != 0 {
		r.port = port
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		r.fixed = []target{{host: host, addr: netip.AddrPortFrom(addr, r.port), fixed: true, literal: true}}
		return
	}
	r.hosts = []dnsx.MX{{Host: strings.ToLower(host)}}
}

// via returns what the administrator says of a domain: of itself, of what lies above it,
// of all.
func (c *Courier) via(domain string) *Route {
	if c.opt.Smarthost != nil || len(c.routes) == 0 {
		return nil
	}
	if ascii, err := dnsx.ASCII(domain); err == nil {
		domain = ascii
	}
	if r := c.routes[domain]; r != nil {
		return r
	}
	for {
		_, up, ok := strings.Cut(domain, ".")
		if !ok {
			return c.routes["*"]
		}
		if r := c.routes["."+up]; r != nil {
			return r
		}
		domain = up
	}
}

// order prepares the list: no null MX, no host as bad as ourselves or worse
// (RFC 5321, 5.1), equals shuffled, bounded.
func (r *route) order(hosts []dnsx.MX) error {
	if len(hosts) == 1 && hosts[0].Host == "" {
		return ours(556, "5.1.10", "the domain "+r.domain+" takes no mail") // RFC 7505, 3
	}
	limit := 1 << 16
	for _, h := range hosts {
		if r.c.self[strings.ToLower(h.Host)] {
			limit, r.loop = int(h.Preference), true
			break
		}
	}
	for _, h := range hosts {
		if h.Host != "" && int(h.Preference) < limit {
			r.hosts = append(r.hosts, h)
		}
	}
	for from := 0; from < len(r.hosts); {
		to := from + equals(r.hosts[from:])
		r.c.opt.Shuffle(to-from, func(i, j int) {
			r.hosts[from+i], r.hosts[from+j] = r.hosts[from+j], r.hosts[from+i]
		})
		from = to
	}
	r.hosts = r.hosts[:min(len(r.hosts), maxHosts)]
	if len(r.hosts) == 0 && r.loop {
		return r.looped()
	}
	return nil
}

func (r *route) looped() error {
	return ours(554, "5.4.6", "mail for "+r.domain+" leads back to this host, which does not take it")
}

// equals returns how many hosts at the head have the same preference.
func equals(hosts []dnsx.MX) int {
	n := 0
	for n < len(hosts) && hosts[n].Preference == hosts[0].Preference {
		n++
	}
	return n
}

// next returns the targets of the next group. None are left when it returns none;
// then the error says why, if no target was ever given. The error is a *refusal.
func (r *route) next(ctx context.Context) ([]target, error) {
	if len(r.fixed) > 0 {
		fixed := r.fixed
		r.fixed, r.any = nil, true
		return fixed, nil
	}
	for len(r.hosts) > 0 {
		n := equals(r.hosts)
		group := r.hosts[:n]
		r.hosts = r.hosts[n:]
		targets, self := r.resolve(ctx, group)
		if self {
			r.loop, r.hosts = true, nil
			break
		}
		if len(targets) > 0 {
			r.any = true
			return targets, nil
		}
	}
	if r.any {
		return nil, nil
	}
	return nil, r.deadEnd()
}

// deadEnd explains why there was no target at all.
func (r *route) deadEnd() error {
	switch {
	case r.hitch:
		return ours(451, "4.4.3", "the address of the mail host of "+r.domain+" cannot be looked up now")
	case r.given: // A fault in our own configuration must not cost anybody mail.
		return ours(451, "4.3.5", r.configured()+" has no address that can be used")
	case r.loop:
		return r.looped()
	case r.hidden:
		return ours(550, "5.4.4", "the mail host of "+r.domain+" has only private addresses")
	}
	return ours(550, "5.4.4", "the domain "+r.domain+" has no mail host with an address")
}

// configured names the host that the configuration gives.
func (r *route) configured() string {
	if s := r.c.opt.Smarthost; s != nil {
		return "the smarthost " + s.Host
	}
	return "the host " + r.c.via(r.domain).Host + " of the route for " + r.domain
}

// resolve returns the usable addresses of a group, and whether one of them is ours.
func (r *route) resolve(ctx context.Context, group []dnsx.MX) (targets []target, self bool) {
	for _, h := range group {
		addrs, info, err := r.addresses(ctx, h.Host)
		if err != nil {
			r.hitch = r.hitch || !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Invalid)
			continue
		}
		n := 0
		for _, a := range addrs {
			ap := netip.AddrPortFrom(a.Unmap(), r.port)
			if r.c.opt.IsSelf(ap) {
				return nil, true
			}
			if !r.c.mayReach(ap.Addr()) && !r.given {
				r.hidden = true
				continue
			}
			if n++; n <= maxAddresses {
				targets = append(targets, target{host: h.Host, addr: ap, final: info.Name,
					fixed: r.given, signed: r.signed, secure: info.AD, alsoNamed: r.names})
			}
		}
	}
	return targets, false
}

// addresses returns those of a host, the families in turns. A family that cannot be
// looked up does not hide the other, nor that DNSSEC vouches for the other.
func (r *route) addresses(ctx context.Context, host string) ([]netip.Addr, dnsx.Info, error) {
	six, info6, err6 := r.c.opt.Resolver.LookupIP(ctx, host, true)
	four, info, err := r.c.opt.Resolver.LookupIP(ctx, host, false)
	known6 := err6 == nil || fault.Is(err6, fault.NotFound)
	known := err == nil || fault.Is(err, fault.NotFound)
	if len(six) == 0 && len(four) == 0 {
		if known6 {
			err6 = err
		}
		return nil, info, err6
	}
	switch {
	case !known:
		info = info6
	case known6:
		info.AD = info.AD && info6.AD
	}
	if len(four) == 0 {
		info.Name = info6.Name
	}
	var addrs []netip.Addr
	for i := range max(len(six), len(four)) {
		addrs = append(addrs, six[min(i, len(six)):min(i+1, len(six))]...)
		addrs = append(addrs, four[min(i, len(four)):min(i+1, len(four))]...)
	}
	return addrs, info, nil
}

// literal reads [192.0.2.1] and [ipv6:2001:db8::1] (RFC 5321, 4.1.3).
func (r *route) literal() error {
	in := strings.TrimSuffix(strings.TrimPrefix(r.domain, "["), "]")
	if rest, ok := strings.CutPrefix(in, "ipv6:"); ok {
		in = rest
	}
	addr, err := netip.ParseAddr(in)
	if err != nil || addr.Zone() != "" {
		return ours(553, "5.1.2", "the address literal "+r.domain+" is not an IP address")
	}
	ap := netip.AddrPortFrom(addr.Unmap(), r.port)
	switch {
	case r.c.opt.IsSelf(ap):
		return r.looped()
	case !r.c.mayReach(ap.Addr()):
		return ours(550, "5.4.4", r.domain+" is a private address")
	}
	r.fixed = []target{{host: r.domain, addr: ap, literal: true}}
	return nil
}

// mayReach tells whether mail may go to an address. A domain of somebody else must
// not be able to point us at our own network (RFC 6890 ranges).
func (c *Courier) mayReach(a netip.Addr) bool {
	if a.IsUnspecified() || a.IsMulticast() {
		return false
	}
	return c.opt.AllowPrivate || dnsx.Public(a)
}
