package dnsbl

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
)

// Answers of lists lie in 127.0.0.0/8 (RFC 5782, 2.1). Those of refused are no listings: the
// list will not answer this resolver, or was asked in a wrong way (Spamhaus and others).
var (
	answers = netip.MustParsePrefix("127.0.0.0/8")
	refused = netip.MustParsePrefix("127.255.255.0/24")
)

const maxText = 200 // bytes kept of what a list says

// Ask asks all zones of an address at the same time; the result has their order. It is over
// when ctx is: what has not answered by then has listed nobody. Addresses that no list can
// know, as private ones, are not asked for.
func Ask(ctx context.Context, resolver dnsx.Resolver, addr netip.Addr, zones []Zone) []Hit {
	hits := make([]Hit, len(zones))
	addr = addr.Unmap().WithZone("")
	public := addr.IsGlobalUnicast() && !addr.IsPrivate()
	var wg sync.WaitGroup
	for i, z := range zones {
		hits[i].Zone = z
		if public {
			wg.Go(func() { hits[i] = ask(ctx, resolver, addr, z) })
		}
	}
	wg.Wait()
	return hits
}

func ask(ctx context.Context, resolver dnsx.Resolver, addr netip.Addr, z Zone) Hit {
	h := Hit{Zone: z}
	name := Name(addr, z.Name)
	found, _, err := resolver.LookupIP(ctx, name, false)
	if err != nil {
		if !fault.Is(err, fault.NotFound) {
			h.Err = err
		}
		return h
	}
	for _, a := range found {
		switch {
		case refused.Contains(a):
			h.Err = fmt.Errorf("%s does not answer this resolver (%s)", z.Name, a)
		case !answers.Contains(a): // a domain that was sold, or a resolver that rewrites
			h.Err = fmt.Errorf("%s answers with %s, which is none of a list", z.Name, a)
		case z.counts(a):
			h.Codes = append(h.Codes, a)
		}
	}
	if h.Err != nil { // one lie, and nothing of it counts
		h.Codes = nil
	}
	if h.Listed() {
		h.Text = reason(ctx, resolver, name)
	}
	return h
}

// counts tells whether an answer is one that the configuration means.
func (z Zone) counts(a netip.Addr) bool {
	for _, p := range z.Codes {
		if p.Contains(a) {
			return true
		}
	}
	return len(z.Codes) == 0
}

// reason is what the list says of a listing, made fit for a reply.
func reason(ctx context.Context, resolver dnsx.Resolver, name string) string {
	texts, _, err := resolver.LookupTXT(ctx, name)
	if err != nil || len(texts) == 0 {
		return ""
	}
	b := []byte(texts[0][:min(len(texts[0]), maxText)])
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}

// Name is what a list is asked for: the address backwards, below the zone (RFC 5782, 2.1 and
// 2.4).
func Name(addr netip.Addr, zone string) string {
	var b strings.Builder
	if addr.Is4() {
		for _, o := range []int{3, 2, 1, 0} {
			fmt.Fprintf(&b, "%d.", addr.As4()[o])
		}
		return b.String() + zone
	}
	a := addr.As16()
	for i := len(a) - 1; i >= 0; i-- {
		fmt.Fprintf(&b, "%x.%x.", a[i]&15, a[i]>>4)
	}
	return b.String() + zone
}
