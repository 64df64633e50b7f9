package directory

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// toASCII is the lookup profile of UTS 46 without transitional mappings, as browsers
// and resolvers use it (RFC 5891, 5). It differs in what it tolerates: hyphens in the
// third and fourth place and underscores, which names in the DNS have.
var toASCII = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.BidiRule(),
	idna.StrictDomainName(false), idna.CheckHyphens(false))

// canonical returns an address as the directory keys it: the local part in lower case,
// the domain in lower case and in A-labels. So grün.example, GRÜN.example, the same
// with a combining diaeresis, and xn--grn-ioa.example are one domain.
func canonical(a mail.Address) mail.Address {
	folded := a.Folded()
	folded.Domain = canonicalDomain(folded.Domain)
	return folded
}

// canonicalDomain does the domain alone. One that has no A-label form, and so cannot
// be in the DNS, stays as it is but for its case: it matches itself alone.
func canonicalDomain(name string) string {
	if ascii, ok := aLabels(name); ok {
		return ascii
	}
	return strings.ToLower(name)
}

func aLabels(name string) (string, bool) {
	if isASCII(name) || strings.HasPrefix(name, "[") || len(name) > 255 {
		return strings.ToLower(name), true
	}
	ascii, err := toASCII.ToASCII(name)
	if err != nil || strings.ContainsRune(name, utf8.RuneError) {
		return "", false
	}
	// The mapping can bring forth what a domain may not have, such as an @.
	ascii, err = mail.ParseDomain(ascii)
	return ascii, err == nil && isASCII(ascii)
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// parseDomain checks a domain as an administrator writes it and returns it so, in
// lower case, and as the directory keys it.
func parseDomain(text string) (written, key string, err error) {
	written, err = mail.ParseDomain(text)
	if err != nil {
		return "", "", fault.Newf(fault.Invalid, "%v", err)
	}
	key, ok := aLabels(written)
	if !ok {
		return "", "", fault.Newf(fault.Invalid, "%s is no name that a domain can have (RFC 5891)", written)
	}
	return written, key, nil
}
