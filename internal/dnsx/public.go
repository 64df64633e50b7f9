package dnsx

import (
	"net/netip"
	"slices"
)

// Public tells whether an address belongs to the Internet at large: not loopback,
// link-local, private, of a carrier's NAT, reserved, multicast or unspecified (RFC 6890). A
// name of somebody else must not be able to point us at our own network. Documentation
// and benchmark networks count as public: what is tried out in them is to behave as it will.
func Public(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	if slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(a) }) {
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

	// special are networks that netip does not know to be so.
	special = []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"),      // this network (RFC 1122, 3.2.1.3)
		netip.MustParsePrefix("100.64.0.0/10"),  // carriers' NAT (RFC 6598)
		netip.MustParsePrefix("192.0.0.0/24"),   // protocols (RFC 6890)
		netip.MustParsePrefix("240.0.0.0/4"),    // reserved, and the limited broadcast
		netip.MustParsePrefix("64:ff9b:1::/48"), // local NAT64 (RFC 8215)
		netip.MustParsePrefix("100::/64"),       // discard (RFC 6666)
		netip.MustParsePrefix("fec0::/10"),      // site-local, once (RFC 3879)
		netip.MustParsePrefix("::/96"),          // IPv4-compatible, once (RFC 4291, 2.5.5.1)
	}
)
