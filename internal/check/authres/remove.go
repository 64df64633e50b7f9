package authres

import (
	"bytes"
	"strings"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// Remove returns a header without the Authentication-Results fields that bear one of our
// names, that are of a version nobody knows, or that cannot be told (RFC 8601, 5). ours
// tells whether a name, in A-labels where it is a domain, is one of ours. If there is none
// to be removed, the header itself comes back.
//
// Fields of other hosts stay: nobody takes them for ours. So do those of ARC.
func Remove(header []byte, ours func(id string) bool) (clean []byte, removed int) {
	for start := 0; start < len(header); {
		end := start + fieldLength(header[start:])
		if end == start {
			clean = append(clean, header[start:]...)
			break
		}
		field := header[start:end]
		if isField(field) && forged(field, ours) {
			if removed == 0 {
				clean = append(make([]byte, 0, len(header)), header[:start]...)
			}
			removed++
		} else if removed > 0 {
			clean = append(clean, field...)
		}
		start = end
	}
	if removed == 0 {
		return header, 0
	}
	return clean, removed
}

// fieldLength is that of the first field of a header with its folded lines, 0 at the empty
// line.
func fieldLength(header []byte) int {
	for i := 0; i < len(header); {
		n := bytes.IndexByte(header[i:], '\n') + 1
		if n == 0 {
			n = len(header) - i
		}
		if len(bytes.TrimRight(header[i:i+n], "\r\n")) == 0 {
			return i
		}
		if i += n; i == len(header) || header[i] != ' ' && header[i] != '\t' {
			return i
		}
	}
	return 0
}

// isField tells whether a line is, or could be taken for, an Authentication-Results field:
// white space and what cannot be seen do not count, however much there is.
func isField(field []byte) bool {
	const name = "authentication-results"
	n := 0
	for _, c := range field {
		switch {
		case c == ':':
			return n == len(name)
		case c <= ' ' || c >= 0x7f:
		case n == len(name) || c|0x20 != name[n]:
			return false
		default:
			n++
		}
	}
	return false
}

// forged tells whether a field from outside must go. Names are looked for in whatever a
// reader could take for the host's identifier, in every form of writing.
func forged(field []byte, ours func(id string) bool) bool {
	_, value, _ := bytes.Cut(field, []byte{':'})
	text := mime.Unfold(value)
	f, err := Parse(text)
	if f.Version != "" && f.Version != "1" {
		return true
	}
	if !told(text) || isOurs(f.ID, ours) {
		return true
	}
	head := text
	if err == nil {
		head = identifier(text)
	} else if i := strings.IndexByte(text, ';'); i > 0 && !strings.ContainsAny(text[:i], "(\"") {
		head = text[:i]
	}
	for _, reading := range []string{head, mime.DecodeWords(head), strings.ReplaceAll(head, `\`, "")} {
		for _, word := range strings.FieldsFunc(reading, between) {
			if isOurs(word, ours) {
				return true
			}
		}
	}
	return false
}

// told tells whether a field begins with one name, as it must: else each reader looks for it
// elsewhere.
func told(text string) bool {
	p := parser{s: text}
	id := p.token()
	p.number()
	p.space()
	return id != "" && !p.broken && (p.end() || p.s[p.i] == ';')
}

// identifier is what stands before the first semicolon that is outside of comments and
// quotes, without comments.
func identifier(text string) string {
	p := parser{s: text}
	var b strings.Builder
	for {
		p.space()
		if p.end() || p.s[p.i] == ';' {
			return b.String()
		}
		if p.s[p.i] == '"' {
			word, n, _ := unquote(p.s[p.i:])
			b.WriteString(" " + word)
			p.i += n
			continue
		}
		b.WriteByte(p.s[p.i])
		p.i++
	}
}

// between tells whether a character stands between names.
func between(c rune) bool {
	return c < 0x80 && !(c|0x20 >= 'a' && c|0x20 <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '.' && c != '_'
}

// isOurs compares as domains are compared, where it is one.
func isOurs(id string, ours func(string) bool) bool {
	id = strings.Trim(strings.ToLower(strings.TrimSpace(id)), ".")
	if id == "" {
		return false
	}
	if name, err := dnsx.ASCII(id); err == nil {
		id = name
	}
	return ours(id)
}
