package discover

import (
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// subject is whose settings are looked for.
type subject struct {
	Asked   string
	Address string // with the domain in A-labels; "" if a domain was asked for
	Local   string // unquoted
	Domain  string // A-labels
	Base    string // what can be registered: example.co.uk of mail.example.co.uk
}

// parseSubject reads an address or a domain. Address literals, names of one label and what is
// no domain are Invalid.
func parseSubject(text string) (subject, error) {
	s := subject{Asked: text}
	domain := text
	if strings.Contains(text, "@") {
		a, err := mail.ParseAddress(text)
		if err != nil {
			return s, fault.Wrap(fault.Invalid, "not an e-mail address: "+err.Error(), err)
		}
		s.Local, domain = a.Local, a.Domain
	}
	literal := strings.Trim(domain, "[]")
	if _, err := netip.ParseAddr(literal); err == nil || strings.HasPrefix(domain, "[") {
		return s, fault.New(fault.Invalid, "an IP address has no settings that could be looked up; give a domain")
	}
	name, err := mail.ParseDomain(domain)
	if err == nil {
		name, err = dnsx.ASCII(name)
	}
	if err != nil {
		return s, fault.Wrap(fault.Invalid, "not a domain: "+err.Error(), err)
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	if !strings.Contains(name, ".") || strings.Trim(last, "0123456789") == "" {
		return s, fault.Newf(fault.Invalid, "%s is no domain of a provider; one such as example.org is needed", name)
	}
	s.Domain, s.Base = name, registrable(name)
	if s.Local != "" {
		s.Address = mail.Address{Local: s.Local, Domain: name}.String()
	}
	return s, nil
}

// registrable is the part of a name that somebody has registered (https://publicsuffix.org),
// the name itself if it is a public suffix.
func registrable(name string) string {
	base, err := publicsuffix.EffectiveTLDPlusOne(name)
	if err != nil {
		return name
	}
	return base
}

// isSuffix tells whether a registry gives out the names below one: co.uk.
func isSuffix(name string) bool {
	suffix, registry := publicsuffix.PublicSuffix(name)
	return registry && suffix == name
}

// user makes a login name of a form of the table.
func (s subject) user(form string) string {
	switch form {
	case "address":
		form = "%EMAILADDRESS%"
	case "local":
		form = "%EMAILLOCALPART%"
	}
	return s.fill(form)
}

// fill replaces the placeholders of autoconfig, as far as they are known
// (draft-ietf-mailmaint-autoconfig, 3).
func (s subject) fill(text string) string {
	if s.Address == "" {
		return strings.ReplaceAll(text, "%EMAILDOMAIN%", s.Domain)
	}
	return strings.NewReplacer("%EMAILADDRESS%", s.Address, "%EMAILLOCALPART%", s.Local, "%EMAILDOMAIN%", s.Domain).Replace(text)
}

// below tells whether a host is of the same owner as the domain asked for.
func (s subject) below(host string) bool { return registrable(host) == s.Base }

// hostOfURL is "" unless the text is an https URL without user and with a proper host.
func hostOfURL(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.User != nil {
		return ""
	}
	return properHost(u.Hostname())
}

// properHost returns a name in A-labels, or "" for what no provider's server is called: an
// address, a single label.
func properHost(name string) string {
	a, err := dnsx.ASCII(strings.TrimSpace(name))
	if err != nil || !strings.Contains(a, ".") {
		return ""
	}
	if last := a[strings.LastIndexByte(a, '.')+1:]; strings.Trim(last, "0123456789") == "" {
		return ""
	}
	return a
}
