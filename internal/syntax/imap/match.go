package imap

import "strings"

// Pattern is a LIST pattern ready for use: '*' stands for anything, '%' for
// anything without a hierarchy separator (RFC 9051, 6.3.9).
type Pattern struct {
	p     string
	exact bool
}

// NewPattern returns the pattern of p, which is UTF-8. A first level INBOX matches
// in any case, for ParseMailbox spells it in upper case everywhere.
func NewPattern(p string) Pattern {
	if len(p) >= 5 && strings.EqualFold(p[:5], "INBOX") && (len(p) == 5 || strings.IndexByte("/%*", p[5]) >= 0) {
		p = "INBOX" + p[5:]
	}
	if !strings.ContainsAny(p, "*%") {
		return Pattern{p, true}
	}
	var b strings.Builder
	for i := 0; i < len(p); {
		if p[i] != '*' && p[i] != '%' {
			b.WriteByte(p[i])
			i++
			continue
		}
		wild := byte('%') // a run of wildcards is '*' if it has one
		for ; i < len(p) && (p[i] == '*' || p[i] == '%'); i++ {
			if p[i] == '*' {
				wild = '*'
			}
		}
		b.WriteByte(wild)
	}
	return Pattern{p: b.String()}
}

// String returns the pattern in its reduced form.
func (p Pattern) String() string { return p.p }

// Exact tells that the pattern has no wildcard: it matches only what it is.
func (p Pattern) Exact() bool { return p.exact }

// Steps is about how many steps a match may take for each byte of a name.
func (p Pattern) Steps() int {
	if i := strings.IndexAny(p.p, "*%"); i < 0 || i == len(p.p)-1 {
		return 1
	}
	return len(p.p)
}

// Match tells whether the whole name matches; '/' separates levels. It takes at
// most len(pattern) * len(name) steps, whatever the wildcards.
func (p Pattern) Match(name string) bool {
	if p.exact {
		return p.p == name
	}
	wild := strings.IndexAny(p.p, "*%")
	if !strings.HasPrefix(name, p.p[:wild]) {
		return false
	}
	pat, name := p.p[wild:], name[wild:]
	switch pat {
	case "*":
		return true
	case "%":
		return strings.IndexByte(name, '/') < 0
	}
	// at[i]: the first i bytes of the pattern match what was read of the name.
	var space [64]bool
	var at []bool
	if len(pat) < len(space) {
		at = space[:len(pat)+1]
	} else {
		at = make([]bool, len(pat)+1)
	}
	at[0], at[1] = true, true // pat begins with a wildcard, which may be empty
	for j := 0; j < len(name); j++ {
		if !step(pat, at, name[j]) {
			return false
		}
	}
	return at[len(pat)]
}

// step moves the states at by one byte of the name and tells whether any is left.
func step(pat string, at []bool, c byte) bool {
	before, alive := at[0], false // before: the old at[i]
	at[0] = false
	for i := range len(pat) {
		next := at[i+1]
		switch pat[i] {
		case '*': // stays after it, or arrives at it without reading
			at[i+1] = next || before || at[i]
		case '%':
			at[i+1] = c != '/' && (next || before) || at[i]
		default:
			at[i+1] = before && pat[i] == c
		}
		alive = alive || at[i+1]
		before = next
	}
	return alive
}
