package conf

import (
	"net/netip"
	"slices"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// DNS says what the names of this server are to lead to, and where they can be changed.
type DNS struct {
	// Addresses at which other hosts reach this one, for the records that "martlet dns show"
	// prints and "martlet doctor" looks for. Empty means the public addresses of this
	// machine's interfaces; behind a router that translates, set them.
	Addresses []netip.Addr `toml:"addresses" default:""`

	// Zones whose records "martlet dns apply" changes, and the server for itself when it
	// changes the keys that sign mail (RFC 2136). Without any, changes are made by hand.
	Update []DNSUpdate `toml:"update"`
}

// DNSUpdate is one zone and who may change it.
type DNSUpdate struct {
	// Name of the zone, for example example.org; names below it belong to it, unless
	// another zone is nearer.
	Zone Hostname `toml:"zone" default:""`

	// Primary name server of the zone, as host:port.
	Server Address `toml:"server" default:""`

	// Name of the key that signs changes (TSIG, RFC 8945).
	KeyName Hostname `toml:"key_name" default:""`

	// Algorithm of the key.
	KeyAlgorithm string `toml:"key_algorithm" default:"hmac-sha256" oneof:"hmac-sha256|hmac-sha512|hmac-sha384|hmac-sha224|hmac-sha1"`

	// File whose first line is the key's secret, in base64.
	KeyFile Path `toml:"key_file" default:""`
}

// Secret returns the key's secret, in base64.
func (u DNSUpdate) Secret(disk Files) (string, error) {
	text, err := firstLine(disk, u.KeyFile, "the file of key_file of zone "+string(u.Zone))
	if err == nil && text == "" {
		err = fault.Newf(fault.Invalid, "%s has no key in its first line", u.KeyFile)
	}
	return text, err
}

// DKIM holds what concerns the keys that sign mail; each domain has its own.
type DKIM struct {
	// Age at which the keys of a domain are followed by others, if the server can publish
	// them by itself (see dns.update); else "martlet doctor" reminds of it, and "martlet
	// domain rotate" does it. 0 means never.
	Rotate Duration `toml:"rotate" default:"180d"`
}

func (r *reader) checkDNS(c *DNS, d *DKIM) {
	for i, u := range c.Update {
		key := element("dns.update", i)
		r.needed(key, "zone", string(u.Zone))
		r.needed(key, "server", string(u.Server))
		r.needed(key, "key_name", string(u.KeyName))
		r.needed(key, "key_file", string(u.KeyFile))
		if first := slices.IndexFunc(c.Update, func(o DNSUpdate) bool { return o.Zone == u.Zone }); first < i && u.Zone != "" {
			r.fail(key+".zone", "%s is in dns.update[%d] already", u.Zone, first)
		}
	}
	if d.Rotate > 0 && d.Rotate < Duration(7*24*time.Hour) {
		r.fail("dkim.rotate", "is 0 or at least 7d: a key must stay published until what it signed is delivered")
	}
}
