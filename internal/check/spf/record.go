package spf

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// record is a parsed SPF record (RFC 7208, 12).
type record struct {
	terms    []term
	redirect *spec // nil: none, or there is an "all"
	exp      *spec
}

// term is a mechanism with its qualifier.
type term struct {
	text   string // as it stands in the record
	status Status // if it matches
	name   string // all include a mx ptr ip4 ip6 exists
	spec   *spec  // nil: the domain at hand
	prefix netip.Prefix
	four   int // length of prefixes of IPv4
	six    int
}

// isRecord tells whether a TXT record is one of SPF (RFC 7208, 4.5).
func isRecord(text string) bool {
	const version = "v=spf1"
	return len(text) >= len(version) && strings.EqualFold(text[:len(version)], version) &&
		(len(text) == len(version) || text[len(version)] == ' ')
}

// maxTerms bounds what a record of 64 KB can make us keep.
const maxTerms = 2000

// parseRecord reads a whole record; any mistake makes it invalid (RFC 7208, 4.6).
func parseRecord(text string) (*record, error) {
	r, all := &record{}, false
	n := 0
	for word := range strings.SplitSeq(text[len("v=spf1"):], " ") {
		if word == "" {
			continue
		}
		if n++; n > maxTerms {
			return nil, fmt.Errorf("the record has more than %d terms", maxTerms)
		}
		if name, value, ok := modifier(word); ok {
			if err := r.modify(name, value); err != nil {
				return nil, fmt.Errorf("%s: %w", printable(word), err)
			}
			continue
		}
		t, err := parseTerm(word)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", printable(word), err)
		}
		all = all || t.name == "all"
		r.terms = append(r.terms, t)
	}
	if all {
		r.redirect = nil // RFC 7208, 5.1
	}
	return r, nil
}

// modifier splits name=value, where the name is one (RFC 7208, 4.6.1).
func modifier(word string) (name, value string, ok bool) {
	name, value, ok = strings.Cut(word, "=")
	if !ok || name == "" || !isAlpha(name[0]) {
		return "", "", false
	}
	for i := 1; i < len(name); i++ {
		if c := name[i]; !isAlpha(c) && !isDigit(c) && c != '-' && c != '_' && c != '.' {
			return "", "", false
		}
	}
	return strings.ToLower(name), value, true
}

func (r *record) modify(name, value string) error {
	var place **spec
	switch name {
	case "redirect":
		place = &r.redirect
	case "exp":
		place = &r.exp
	default:
		_, err := parseMacros(value, false)
		return err
	}
	if *place != nil {
		return fmt.Errorf("there are two of it") // RFC 7208, 6
	}
	s, err := parseSpec(value)
	*place = s
	return err
}

var qualifiers = map[byte]Status{'+': Pass, '-': Fail, '~': SoftFail, '?': Neutral}

// parseTerm reads a directive.
func parseTerm(word string) (term, error) {
	t := term{text: word, status: Pass, four: 32, six: 128}
	rest := word
	if s, ok := qualifiers[rest[0]]; ok {
		t.status, rest = s, rest[1:]
	}
	end := strings.IndexAny(rest, ":/")
	if end < 0 {
		end = len(rest)
	}
	t.name = strings.ToLower(rest[:end])
	rest = rest[end:]
	var err error
	switch t.name {
	case "all":
		if rest != "" {
			err = fmt.Errorf("has an argument")
		}
	case "include", "exists":
		if !strings.HasPrefix(rest, ":") {
			return t, fmt.Errorf("has no domain")
		}
		t.spec, err = parseSpec(rest[1:])
	case "ptr":
		err = t.domain(rest)
	case "a", "mx":
		if rest, err = t.lengths(rest); err == nil {
			err = t.domain(rest)
		}
	case "ip4", "ip6":
		err = t.network(rest)
	default:
		err = fmt.Errorf("is no mechanism")
	}
	return t, err
}

// domain reads [":" domain-spec].
func (t *term) domain(rest string) (err error) {
	if rest == "" {
		return nil
	}
	if rest[0] != ':' {
		return fmt.Errorf("is malformed")
	}
	t.spec, err = parseSpec(rest[1:])
	return err
}

// lengths takes the dual-cidr-length from the end: slashes may stand in the domain, too.
func (t *term) lengths(rest string) (string, error) {
	var err error
	if i := strings.LastIndex(rest, "//"); i >= 0 && digits(rest[i+2:]) {
		if t.six, err = length(rest[i+2:], 128); err != nil {
			return rest, err
		}
		rest = rest[:i]
	}
	if i := strings.LastIndexByte(rest, '/'); i >= 0 && digits(rest[i+1:]) && !strings.HasSuffix(rest[:i], "/") {
		if t.four, err = length(rest[i+1:], 32); err != nil {
			return rest, err
		}
		rest = rest[:i]
	}
	return rest, nil
}

func digits(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isDigit(s[i]) {
			return false
		}
	}
	return s != ""
}

// length reads the length of a prefix, which has no zeros in front.
func length(s string, most int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || !digits(s) || n > most || len(s) > 1 && s[0] == '0' {
		return 0, fmt.Errorf("%q is no length of a network", s)
	}
	return n, nil
}

// network reads the argument of ip4 and ip6.
func (t *term) network(rest string) error {
	most := 32
	if t.name == "ip6" {
		most = 128
	}
	text, ok := strings.CutPrefix(rest, ":")
	if !ok {
		return fmt.Errorf("has no address")
	}
	bits := most
	if addr, size, cut := strings.Cut(text, "/"); cut {
		n, err := length(size, most)
		if err != nil {
			return err
		}
		text, bits = addr, n
	}
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" || addr.Is4() != (most == 32) {
		return fmt.Errorf("%q is no address of its kind", printable(text))
	}
	// An address in IPv6 that stands for one of IPv4 is compared as IPv6 (RFC 7208, 5).
	t.prefix = netip.PrefixFrom(addr, bits).Masked()
	return nil
}

func isAlpha(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// printable makes a stranger's words fit for a log: ASCII, and not long.
func printable(s string) string {
	const most = 100
	b := []byte(s)
	if len(b) > most {
		b = append(b[:most:most], "..."...)
	}
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}
