package conf

// Doctor says whom "martlet doctor" asks outside of this machine. An empty list leaves the
// check out.
type Doctor struct {
	// Domains whose mail hosts are tried, to see whether port 25 is open to the outside.
	Probe []Hostname `toml:"probe" default:"gmail.com,outlook.com,icloud.com"`

	// Domains that have DNSSEC, to see whether the resolver checks it.
	Signed []Hostname `toml:"signed" default:"ietf.org,isc.org,debian.org"`

	// Lists of addresses that send what nobody wants, in which those of this server are
	// looked for.
	Blocklists []Hostname `toml:"blocklists" default:"zen.spamhaus.org,bl.spamcop.net,b.barracudacentral.org,psbl.surriel.com"`

	// Such lists of domains.
	DomainLists []Hostname `toml:"domain_lists" default:"dbl.spamhaus.org"`

	// Hosts that tell the time (NTP), of which the first is asked; without any only the kernel
	// is.
	NTP []Hostname `toml:"ntp" default:"pool.ntp.org"`
}
