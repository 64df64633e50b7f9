package conf

import (
	"net/netip"
	"slices"
	"strings"
)

// Route says how mail for some domains travels.
type Route struct {
	// Domain of the recipients, such as "example.org"; ".example.org" is every domain below
	// it, "*" every domain that no other route is for.
	Domain string `toml:"domain" default:""`

	// Host that takes the mail, by name or address; empty means those that DNS names.
	Host string `toml:"host" default:""`

	// Port of host; 0 means that of queue.port.
	Port int `toml:"port" default:"0" min:"0" max:"65535"`

	// "auto" does what the host's TLSA records (DANE) or its domain's MTA-STS policy ask
	// for, and uses TLS where it is offered without; "opportunistic" asks for neither;
	// "required" never sends in the clear; "verified" also wants a certificate for the
	// host's name from a known authority; "dane" wants TLSA records signed by DNSSEC.
	TLS string `toml:"tls" default:"auto" oneof:"auto|opportunistic|required|verified|dane"`

	// Own addresses that connections are made from, in place of queue.source_addresses.
	SourceAddresses []netip.Addr `toml:"source_addresses" default:""`
}

func (r *reader) checkRoutes(q *Queue) {
	for i, route := range q.Route {
		key := element("queue.route", i)
		r.needed(key, "domain", route.Domain)
		if first := slices.IndexFunc(q.Route, func(o Route) bool { return strings.EqualFold(o.Domain, route.Domain) }); first < i && route.Domain != "" {
			r.fail(key+".domain", "%s is in queue.route[%d] already", route.Domain, first)
		}
		if name := strings.TrimPrefix(route.Domain, "."); name != "*" && strings.ContainsAny(name, "* @[]/:") {
			r.fail(key+".domain", "is a domain, a domain with a dot in front for those below it, or *")
		}
		if route.Host == "" && route.Port != 0 {
			r.fail(key+".port", "is the port of a host; name it with host")
		}
	}
}
