package dnsx

import "net/netip"

// Public tells whether an address belongs to the Internet at large: not loopback,
// link-local, private, of a carrier's NAT, multicast or unspecified (RFC 6890). A name of
// somebody else must not be able to point us at our own network.
func Public(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsGlobalUnicast() && !a.IsPrivate() && !carrierNAT(a) && a != limitedBroadcast
}

var limitedBroadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// carrierNAT tells whether a is in 100.64.0.0/10 (RFC 6598).
func carrierNAT(a netip.Addr) bool {
	return a.Is4() && a.As4()[0] == 100 && a.As4()[1]&0xc0 == 64
}
