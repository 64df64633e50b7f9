// Package srs rewrites the envelope senders of mail that is sent on, and turns what comes back
// to them round again (the Sender Rewriting Scheme of M. Wong and S. Hardie; there is no RFC).
//
// Mail from a stranger that an address here passes on to another host has to leave with a
// sender of a domain here: only for such does SPF allow this host. The sender's address is
// kept in the new one, with a day and a code that only a key makes: so nothing is
// stored, and nobody else can make an address that this host would pass mail on for.
//
//	ann@example.org               is   SRS0=code=day=example.org=ann@here.example
//	SRS0=c=d=example.org=ann@fwd  is   SRS1=code=fwd==c=d=example.org=ann@here.example
//
// The second form keeps chains of forwarders short: what comes back goes to the first of them
// straight away. Codes do not depend on case, as some hosts change that on the way.
package srs

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Age is how long an address is good: longer than mail waits in a queue of ours and then in
// one of the next host's.
const Age = 21 * 24 * time.Hour

const (
	codeLength = 6  // characters of 5 bits
	maxLocal   = 64 // bytes (RFC 5321, 4.5.3.1.1)
	dayCount   = 32 * 32
)

// digits are those of base32 (RFC 4648, 6), which do not depend on case.
const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

// Scheme rewrites addresses with one key.
type Scheme struct {
	key []byte
	now func() time.Time
}

// New returns the scheme of a key, which nobody else may know.
func New(key []byte, now func() time.Time) *Scheme { return &Scheme{key, now} }

// Is tells whether an address has the form of a rewritten one.
func Is(a mail.Address) bool { return form(a.Local) != 0 }

// form returns '0' or '1' for the two forms, or 0.
func form(local string) byte {
	if len(local) < 5 || !strings.EqualFold(local[:3], "SRS") || local[3] != '0' && local[3] != '1' || !isSeparator(local[4]) {
		return 0
	}
	return local[3]
}

// isSeparator is for the character behind SRS0, of which other programs use several.
func isSeparator(c byte) bool { return c == '=' || c == '+' || c == '-' }

// Forward returns the address of domain, one that is here, that stands for a sender. ok is false
// if there is none: for the null sender, and where it would be too long to be used.
func (s *Scheme) Forward(sender mail.Address, domain string) (a mail.Address, ok bool) {
	if sender.IsZero() || sender.Domain == "" || strings.HasPrefix(sender.Domain, "[") {
		return mail.Address{}, false
	}
	var rest string
	switch form(sender.Local) {
	case 0:
		rest = s.day() + "=" + sender.Domain + "=" + sender.Local
		a.Local = "SRS0=" + s.code("0", rest, domain) + "=" + rest
	case '0':
		rest = sender.Domain + "=" + sender.Local[4:]
		a.Local = "SRS1=" + s.code("1", rest, domain) + "=" + rest
	default: // the code of whoever passed it on before is his; ours takes its place
		if _, rest, ok = strings.Cut(sender.Local[5:], "="); !ok {
			return mail.Address{}, false
		}
		a.Local = "SRS1=" + s.code("1", rest, domain) + "=" + rest
	}
	a.Domain = domain
	return a, len(a.Local) <= maxLocal
}

// Reverse returns whom a rewritten address stands for. The fault is NotFound: for addresses
// that are none of ours, changed, or too old.
func (s *Scheme) Reverse(a mail.Address) (mail.Address, error) {
	kind := form(a.Local)
	if kind == 0 {
		return mail.Address{}, fault.New(fault.NotFound, "this is no return address")
	}
	code, rest, ok := strings.Cut(a.Local[5:], "=")
	if !ok || !hmac.Equal([]byte(strings.ToUpper(code)), []byte(s.code(string(kind), rest, a.Domain))) {
		return mail.Address{}, fault.New(fault.NotFound, "this return address is not one that was given out here")
	}
	if kind == '1' { // first host, then a separator and what that host made
		host, rest, ok := strings.Cut(rest, "=")
		if !ok || rest == "" || !isSeparator(rest[0]) {
			return mail.Address{}, fault.New(fault.NotFound, "this return address is malformed")
		}
		return address("SRS0"+rest, host)
	}
	day, rest, _ := strings.Cut(rest, "=")
	domain, local, ok := strings.Cut(rest, "=")
	if !ok {
		return mail.Address{}, fault.New(fault.NotFound, "this return address is malformed")
	}
	if !s.fresh(day) {
		return mail.Address{}, fault.New(fault.NotFound, "this return address is too old")
	}
	return address(local, domain)
}

// address makes sure that what comes out is an address at all.
func address(local, domain string) (mail.Address, error) {
	a, err := mail.ParseAddress(mail.Address{Local: local, Domain: domain}.String())
	if err != nil {
		return mail.Address{}, fault.New(fault.NotFound, "this return address is malformed")
	}
	return a, nil
}

// code is what only the holder of the key can say of the rest of an address.
func (s *Scheme) code(kind, rest, domain string) string {
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(kind + strings.ToLower(rest) + "@" + strings.ToLower(domain)))
	return base32.StdEncoding.EncodeToString(mac.Sum(nil))[:codeLength]
}

func dayOf(t time.Time) int { return int(t.Unix()/(24*60*60)) % dayCount }

// day is today, in two digits that come round after 1,024 days.
func (s *Scheme) day() string {
	n := dayOf(s.now())
	return string([]byte{digits[n/32], digits[n%32]})
}

// fresh tells whether a day is not too long ago, nor to come, but for clocks that were set
// back a little.
func (s *Scheme) fresh(day string) bool {
	if len(day) != 2 {
		return false
	}
	day = strings.ToUpper(day)
	high, low := strings.IndexByte(digits, day[0]), strings.IndexByte(digits, day[1])
	if high < 0 || low < 0 {
		return false
	}
	ago := (dayOf(s.now()) - high*32 - low + dayCount) % dayCount
	return ago <= int(Age/(24*time.Hour)) || ago >= dayCount-2
}
