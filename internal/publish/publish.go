// Package publish knows which records of the domain name system a mail domain should have,
// compares them with what is there, and has them changed.
//
// Records makes them from what is known of the server and of the domain: each says how much
// it is needed and why. Compare asks the DNS. Plan and Apply change zones by dynamic updates,
// and touch only what they made themselves. The forms are those of zone files, of tables and
// of what registrars ask for.
//
// The package holds nothing: which records were made here is the directory's to remember. It
// does not judge whether mail arrives; that is the doctor's.
//
// RFC 1035 (master files), RFC 2136 and 8945 (updates), RFC 5321, 5 (MX), RFC 6186 and 8314
// (services), draft-ietf-mailmaint-pacc, RFC 6376 and 8463 (DKIM), RFC 7208 (SPF), RFC 9989 (DMARC), RFC 8461 (MTA-STS),
// RFC 8460 (TLS reports), RFC 6698 and 7672 (DANE), RFC 8659 (CAA).
package publish

import (
	"context"
	"net/netip"
	"slices"

	"github.com/martlet-mail/martlet/internal/directory"
)

// Need says how much a record is needed.
type Need string

const (
	Must     Need = "must"     // without it mail does not come, or is refused elsewhere
	Should   Need = "should"   // without it mail is less safe, or people type in settings
	Optional Need = "optional" // of use to some
)

// Record is one record as people and forms write it: names without the final dot, texts
// without quotes and in one piece.
type Record struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Value string `json:"value"`
	Need  Need   `json:"need"`
	Why   string `json:"why"`
}

// Site is what the records of all domains of a server have in common.
type Site struct {
	Hostname  string            // in A-labels; what MX records name
	Addresses []netip.Addr      // at which others reach it; none: not known
	Unsure    error             // why these may be others; nil: they are right
	Services  map[string]uint16 // ports of what people's programs use: imaps, submissions, imap, submission, pop3s, pop3
	Programs  string            // host that mail programs are told, in A-labels; "": Hostname
	Web       uint16            // port of https, 0: none is served
	Sources   []netip.Addr      // that mail leaves from, beside Addresses
	Smarthost string            // that all mail goes out through, by name or address; "": none
	TLSKeys   [][32]byte        // SHA-256 of the public keys of the certificates, present and next; none: not known
	KeepsKey  bool              // a renewed certificate has the same key
	Issuer    string            // who gives certificates, as CAA names him; "": not known
	// Agents returns what is served at ua-auto-config.DOMAIN, of which the DNS has the digest;
	// an error: nothing is. Nil: mail programs are told nothing at all.
	Agents func(domain string) ([]byte, error)
}

// Domain is one domain of a server.
type Domain struct {
	Name     string // in A-labels
	Settings directory.Settings
	Keys     []directory.SigningKey
}

// DomainOf reads what is known of a domain. It gets keys if it has none. Faults: NotFound.
func DomainOf(ctx context.Context, d *directory.Directory, name string) (Domain, error) {
	keys, err := d.MakeKeys(ctx, name)
	if err != nil {
		return Domain{}, err
	}
	settings, err := d.Settings(ctx, name)
	return Domain{settings.Domain, settings, keys}, err
}

// Records returns what a domain should have in the DNS, the most needed first within each
// purpose.
func Records(s Site, d Domain) []Record {
	var all []Record
	for _, part := range []func(Site, Domain) []Record{
		mx, addresses, reverse, spf, dkim, dmarc, mtaSTS, tlsReports, dane, services, autoconfig, names, caa,
	} {
		all = append(all, part(s, d)...)
	}
	return slices.DeleteFunc(all, func(r Record) bool { return r.Type == "CNAME" && r.Name == r.Value }) // the host has a name that people guess
}
