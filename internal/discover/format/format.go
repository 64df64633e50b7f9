// Package format writes what was found of a provider as files that programs read: documents
// by which mail programs set themselves up (autoconfig, PACC, Apple's profiles, the QR code
// of Thunderbird for Android), and configurations of programs of the command line.
//
// No file holds a password: programs ask for it, or run a command that prints it. Every value
// is escaped as its syntax wants it; what a syntax cannot hold is refused, never altered.
// The package asks nobody and opens no file.
//
// draft-ietf-mailmaint-autoconfig, draft-ietf-mailmaint-pacc, Thunderbird "Export for Mobile"
// QR code format (version 1).
package format

import (
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/internal/fault"
)

// Placeholders of a user name that is made of the address when it is known.
const (
	WholeAddress = "%EMAILADDRESS%"
	LocalPart    = "%EMAILLOCALPART%"
	OnlyDomain   = "%EMAILDOMAIN%"
)

// Provider is what documents say of who runs the servers.
type Provider struct {
	Name  string // shown to people; "": the domain
	Help  string // URL of a page of advice; "": none
	MX    string // domain of the mail hosts, if others' domains are hosted; "": not said
	OAuth *OAuth // nil: nothing is said of it
}

// OAuth is where people sign in.
type OAuth struct{ Issuer, Authorization, Token, Scope string }

// services returns those of a protocol, in the order of the answer.
func services(a discover.Answer, protocol string) []discover.Service {
	return slices.DeleteFunc(slices.Clone(a.Services), func(s discover.Service) bool { return s.Protocol != protocol })
}

// first returns the best service of the first protocol that has one.
func first(a discover.Answer, protocols ...string) (discover.Service, bool) {
	for _, p := range protocols {
		if all := services(a, p); len(all) > 0 {
			return all[0], true
		}
	}
	return discover.Service{}, false
}

// user returns the login name at a service, of which the address must be known.
func user(a discover.Answer, s discover.Service) (string, error) {
	local, domain, isAddress := cutAddress(a.Address)
	if !isAddress && (s.Username == "" || strings.Contains(s.Username, "%EMAIL")) {
		return "", fault.New(fault.Invalid, "the file needs a whole address, not only a domain")
	}
	if s.Username == "" {
		return a.Address, nil
	}
	return strings.NewReplacer(WholeAddress, a.Address, LocalPart, local, OnlyDomain, domain).Replace(s.Username), nil
}

func cutAddress(address string) (local, domain string, ok bool) {
	at := strings.LastIndexByte(address, '@')
	if at <= 0 || at == len(address)-1 {
		return "", "", false
	}
	return address[:at], address[at+1:], true
}

// oneLine refuses what would end a line or hide something in it.
func oneLine(values ...string) error {
	for _, v := range values {
		if strings.ContainsFunc(v, func(r rune) bool {
			return r < ' ' || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 || r == 0xfffd
		}) {
			return fault.Newf(fault.Invalid, "%q cannot stand in a file", v)
		}
	}
	return nil
}

// isASCII tells whether a text is printable ASCII.
func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}
