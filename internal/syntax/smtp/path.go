package smtp

import (
	"net/netip"
	"strings"
	"unicode/utf8"

	"github.com/martlet-mail/martlet/internal/mail"
)

// cutPath cuts "FROM:<path> parameters" into what is inside the angle brackets and
// the parameters. Space before the path is tolerated: old mailers put it there.
func cutPath(arg, keyword string, extended bool) (path string, p params, bad *Reply) {
	if len(arg) < len(keyword) || !strings.EqualFold(arg[:len(keyword)], keyword) {
		return "", nil, refuse(501, "5.5.4", "syntax: "+keyword+"<address>")
	}
	rest := strings.TrimLeft(arg[len(keyword):], " ")
	if rest == "" || rest[0] != '<' {
		return "", nil, refuse(501, "5.5.4", "the address must stand in angle brackets")
	}
	end := closing(rest)
	if end < 0 {
		return "", nil, refuse(501, "5.5.4", "angle bracket is not closed")
	}
	path, rest = rest[1:end], rest[end+1:]
	if rest != "" && rest[0] != ' ' {
		return "", nil, refuse(501, "5.5.4", "a space must follow the address")
	}
	p, bad = parseParams(rest, extended)
	return path, p, bad
}

// closing returns the index of the bracket that closes s, which may stand in a
// quoted local part without closing anything, or -1.
func closing(s string) int {
	quoted := false
	for i := 1; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == '>' && !quoted:
			return i
		}
	}
	return -1
}

// parsePath reads the inside of a path that is not null (RFC 5321, 4.1.2). A source
// route is read and thrown away (RFC 5321, 4.1.1.3 and appendix C).
func parsePath(s string, allowUTF8 bool, enhanced string) (mail.Address, *Reply) {
	if !allowUTF8 && !isASCII(s) {
		return mail.Address{}, refuse(553, "5.6.7", "address needs SMTPUTF8") // RFC 6531, 3.5
	}
	if !utf8.ValidString(s) {
		return mail.Address{}, refuse(501, enhanced, "address is not valid UTF-8")
	}
	s, ok := cutRoute(s)
	if !ok {
		return mail.Address{}, refuse(501, enhanced, "syntax error in source route")
	}
	if strings.EqualFold(s, "postmaster") {
		return mail.Address{Local: s}, nil
	}
	a, err := mail.ParseAddress(s)
	if err != nil || !plausible(a) {
		return mail.Address{}, refuse(501, enhanced, "address is not of the form name@domain")
	}
	return a, nil
}

// cutRoute removes "@host,@host:" from the front of a path.
func cutRoute(s string) (string, bool) {
	if !strings.HasPrefix(s, "@") {
		return s, true
	}
	route, rest, found := strings.Cut(s, ":")
	if !found {
		return "", false
	}
	for hop := range strings.SplitSeq(route, ",") {
		if len(hop) < 2 || hop[0] != '@' {
			return "", false
		}
		if _, err := mail.ParseDomain(hop[1:]); err != nil {
			return "", false
		}
	}
	return rest, true
}

// plausible checks what mail.ParseAddress leaves open: address literals must be
// addresses (RFC 5321, 4.1.3), and no control character beyond ASCII may hide.
func plausible(a mail.Address) bool {
	for _, r := range a.Local + a.Domain {
		if r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 {
			return false
		}
	}
	if !strings.HasPrefix(a.Domain, "[") {
		return true
	}
	in := strings.TrimSuffix(a.Domain[1:], "]")
	v6 := strings.HasPrefix(in, "ipv6:")
	addr, err := netip.ParseAddr(strings.TrimPrefix(in, "ipv6:"))
	return err == nil && addr.Is6() == v6 && addr.Zone() == ""
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// clip shortens what the peer sent before it is sent back.
func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}
