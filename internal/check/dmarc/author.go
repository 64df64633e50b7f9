package dmarc

import (
	"bytes"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// Authors reads who a message says it is from: the domains of its From field, as they are
// written, each once. problem says why that is not sure; then domains are all that some
// program could take for the author's.
//
// It is strict where readers differ: each of them must come to the same domain, or nobody
// has checked what the person sees (RFC 9989, 11.5).
func Authors(header []byte) (domains []string, problem string) {
	fields, strange := 0, false
	for _, line := range fieldsOf(header) {
		name, value, _ := bytes.Cut(line, []byte{':'})
		switch {
		case strings.EqualFold(strings.TrimRight(string(name), " \t"), "From"):
			fields++
		case looksLikeFrom(name):
			strange = true
		default:
			continue
		}
		found, bad := parseFrom(mime.Unfold(value))
		for _, d := range found {
			if len(domains) <= maxAuthors && !slices.ContainsFunc(domains, func(o string) bool { return strings.EqualFold(o, d) }) {
				domains = append(domains, d)
			}
		}
		if problem == "" {
			problem = bad
		}
	}
	switch {
	case fields == 0:
		problem = "the message has no From field"
	case fields > 1:
		problem = "the message has more than one From field"
	case strange:
		problem = "the message has a line that some take for a From field"
	case problem == "" && len(domains) > 1:
		problem = "the message has authors of several domains"
	}
	return domains, problem
}

// fieldsOf cuts a header into fields with their folded lines. A line that begins the
// header with white space is one, too: some programs read it as such.
func fieldsOf(header []byte) (out [][]byte) {
	start := 0
	for i := 0; i < len(header); {
		n := bytes.IndexByte(header[i:], '\n')
		if n < 0 {
			n = len(header) - i - 1
		}
		line := header[i : i+n+1]
		if empty := len(bytes.TrimRight(line, "\r\n")) == 0; empty {
			break
		}
		i += n + 1
		if i >= len(header) || header[i] != ' ' && header[i] != '\t' {
			out = append(out, header[start:i])
			start = i
		}
	}
	if start < len(header) && (len(out) == 0 || bytes.IndexByte(header[start:], ':') >= 0) {
		if rest := header[start:]; len(bytes.TrimRight(rest, "\r\n")) > 0 && rest[0] != '\r' && rest[0] != '\n' {
			out = append(out, rest)
		}
	}
	return out
}

// looksLikeFrom tells whether a name is "From" but for what is not seen of it.
func looksLikeFrom(name []byte) bool {
	const from = "from"
	n := 0
	for _, c := range name {
		switch {
		case c <= ' ' || c >= 0x7f:
		case n == len(from) || c|0x20 != from[n]:
			return false
		default:
			n++
		}
	}
	return n == len(from)
}

// parseFrom reads a mailbox-list (RFC 5322, 3.4). It knows what mail really has: empty
// elements, dots and at signs in names without quotes, letters beyond ASCII.
func parseFrom(s string) (domains []string, problem string) {
	p := fromParser{s: s}
	p.mailboxes()
	for _, q := range disguised(s) {
		for _, d := range q.domains {
			p.add(d)
		}
	}
	odd := false
	if p.problem != "" { // whatever some other parser makes of it
		for _, a := range mime.ParseAddressList(s) {
			odd = odd || a.Host != "" && !plausible(strings.ToLower(a.Host))
			p.add(a.Host)
		}
		p.anything(s)
		p.anything(mime.DecodeWords(s))
	}
	if controls(s) {
		return p.domains, "the From field has a control character in it"
	}
	switch {
	case len(p.domains) == 0:
		p.fail("the From field names no author")
	case len(p.domains) == 1 && !odd: // all readers agree, whatever they think of the form
		p.problem = ""
	}
	return p.domains, p.problem
}

// disguised reads a From field as programs do that decode it before they look for addresses,
// or take wide forms of characters for those that they look like. What is a name there, be
// it of the form of an address, stays one.
func disguised(s string) (all []fromParser) {
	if decoded := mime.DecodeWords(s); decoded != s {
		all = append(all, fromParser{s: narrow(decoded), decoded: true})
	}
	if n := narrow(s); n != s {
		all = append(all, fromParser{s: n})
	}
	for i := range all {
		all[i].mailboxes()
	}
	return all
}

func narrow(s string) string {
	if strings.IndexByte(s, 0xef) < 0 {
		return s
	}
	return strings.NewReplacer("\uff20", "@", "\ufe6b", "@", "\uff0c", ",", "\uff1c", "<", "\uff1e", ">", "\ufe64", "<", "\ufe65", ">").Replace(s)
}

type fromParser struct {
	s         string
	i         int
	decoded   bool // s was decoded: names in it mean nothing
	domains   []string
	addresses []string
	problem   string
}

func (p *fromParser) mailboxes() {
	for p.i < len(p.s) {
		p.mailbox()
	}
}

func (p *fromParser) fail(problem string) {
	if p.problem == "" {
		p.problem = problem
	}
}

func (p *fromParser) add(domain string) {
	domain = strings.TrimSuffix(strings.ToLower(domain), ".")
	if plausible(domain) && len(p.domains) <= maxAuthors && !slices.Contains(p.domains, domain) {
		p.domains = append(p.domains, domain)
	}
}

const malformed = "the From field is malformed"

// mailbox reads one element up to its comma.
func (p *fromParser) mailbox() {
	var words []string // atoms, quoted strings and dots, with a space where there was white space
	gap := false
	word := func(w string) {
		if gap && len(words) > 0 {
			words = append(words, " ")
		}
		words, gap = append(words, w), false
	}
	angles := 0
	for p.i < len(p.s) {
		c := p.s[p.i]
		switch {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			p.i++
			gap = true
		case c == '(':
			p.comment()
			gap = true
		case c == '"':
			p.quoted()
			word(`""`)
		case c == '<':
			angles++
			p.angle()
			if angles > 1 {
				p.fail(malformed)
			}
			gap = true
		case c == ',':
			p.i++
			p.bare(words, angles)
			return
		case c == ';' || c == ':' || c == '>' || c == ')' || c == '\\' || c == '[' || c == ']':
			if c == ':' || c == ';' {
				p.fail("the From field has a group in it")
			}
			p.fail(malformed)
			p.i++
			gap = true
		default:
			if angles > 0 {
				p.fail(malformed) // text behind the address
			}
			word(p.atom())
		}
	}
	p.bare(words, angles)
}

// bare looks at what stood outside of angle brackets: the address where there are none, and
// else a name, in which an address without quotes counts, too.
func (p *fromParser) bare(words []string, angles int) {
	text := strings.Join(words, "")
	at := strings.Count(text, "@")
	switch {
	case text == "" && angles == 0, at == 0 && angles > 0, angles > 0 && p.decoded:
		return // an empty element, a name
	case at == 0:
		p.fail("the From field has an author without a domain")
		return
	case angles == 0 && (at > 1 || strings.Contains(tight(text), " ")):
		p.fail(malformed)
	}
	for _, part := range strings.Fields(tight(text)) {
		local, domain, found := strings.Cut(part, "@")
		if !found {
			continue
		}
		if angles > 0 && !strings.Contains(domain, ".") { // "me @ home"
			continue
		}
		if local == "" || !plausible(domain) {
			p.fail(malformed)
		}
		p.add(domain)
		p.addresses = append(p.addresses, part)
	}
}

// tight takes out white space around dots and at signs, which obsolete addresses have.
func tight(s string) string {
	for _, c := range []string{"@", "."} {
		s = strings.ReplaceAll(strings.ReplaceAll(s, " "+c, c), c+" ", c)
	}
	return s
}

// plausible tells whether a domain has only what domains have, and is no address.
func plausible(domain string) bool {
	numeric := true
	for i := 0; i < len(domain); i++ {
		c := domain[i]
		if c < 0x80 && !isLetterDigit(c) && c != '-' && c != '.' && c != '_' {
			return false
		}
		numeric = numeric && (c == '.' || c >= '0' && c <= '9')
	}
	return !numeric && domain[0] != '.' && !strings.Contains(domain, "..")
}

func isLetterDigit(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' }

// angle reads <local@domain>.
func (p *fromParser) angle() {
	p.i++
	var b strings.Builder
	at := 0
	var quotes []string
	for p.i < len(p.s) && p.s[p.i] != '>' {
		switch c := p.s[p.i]; c {
		case ' ', '\t', '\r', '\n':
			b.WriteByte(' ')
			p.i++
		case '(':
			p.comment()
		case '"':
			start := p.i
			p.quoted()
			quotes = append(quotes, p.s[start:p.i])
			b.WriteString("q")
		case '<', ',', ':', ';', '\\', ')', '[', ']':
			if c == ':' || c == ',' {
				p.fail("the From field has a route in it")
			}
			p.fail(malformed)
			b.WriteByte(' ')
			p.i++
		default:
			if c == '@' {
				at++
			}
			b.WriteByte(c)
			p.i++
		}
	}
	if p.i == len(p.s) {
		p.fail(malformed)
	}
	p.i++
	text := strings.TrimSpace(tight(b.String()))
	local, domain, _ := strings.Cut(text, "@")
	switch {
	case at == 0:
		p.fail("the From field has an author without a domain")
		return
	case at > 1 || local == "" || !plausible(domain) || strings.Contains(local, " "):
		p.fail(malformed)
	}
	switch {
	case len(quotes) == 1 && local == "q":
		local = quotes[0]
	case len(quotes) > 0: // of quoted and other words, which nobody writes any more
		local = ""
	}
	p.addresses = append(p.addresses, local+"@"+domain)
	for _, d := range strings.Split(text, "@")[1:] {
		if plausible(strings.TrimSpace(d)) {
			p.add(strings.TrimSpace(d))
		}
	}
}

// comment skips a comment, nested ones too.
func (p *fromParser) comment() {
	depth := 0
	for ; p.i < len(p.s); p.i++ {
		switch p.s[p.i] {
		case '\\':
			p.i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				p.i++
				return
			}
		}
	}
	p.i = len(p.s)
	p.fail(malformed)
}

// quoted skips a quoted string.
func (p *fromParser) quoted() {
	for p.i++; p.i < len(p.s); p.i++ {
		switch p.s[p.i] {
		case '\\':
			p.i++
		case '"':
			p.i++
			return
		}
	}
	p.i = len(p.s)
	p.fail(malformed)
}

// atom reads up to white space or a special, but for dots and at signs.
func (p *fromParser) atom() string {
	start := p.i
	for p.i < len(p.s) && strings.IndexByte(" \t\r\n()<>,;:\\\"[]", p.s[p.i]) < 0 {
		p.i++
	}
	return p.s[start:p.i]
}

// anything adds each domain that stands behind an at sign, wherever.
func (p *fromParser) anything(s string) {
	for {
		_, rest, found := strings.Cut(s, "@")
		if !found {
			return
		}
		end := 0
		for end < len(rest) && (rest[end] >= 0x80 || isLetterDigit(rest[end]) || strings.IndexByte("-._", rest[end]) >= 0) {
			end++
		}
		if d := strings.Trim(rest[:end], "."); plausible(d) && strings.Contains(d, ".") {
			p.add(d)
		}
		s = rest
	}
}
