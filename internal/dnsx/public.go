package dnsx

import (
	"net/netip"
	"slices"
)

// Public tells whether an address belongs to the Internet at large: not loopback,
// link-local, private, of a carrier's NAT, for benchmarks, reserved, multicast or unspecified
// (RFC 6890). A name of somebody else must not be able to point us at our own network.
func Public(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	if slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(a) }) {
		return false
	}
	if a.Is6() && !given.Contains(a) && !nat64.Contains(a) {
		return false
	}
	b := a.As16()
	switch {
	case nat64.Contains(a): // a gateway takes it to the IPv4 address at its end (RFC 6052, 2.1)
		return Public(netip.AddrFrom4([4]byte(b[12:])))
	case sixToFour.Contains(a): // and to the one in its middle (RFC 3056, 2)
		return Public(netip.AddrFrom4([4]byte(b[2:6])))
	}
	return true
}

var (
	nat64     = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour = netip.MustParsePrefix("2002::/16")

	// given is all of IPv6 that registries give out (RFC 4291, 2.4; RFC 3587, 3). What leads inside by
	// other spellings is outside of it: ::ffff:0:0:0/96 (SIIT), ::/96, 5f00::/16 (SRv6), fec0::/10.
	given = netip.MustParsePrefix("2000::/3")

	// special are networks that netip does not know to be so, after IANA's registries (RFC 6890).
	// Documentation's of IPv4 are not among them: they lead nowhere, and examples use them.
	special = []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"),      // this network (RFC 1122, 3.2.1.3)
		netip.MustParsePrefix("100.64.0.0/10"),  // carriers' NAT (RFC 6598)
		netip.MustParsePrefix("192.0.0.0/24"),   // protocols (RFC 6890)
		netip.MustParsePrefix("192.88.99.0/24"), // relays of 6to4, once (RFC 7526)
		netip.MustParsePrefix("198.18.0.0/15"),  // benchmarks (RFC 2544)
		netip.MustParsePrefix("240.0.0.0/4"),    // reserved, and the limited broadcast
		netip.MustParsePrefix("2001::/23"),      // protocols (RFC 2928): Teredo, benchmarks, ORCHID
		netip.MustParsePrefix("2001:db8::/32"),  // documentation (RFC 3849)
		netip.MustParsePrefix("3fff::/20"),      // documentation (RFC 9637)
	}
)
