package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
)

// named is a resolver that knows the addresses of every name, or fails.
type named struct {
	dnsx.Resolver
	addrs []netip.Addr
	err   error
}

func (n named) LookupAddr(context.Context, string) ([]netip.Addr, dnsx.Info, error) {
	return n.addrs, dnsx.Info{}, n.err
}

// Where the addresses follow from what the DNS says, and it does not answer, that is said, so that
// nothing is changed in the DNS for it.
func TestPublicAddresses(t *testing.T) {
	one, other, six := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("2001:db9::1")
	fails := named{err: fault.New(fault.Unavailable, "no answer")}
	for _, c := range []struct {
		what        string
		configured  []netip.Addr
		interfaces  []netip.Addr
		resolver    named
		want        []netip.Addr
		mustBeKnown bool
	}{
		{"configured", []netip.Addr{one}, []netip.Addr{other, six}, fails, []netip.Addr{one}, true},
		{"one interface", nil, []netip.Addr{one}, fails, []netip.Addr{one}, true},
		{"behind another address", nil, []netip.Addr{netip.MustParseAddr("10.0.0.1")}, named{addrs: []netip.Addr{one}}, []netip.Addr{one}, true},
		{"behind another address, no answer", nil, nil, fails, nil, false},
		{"behind another address, no name yet", nil, nil, named{err: fault.New(fault.NotFound, "no such name")}, nil, true},
		{"several", nil, []netip.Addr{six, other, one}, named{addrs: []netip.Addr{one, six}}, []netip.Addr{one, six}, true},
		{"several, no answer", nil, []netip.Addr{six, other, one}, fails, []netip.Addr{one, other, six}, false},
	} {
		cfg := conf.Default()
		cfg.Hostname, cfg.DNS.Addresses = "mx.example.org", c.configured
		got, unsure := publicAddresses(t.Context(), cfg, c.resolver, func() (all []net.Addr, err error) {
			for _, a := range c.interfaces {
				all = append(all, &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())})
			}
			return all, nil
		})
		if fmt.Sprint(got) != fmt.Sprint(c.want) || (unsure == nil) != c.mustBeKnown {
			t.Errorf("%s: %v %v", c.what, got, unsure)
		}
	}
}

// What mail leaves from beside the server's own addresses has to be in SPF records.
func TestWaysOut(t *testing.T) {
	for text, want := range map[string]string{
		"": "[] ",
		"[queue]\nsource_addresses = [\"198.51.100.1\", \"198.51.100.2\", \"10.0.0.1\"]\n":                                     "[198.51.100.2] ",
		"[queue]\n[[queue.route]]\ndomain = \"example.net\"\nhost = \"relay.example\"\nsource_addresses = [\"2001:db9::2\"]\n": "[2001:db9::2] ",
		"[queue.smarthost]\nhost = \"relay.example\"\n":                                                                        "[] relay.example",
		"[[queue.route]]\ndomain = \"*\"\nhost = \"203.0.113.5\"\n":                                                            "[] 203.0.113.5",
	} {
		cfg, err := conf.Parse("x", []byte("hostname = \"mx.example.org\"\n"+text))
		if err != nil {
			t.Fatal(text, err)
		}
		sources, through := waysOut(&cfg.Queue, []netip.Addr{netip.MustParseAddr("198.51.100.1")})
		if got := fmt.Sprintf("%v %s", sources, through); got != want {
			t.Errorf("%s: %s", text, got)
		}
	}
}
