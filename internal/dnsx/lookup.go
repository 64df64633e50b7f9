package dnsx

import (
	"context"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/martlet-mail/martlet/internal/fault"
)

// LookupMX implements Resolver (RFC 5321, 5.1).
func (c *Client) LookupMX(ctx context.Context, domain string) ([]MX, Info, error) {
	rrs, info, err := c.lookup(ctx, domain, dns.TypeMX)
	if err != nil {
		return nil, info, err
	}
	var hosts []MX
	for _, rr := range rrs {
		mx, ok := rr.(*dns.MX)
		if !ok {
			continue
		}
		host := plain(mx.Mx)
		if host != "" && !validName(host) {
			if !strings.Contains(domain, `\`) {
				continue // no host can have such a name
			}
			host = Escape(unescape(host))
		}
		hosts = append(hosts, MX{Host: host, Preference: mx.Preference})
	}
	if len(hosts) == 0 {
		return nil, info, fault.New(fault.Unavailable, "every MX record of "+info.Name+" is malformed")
	}
	slices.SortStableFunc(hosts, func(a, b MX) int { return int(a.Preference) - int(b.Preference) })
	return hosts, info, nil
}

// LookupAddr implements Resolver.
func (c *Client) LookupAddr(ctx context.Context, host string) ([]netip.Addr, Info, error) {
	six, info6, err6 := c.family(ctx, host, dns.TypeAAAA)
	four, info4, err4 := c.family(ctx, host, dns.TypeA)
	info := info4
	info.AD = info4.AD && info6.AD
	info.TTL = min(info4.TTL, info6.TTL)
	if len(four) == 0 && len(six) == 0 {
		// One failure is enough to know nothing: only two denials deny.
		if err6 != nil && !fault.Is(err6, fault.NotFound) {
			return nil, info, err6
		}
		return nil, info, err4
	}
	addrs := make([]netip.Addr, 0, len(four)+len(six))
	for i := range max(len(four), len(six)) {
		if i < len(six) {
			addrs = append(addrs, six[i])
		}
		if i < len(four) {
			addrs = append(addrs, four[i])
		}
	}
	return addrs, info, nil
}

// LookupIP implements Resolver.
func (c *Client) LookupIP(ctx context.Context, host string, six bool) ([]netip.Addr, Info, error) {
	if six {
		return c.family(ctx, host, dns.TypeAAAA)
	}
	return c.family(ctx, host, dns.TypeA)
}

func (c *Client) family(ctx context.Context, host string, qtype uint16) ([]netip.Addr, Info, error) {
	rrs, info, err := c.lookup(ctx, host, qtype)
	var addrs []netip.Addr
	for _, rr := range rrs {
		var a netip.Addr
		var ok bool
		switch rr := rr.(type) {
		case *dns.A:
			a, ok = netip.AddrFromSlice(rr.A.To4())
		case *dns.AAAA:
			a, ok = netip.AddrFromSlice(rr.AAAA.To16())
		}
		if ok {
			addrs = append(addrs, a)
		}
	}
	if err == nil && len(addrs) == 0 {
		err = fault.New(fault.Unavailable, "every address record of "+info.Name+" is malformed")
	}
	return addrs, info, err
}

// LookupTXT implements Resolver.
func (c *Client) LookupTXT(ctx context.Context, name string) ([]string, Info, error) {
	rrs, info, err := c.lookup(ctx, name, dns.TypeTXT)
	var texts []string
	for _, rr := range rrs {
		if txt, ok := rr.(*dns.TXT); ok {
			texts = append(texts, unescape(strings.Join(txt.Txt, "")))
		}
	}
	return texts, info, err
}

// unescape undoes the presentation form in which the library keeps strings: \DDD
// for a byte, \c for a character (RFC 1035, 5.1).
func unescape(s string) string {
	if len(s) > maxTXT {
		s = s[:maxTXT]
	}
	if !strings.Contains(s, `\`) {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '\\' || i+1 == len(s):
			b = append(b, s[i])
		case i+3 < len(s) && digit(s[i+1]) && digit(s[i+2]) && digit(s[i+3]):
			b = append(b, (s[i+1]-'0')*100+(s[i+2]-'0')*10+s[i+3]-'0')
			i += 3
		default:
			i++
			b = append(b, s[i])
		}
	}
	return string(b)
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// LookupCNAME implements Resolver.
func (c *Client) LookupCNAME(ctx context.Context, name string) (string, Info, error) {
	target := name
	var first Info
	for n := range maxAliases {
		rrs, info, err := c.lookup(ctx, target, dns.TypeCNAME)
		if n == 0 {
			first = info
		}
		info.AD = first.AD
		if fault.Is(err, fault.NotFound) && !NoName(err) {
			return info.Name, info, nil
		}
		if err != nil {
			return "", info, err
		}
		cname, ok := rrs[0].(*dns.CNAME)
		if !ok {
			return "", info, fault.New(fault.Unavailable, "the CNAME record of "+info.Name+" is malformed")
		}
		target = plain(cname.Target)
	}
	return "", Info{Name: target}, fault.Newf(fault.Unavailable, "%s has more than %d aliases", name, maxAliases)
}

// LookupPTR implements Resolver (RFC 1035, 3.5; RFC 3596, 2.5).
func (c *Client) LookupPTR(ctx context.Context, addr netip.Addr) ([]string, Info, error) {
	reverse, err := dns.ReverseAddr(addr.Unmap().WithZone("").String())
	if err != nil {
		return nil, Info{}, fault.Wrap(fault.Invalid, "not an IP address", err)
	}
	rrs, info, err := c.lookup(ctx, reverse, dns.TypePTR)
	var names []string
	for _, rr := range rrs {
		if ptr, ok := rr.(*dns.PTR); ok && validName(plain(ptr.Ptr)) {
			names = append(names, plain(ptr.Ptr))
		}
	}
	return names, info, err
}

// LookupSRV implements Resolver (RFC 2782).
func (c *Client) LookupSRV(ctx context.Context, name string) ([]SRV, Info, error) {
	rrs, info, err := c.lookup(ctx, name, dns.TypeSRV)
	var out []SRV
	for _, rr := range rrs {
		srv, ok := rr.(*dns.SRV)
		if !ok || plain(srv.Target) != "" && !validName(plain(srv.Target)) {
			continue
		}
		out = append(out, SRV{plain(srv.Target), srv.Priority, srv.Weight, srv.Port})
	}
	return out, info, err
}

// LookupTLSA implements Resolver (RFC 6698).
func (c *Client) LookupTLSA(ctx context.Context, name string) ([]TLSA, Info, error) {
	rrs, info, err := c.lookup(ctx, name, dns.TypeTLSA)
	var out []TLSA
	for _, rr := range rrs {
		tlsa, ok := rr.(*dns.TLSA)
		if !ok {
			continue
		}
		data, bad := hex.DecodeString(tlsa.Certificate)
		if bad != nil {
			continue
		}
		out = append(out, TLSA{tlsa.Usage, tlsa.Selector, tlsa.MatchingType, data})
	}
	return out, info, err
}
