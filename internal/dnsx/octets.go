package dnsx

import (
	"strings"

	"github.com/miekg/dns"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Escape writes a name of any bytes as lookups take it: what no host's name has, but a
// label may hold (RFC 2181, 11), becomes \DDD. Dots stay what they are.
func Escape(name string) string {
	if validName(strings.ToLower(name)) {
		return name
	}
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		c := name[i]
		if c == '.' || validName(strings.ToLower(string(rune(c)))) && c < 0x80 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('\\')
		b.WriteByte('0' + c/100)
		b.WriteByte('0' + c/10%10)
		b.WriteByte('0' + c%10)
	}
	return b.String()
}

// asked returns a name as a question has it: that of ASCII, or with escaped bytes as the
// library writes them.
func asked(name string) (string, error) {
	if !strings.Contains(name, `\`) {
		return ASCII(name)
	}
	bad := fault.New(fault.Invalid, "the domain name is not valid")
	wire := make([]byte, 256)
	end, err := dns.PackDomainName(dns.Fqdn(name), wire, 0, nil, false)
	if err != nil {
		return "", fault.Wrap(fault.Invalid, bad.Say, err)
	}
	text, _, err := dns.UnpackDomainName(wire[:end], 0)
	if err != nil || text == "." {
		return "", bad
	}
	return plain(text), nil
}
