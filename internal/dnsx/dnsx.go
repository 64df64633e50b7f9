// Package dnsx asks the Domain Name System what mail needs to know, and says of
// every failure whether it is an answer or only a hitch.
//
// A name that does not exist, or that has no record of the type, is a fault of kind
// NotFound whose cause is ErrNoName or ErrNoData. Everything else that goes wrong
// (timeout, SERVFAIL, REFUSED, garbage, a loop of aliases) is Unavailable: no caller
// can mistake it for an answer. Answers carry their time to live and whether the
// resolver authenticated them.
//
// It is a stub: it asks recursive resolvers, follows no referrals and checks no
// DNSSEC signature itself.
//
// RFC 1034 and 1035, RFC 2308 (negative caching), RFC 6840, 5.7 (AD in queries),
// RFC 6891 (EDNS), RFC 9520 (caching of failures).
package dnsx

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Causes of NotFound; test with errors.Is.
var (
	ErrNoName = errors.New("the name does not exist")             // NXDOMAIN
	ErrNoData = errors.New("the name has no record of this type") // NOERROR, nothing in it
)

// Info is what is known of an answer beside its records. It is also filled in when
// the error is NotFound.
type Info struct {
	Name string        // the name that holds the records, after all aliases
	AD   bool          // a trusted resolver says that DNSSEC authenticated all of it
	TTL  time.Duration // how much longer the answer may be used
}

// MX is one mail host of a domain. Host is "" for the null MX (RFC 7505).
type MX struct {
	Host       string
	Preference uint16
}

// SRV is one service location (RFC 2782). Target is "" if the service is declared
// absent.
type SRV struct {
	Target                 string
	Priority, Weight, Port uint16
}

// TLSA is one certificate association (RFC 6698, 2.1). Data may be of any length,
// also empty: who uses it checks it.
type TLSA struct {
	Usage, Selector, Matching uint8
	Data                      []byte
}

// Resolver answers questions. Names may be U-labels or A-labels, with or without
// the final dot; names in answers are A-labels in lower case without it. A name may hold
// any bytes where it is asked for as Escape writes it.
//
// Errors are faults: NotFound (see ErrNoName, ErrNoData), Unavailable (try later),
// Invalid (not a domain name), Closed (the context was cancelled).
type Resolver interface {
	// LookupMX returns the mail hosts in order of preference; the order among
	// equals is that of the answer. Hosts that have no valid name are left out, unless
	// the domain is escaped, too.
	LookupMX(ctx context.Context, domain string) ([]MX, Info, error)
	// LookupAddr returns the IPv6 and IPv4 addresses, the families in turns. It
	// fails as NotFound only if both families are known to be absent. Info.AD holds
	// only if both answers were authenticated.
	LookupAddr(ctx context.Context, host string) ([]netip.Addr, Info, error)
	// LookupIP returns the addresses of one family: IPv6 with six, IPv4 without.
	LookupIP(ctx context.Context, host string, six bool) ([]netip.Addr, Info, error)
	// LookupTXT returns each record as one string, its pieces joined.
	LookupTXT(ctx context.Context, name string) ([]string, Info, error)
	// LookupCNAME returns the name at the end of the chain of aliases that begins
	// at name: name itself if it is no alias. Info.AD speaks of the first alias alone,
	// wherever it leads (RFC 7672, 2.1.3).
	LookupCNAME(ctx context.Context, name string) (string, Info, error)
	// LookupPTR returns the names of an address.
	LookupPTR(ctx context.Context, addr netip.Addr) ([]string, Info, error)
	// LookupSRV returns the records of a full service name (_imaps._tcp.example).
	LookupSRV(ctx context.Context, name string) ([]SRV, Info, error)
	// LookupTLSA returns the records of a full name (_25._tcp.mx.example).
	LookupTLSA(ctx context.Context, name string) ([]TLSA, Info, error)
}

// ASCII returns the A-label form of a domain name, in lower case and without the
// final dot (RFC 5891, 4). An error is of kind Invalid.
func ASCII(name string) (string, error) {
	name = strings.TrimSuffix(name, ".")
	if !utf8.ValidString(name) {
		return "", fault.New(fault.Invalid, "the domain name is not valid UTF-8")
	}
	for i := 0; i < len(name); i++ {
		if name[i] >= 0x80 {
			a, err := idna.Lookup.ToASCII(name)
			if err != nil {
				return "", fault.Wrap(fault.Invalid, "the domain is not a valid internationalized name", err)
			}
			name = a
			break
		}
	}
	name = strings.ToLower(name)
	if !validName(name) {
		return "", fault.New(fault.Invalid, "the domain name is not valid")
	}
	return name, nil
}

// validName checks lengths (RFC 1035, 2.3.4) and refuses bytes that never stand in a
// name that mail looks up. Underscores are fine: service names have them.
func validName(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for i := 0; i < len(label); i++ {
			c := label[i]
			if c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
				return false
			}
		}
	}
	return true
}

// NoName tells whether err says that the name does not exist at all.
func NoName(err error) bool { return errors.Is(err, ErrNoName) }
