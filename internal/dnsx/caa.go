package dnsx

import (
	"context"

	"github.com/miekg/dns"
)

// CAA says who may give certificates (RFC 8659, 4.1).
type CAA struct {
	Critical bool
	Tag      string
	Value    string
}

// LookupCAA returns the records of one name. It climbs to no parent (RFC 8659, 3): the
// caller does.
func (c *Client) LookupCAA(ctx context.Context, name string) ([]CAA, Info, error) {
	rrs, info, err := c.lookup(ctx, name, dns.TypeCAA)
	var out []CAA
	for _, rr := range rrs {
		if caa, ok := rr.(*dns.CAA); ok {
			out = append(out, CAA{caa.Flag&128 != 0, unescape(caa.Tag), unescape(caa.Value)})
		}
	}
	return out, info, err
}
