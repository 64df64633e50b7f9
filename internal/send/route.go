package send

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
)

// target is one address of one host.
type target struct {
	host string // name, or the literal itself
	addr netip.AddrPort
}

// route is the way to the hosts of a domain: groups of equal preference, best first.
// Addresses are looked up only when a group's turn comes.
type route struct {
	c      *Courier
	domain string
	hosts  []dnsx.MX // what is left to try
	fixed  []target  // targets that need no lookup, given first
	port   uint16
	any    bool // some target was handed out
	hitch  bool // some lookup failed for now
	loop   bool // the list was cut at ourselves
	hidden bool // some address was left out because it is private
}

// route finds the hosts that take mail for domain (RFC 5321, 5.1). The error is a
// *refusal.
func (c *Courier) route(ctx context.Context, domain string) (*route, error) {
	r := &route{c: c, domain: domain, port: c.opt.Port}
	if s := c.opt.Smarthost; s != nil {
		r.port = s.port()
		if addr, err := netip.ParseAddr(s.Host); err == nil {
			r.fixed = []target{{s.Host, netip.AddrPortFrom(addr, r.port)}}
		} else {
			r.hosts = []dnsx.MX{{Host: s.Host}}
		}
		return r, nil
	}
	if strings.HasPrefix(domain, "[") {
		return r, r.literal()
	}
	if domain == "" {
		return nil, ours(553, "5.1.3", "the address has no domain")
	}
	hosts, _, err := c.opt.Resolver.LookupMX(ctx, domain)
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
	case err != nil:
		return nil, ours(451, "4.4.3", "the mail hosts of "+domain+" cannot be looked up now")
	}
	return r, r.order(hosts)
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
	case r.loop:
		return r.looped()
	case r.c.opt.Smarthost != nil:
		// A fault in our own configuration must not cost anybody mail.
		return ours(451, "4.3.5", "the smarthost "+r.c.opt.Smarthost.Host+" has no address that can be used")
	case r.hidden:
		return ours(550, "5.4.4", "the mail host of "+r.domain+" has only private addresses")
	}
	return ours(550, "5.4.4", "the domain "+r.domain+" has no mail host with an address")
}

// resolve returns the usable addresses of a group, and whether one of them is ours.
func (r *route) resolve(ctx context.Context, group []dnsx.MX) (targets []target, self bool) {
	for _, h := range group {
		addrs, _, err := r.c.opt.Resolver.LookupAddr(ctx, h.Host)
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
			if !r.c.mayReach(ap.Addr()) {
				r.hidden = true
				continue
			}
			if n++; n <= maxAddresses {
				targets = append(targets, target{h.Host, ap})
			}
		}
	}
	return targets, false
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
	r.fixed = []target{{r.domain, ap}}
	return nil
}

// mayReach tells whether mail may go to an address. A domain of somebody else must
// not be able to point us at our own network (RFC 6890 ranges).
func (c *Courier) mayReach(a netip.Addr) bool {
	if a.IsUnspecified() || a.IsMulticast() {
		return false
	}
	if c.opt.AllowPrivate || c.opt.Smarthost != nil {
		return true
	}
	return a.IsGlobalUnicast() && !a.IsPrivate() && !carrierNAT(a)
}

// carrierNAT tells whether a is in 100.64.0.0/10 (RFC 6598).
func carrierNAT(a netip.Addr) bool {
	return a.Is4() && a.As4()[0] == 100 && a.As4()[1]&0xc0 == 64
}

// dialError puts a failed connection into words.
func dialError(t target, err error) error {
	why := "no connection could be made"
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		why = "no answer to the attempt to connect"
	} else if strings.Contains(err.Error(), "refused") {
		why = "connection refused"
	} else if strings.Contains(err.Error(), "unreachable") {
		why = "network or host unreachable"
	}
	return ours(421, "4.4.1", fmt.Sprintf("%s [%s]: %s", t.host, t.addr.Addr(), why))
}
