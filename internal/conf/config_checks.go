package conf

import (
	"net/netip"
	"slices"
	"time"
)

// Checks says what is looked at in mail from strangers: what comes over a listener for smtp
// from networks that are not trusted. Mail over LMTP and submission is never checked.
type Checks struct {
	// Whether SPF, DKIM, ARC, DMARC and the names of the host are checked. Without it no
	// Authentication-Results field is written, and forged ones stay.
	Enabled bool `toml:"enabled" default:"true"`

	// Whether mail from trusted networks is checked, too: for a server behind another that
	// hands on addresses by the PROXY protocol, or for trying it out.
	Trusted bool `toml:"trusted" default:"false"`

	// Time for all checks of one message together; what has no answer by then counts as not
	// known, and refuses nothing (RFC 7208, 4.6.4 asks for at least 20 seconds).
	Deadline Duration `toml:"deadline" default:"20s" min:"1s"`

	// What becomes of mail that DMARC finds forged: "policy" does what the domain that it says
	// it is from asks for (refuse it, put it into Junk, nothing), but puts into Junk what may
	// come from a mailing list; "reject" refuses all that this domain does not want delivered
	// as usual, lists or not; "junk" puts it into Junk; "mark" only tells it in the header;
	// "report" only counts it in reports. "martlet domain set" sets another for a domain.
	Forged string `toml:"forged" default:"policy" oneof:"policy|reject|junk|mark|report"`

	// What becomes of mail from a host that must not send for the sender's domain (SPF fails),
	// if the domain in From has no DMARC policy: "mark", "junk" or "reject".
	SPFFail string `toml:"spf_fail" default:"mark" oneof:"mark|junk|reject"`

	// Domains of mailing lists and forwarders that are known to send on honestly: mail that
	// they sign, seal (ARC) or send is never refused for DMARC, and what their seal says to
	// have passed has passed. Names below a domain count, too.
	Forwarders []Hostname `toml:"forwarders" default:""`

	// Name under which results are written into Authentication-Results; empty means the
	// hostname. Fields of this name that come from outside are taken out.
	AuthservID Hostname `toml:"authserv_id" default:""`

	// Lists of hosts in DNS that are asked about each client.
	Lists []HostList `toml:"list"`

	// What an address adds to the score whose names in DNS do not lead back to it, or that has
	// none (iprev).
	ReverseWeight int `toml:"reverse_weight" default:"0" min:"0" max:"1000"`

	// What a name in HELO adds to the score that is no full name, or does not lead to the
	// client's address.
	HeloWeight int `toml:"helo_weight" default:"0" min:"0" max:"1000"`

	// Sum of weights from which on a message goes into Junk; 0 is never.
	JunkScore int `toml:"junk_score" default:"0" min:"0" max:"1000000"`

	// Sum of weights from which on a message is refused; 0 is never.
	RejectScore int `toml:"reject_score" default:"0" min:"0" max:"1000000"`
}

// HostList is a list of hosts in DNS (DNSBL, DNSWL; RFC 5782).
type HostList struct {
	// Domain of the list, for example "zen.spamhaus.org". Read its terms of use first; many
	// do not answer public resolvers.
	Zone Hostname `toml:"zone" default:""`

	// What a listing leads to: "reject", "junk", "mark" (told in the header), or "accept" for
	// a list of good hosts, for which other lists do not count.
	Action string `toml:"action" default:"mark" oneof:"reject|junk|mark|accept"`

	// What a listing adds to the score; negative for good hosts.
	Weight int `toml:"weight" default:"0" min:"-1000" max:"1000"`

	// Answers that count as a listing, as addresses or networks, for example "127.0.0.2" or
	// "127.0.0.0/29"; empty means all. Answers in 127.255.255.0/24 are errors, and never do.
	Codes []string `toml:"codes" default:""`
}

// Prefixes returns the answers that count.
func (l HostList) Prefixes() (out []netip.Prefix) {
	for _, text := range l.Codes {
		if p, err := codes(text); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// codes reads an address or a network.
func codes(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.ParsePrefix(text)
}

func (r *reader) checkChecks(c *Checks) {
	if c.Deadline > Duration(2*time.Minute) {
		r.fail("checks.deadline", "is at most 2m: clients do not wait longer for their answer")
	}
	if c.JunkScore > 0 && c.RejectScore > 0 && c.RejectScore < c.JunkScore {
		r.fail("checks.reject_score", "is less than junk_score, which is %d", c.JunkScore)
	}
	answers := netip.MustParsePrefix("127.0.0.0/8")
	for i, l := range c.Lists {
		key := element("checks.list", i)
		r.needed(key, "zone", string(l.Zone))
		if first := slices.IndexFunc(c.Lists, func(o HostList) bool { return o.Zone == l.Zone }); first < i && l.Zone != "" {
			r.fail(key+".zone", "%s is in checks.list[%d] already", l.Zone, first)
		}
		for _, text := range l.Codes {
			if p, err := codes(text); err != nil || !answers.Contains(p.Addr()) || p.Bits() < answers.Bits() {
				r.fail(key+".codes", "%q is no address or network in 127.0.0.0/8", text)
			}
		}
	}
}
