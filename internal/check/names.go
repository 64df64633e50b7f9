package check

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
)

// Results of checks of names (RFC 8601, 2.7.3).
const (
	pass      = "pass"
	fail      = "fail"
	temperror = "temperror"
	permerror = "permerror"
)

// maxNames of an address are looked at.
const maxNames = 10

// reverse looks whether a name of the client leads back to it (RFC 8601, 2.7.3 and 3).
func (c *Checker) reverse(ctx context.Context, peer Peer) Reverse {
	addr := peer.Addr.Unmap().WithZone("")
	names, _, err := c.opt.Resolver.LookupPTR(ctx, addr)
	switch {
	case err != nil && !fault.Is(err, fault.NotFound):
		return Reverse{Status: temperror}
	case len(names) == 0:
		return Reverse{Status: permerror}
	}
	out := Reverse{Status: fail, Name: names[0]}
	for _, name := range names[:min(len(names), maxNames)] {
		found, err := c.leadsTo(ctx, name, addr)
		if found {
			return Reverse{pass, name}
		}
		if err != nil {
			out.Status = temperror
		}
	}
	return out
}

// leadsTo tells whether an address is among those of a name. The error is that nobody
// knows.
func (c *Checker) leadsTo(ctx context.Context, name string, addr netip.Addr) (bool, error) {
	addrs, _, err := c.opt.Resolver.LookupIP(ctx, name, addr.Is6())
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Invalid) {
		err = nil
	}
	return slices.Contains(addrs, addr), err
}

// name looks what the name that the client gave is worth: it should be a full name that
// leads to its address, or the address itself (RFC 5321, 2.3.5 and 4.1.3).
func (c *Checker) name(ctx context.Context, peer Peer) NameCheck {
	addr := peer.Addr.Unmap().WithZone("")
	if text, ok := strings.CutPrefix(peer.Helo, "["); ok {
		text, ok = strings.CutSuffix(text, "]")
		if len(text) > 5 && strings.EqualFold(text[:5], "IPv6:") {
			text = text[5:]
		}
		literal, err := netip.ParseAddr(text)
		switch {
		case !ok || err != nil:
			return NameCheck{fail, "is no address literal"}
		case literal.Unmap() != addr:
			return NameCheck{fail, "is another address"}
		}
		return NameCheck{pass, ""}
	}
	name, err := dnsx.ASCII(peer.Helo)
	switch {
	case err != nil:
		return NameCheck{fail, "is no domain name"}
	case !strings.Contains(name, "."):
		return NameCheck{fail, "is not a full name"}
	}
	found, err := c.leadsTo(ctx, name, addr)
	switch {
	case found:
		return NameCheck{pass, ""}
	case err != nil:
		return NameCheck{temperror, "cannot be looked up now"}
	}
	return NameCheck{fail, "does not lead to the client's address"}
}
