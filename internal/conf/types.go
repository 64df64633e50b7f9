package conf

import (
	"fmt"
	"math"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
)

// Duration is a length of time: "90s", "5m", "1h30m", "5d", "2w". It is never
// negative.
type Duration time.Duration

type unit struct {
	name string
	n    int64
}

var (
	timeUnits = []unit{
		{"w", int64(7 * 24 * time.Hour)}, {"d", int64(24 * time.Hour)}, {"h", int64(time.Hour)},
		{"m", int64(time.Minute)}, {"s", int64(time.Second)}, {"ms", int64(time.Millisecond)},
	}
	sizeUnits = []unit{
		{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
		{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"B", 1},
	}
)

// UnmarshalText reads whole numbers each followed by a unit.
func (d *Duration) UnmarshalText(text []byte) error {
	rest, sum := string(text), int64(0)
	for first := true; first || rest != ""; first = false {
		n, after, ok := leadingNumber(rest)
		if rest == "0" {
			break
		}
		name := strings.TrimLeft(after, "abcdefghijklmnopqrstuvwxyz")
		word := after[:len(after)-len(name)]
		u := unitOf(timeUnits, word)
		if !ok || u == 0 || n > (math.MaxInt64-sum)/u {
			return fmt.Errorf("%q is not a duration such as 30s, 5m, 1h30m or 5d", text)
		}
		sum, rest = sum+n*u, name
	}
	*d = Duration(sum)
	return nil
}

// String writes d so that UnmarshalText reads it back, to the millisecond.
func (d Duration) String() string {
	if d < Duration(time.Millisecond) {
		return "0"
	}
	var b strings.Builder
	rest := int64(d)
	for _, u := range timeUnits[1:] { // 14d is plainer than 2w
		if n := rest / u.n; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, u.name)
			rest -= n * u.n
		}
	}
	return b.String()
}

// Size is a number of bytes: "50MB" (powers of 1000) or "64MiB" (powers of 1024).
type Size int64

// UnmarshalText reads a whole number and a unit, in any case.
func (s *Size) UnmarshalText(text []byte) error {
	n, word, ok := leadingNumber(string(text))
	u := unitOf(sizeUnits, strings.TrimSpace(word))
	if word == "" {
		u = 1
	}
	if !ok || u == 0 || n > math.MaxInt64/u {
		return fmt.Errorf("%q is not a size such as 50MB or 64MiB", text)
	}
	*s = Size(n * u)
	return nil
}

// String writes s with the largest unit that leaves it whole and short.
func (s Size) String() string {
	best := ""
	for _, u := range sizeUnits {
		if int64(s)%u.n == 0 && s != 0 {
			if t := strconv.FormatInt(int64(s)/u.n, 10) + u.name; best == "" || len(t) < len(best) {
				best = t
			}
		}
	}
	if best == "" {
		return "0B"
	}
	return best
}

func leadingNumber(s string) (n int64, rest string, ok bool) {
	rest = strings.TrimLeft(s, "0123456789")
	n, err := strconv.ParseInt(s[:len(s)-len(rest)], 10, 64)
	return n, rest, err == nil
}

func unitOf(units []unit, name string) int64 {
	for _, u := range units {
		if strings.EqualFold(u.name, name) {
			return u.n
		}
	}
	return 0
}

// Address is host:port. The host may be empty, a name, or an IP address (in brackets
// for IPv6).
type Address string

// UnmarshalText checks the form.
func (a *Address) UnmarshalText(text []byte) error {
	host, port, err := net.SplitHostPort(string(text))
	if err != nil {
		return fmt.Errorf("%q is not of the form host:port", text)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 && port != "0" {
		return fmt.Errorf("%q has no port between 0 and 65535", text)
	}
	if strings.ContainsAny(host, " \t/@") {
		return fmt.Errorf("%q has a character that no host has", text)
	}
	*a = Address(text)
	return nil
}

// Hostname is a domain name in lower case.
type Hostname string

// UnmarshalText checks the form (RFC 5321, 4.1.2).
func (h *Hostname) UnmarshalText(text []byte) error {
	name, err := mail.ParseDomain(string(text))
	if err != nil {
		return err
	}
	*h = Hostname(name)
	return nil
}

// EmailAddress is an address of the form name@domain.
type EmailAddress string

// UnmarshalText checks the form.
func (e *EmailAddress) UnmarshalText(text []byte) error {
	if _, err := mail.ParseAddress(string(text)); err != nil {
		return err
	}
	*e = EmailAddress(text)
	return nil
}

// URL is an address of the web, of which the issuer of tokens has several.
type URL string

// UnmarshalText wants https, or http on this machine.
func (u *URL) UnmarshalText(text []byte) error {
	at, err := url.Parse(string(text))
	if err != nil || at.Host == "" || at.User != nil || at.Fragment != "" {
		return fmt.Errorf("%q is not a URL", text)
	}
	host := at.Hostname()
	local := host == "localhost" || host == "::1" || strings.HasPrefix(host, "127.")
	if at.Scheme != "https" && !(at.Scheme == "http" && local) {
		return fmt.Errorf("%q is not an https URL", text)
	}
	*u = URL(text)
	return nil
}

// Path is the name of a file or folder.
type Path string

// UnmarshalText refuses what no path has.
func (p *Path) UnmarshalText(text []byte) error {
	if strings.ContainsAny(string(text), "\x00\n") {
		return fmt.Errorf("%q is not a path", text)
	}
	*p = Path(text)
	return nil
}

// Separator is one character of punctuation, or empty.
type Separator string

// UnmarshalText checks that addresses can hold it.
func (s *Separator) UnmarshalText(text []byte) error {
	if len(text) > 1 || !strings.Contains("+-_=#", string(text)) {
		return fmt.Errorf("%q is not one of + - _ = #", text)
	}
	*s = Separator(text)
	return nil
}

// Protocol names what a listener speaks.
type Protocol string

// Name returns what a listener is called in logs: its protocol, and "-legacy" if it is
// one for old clients.
func (l Listen) Name() string {
	if l.Legacy {
		return string(l.Protocol) + "-legacy"
	}
	return string(l.Protocol)
}

// TLSMode says how a connection comes to TLS.
type TLSMode string

const (
	Implicit TLSMode = "implicit"
	StartTLS TLSMode = "starttls"
	NoTLS    TLSMode = "none"
)

// usual is the mode that a protocol's name implies.
func (p Protocol) usual() TLSMode {
	switch p {
	case "submissions", "imaps", "pop3s", "https":
		return Implicit
	case "http", "lmtp":
		return NoTLS
	}
	return StartTLS
}
