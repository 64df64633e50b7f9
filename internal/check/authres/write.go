package authres

import (
	"bytes"
	"strings"
)

const (
	maxLine  = 78  // where lines are folded (RFC 5322, 2.1.1)
	maxValue = 255 // bytes of a value; what a domain may have
)

// Append appends the field with its name and line ends. Whatever the values hold, the
// field says what it is meant to say and nothing else: what is no token is quoted, what
// cannot be quoted becomes "?", and long values are cut.
func (f *Field) Append(b []byte) []byte {
	w := writer{b: append(b, "Authentication-Results:"...)}
	w.start = len(b)
	w.word(value(f.ID))
	if f.Version != "" && f.Version != "1" {
		w.word(value(f.Version))
	}
	if len(f.Results) == 0 {
		w.glue(";")
		w.word("none")
	}
	for i := range f.Results {
		w.glue(";")
		w.fold()
		w.result(&f.Results[i])
	}
	return append(w.b, "\r\n"...)
}

// writer folds before a word that would not fit.
type writer struct {
	b     []byte
	start int // of the line
}

func (w *writer) word(s string) {
	if len(w.b)-w.start+1+len(s) >= maxLine {
		w.fold()
	} else if !bytes.HasSuffix(w.b, []byte("\t")) {
		w.b = append(w.b, ' ')
	}
	w.glue(s)
}

func (w *writer) glue(s string) { w.b = append(w.b, s...) }

func (w *writer) fold() {
	if !bytes.HasSuffix(w.b, []byte("\r\n\t")) {
		w.b = append(w.b, "\r\n"...)
		w.start = len(w.b)
		w.b = append(w.b, '\t')
	}
}

func (w *writer) result(r *Result) {
	method := keyword(r.Method)
	if r.Version != "" && r.Version != "1" {
		method += "/" + keyword(r.Version)
	}
	w.word(method + "=" + keyword(r.Value))
	if r.Comment != "" {
		w.word("(" + comment(r.Comment) + ")")
	}
	if r.Reason != "" {
		w.word("reason=" + quoted(clean(r.Reason)))
	}
	for _, p := range r.Props {
		if p.Value != "" {
			w.word(keyword(p.Type) + "." + keyword(p.Name) + "=" + value(p.Value))
		}
	}
}

// value writes a token, a domain with or without a local part, or a quoted string.
func value(s string) string {
	s = clean(s)
	if isToken(s) || isMailbox(s) {
		return s
	}
	return quoted(s)
}

// clean keeps what a header may hold.
func clean(s string) string {
	if len(s) > maxValue {
		s = s[:maxValue]
	}
	b := []byte(s)
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}

func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func comment(s string) string {
	return strings.NewReplacer("(", "[", ")", "]", `\`, "/").Replace(clean(s))
}

// keyword is what names may be (RFC 5321, 4.1.2); ours are.
func keyword(s string) string {
	b := []byte(clean(s))
	for i, c := range b {
		if !isKeyword(c) {
			b[i] = '-'
		}
	}
	return string(b)
}

func isKeyword(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

// isToken tells whether s is a token of MIME (RFC 2045, 5.1).
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] > '~' || strings.IndexByte(`()<>@,;:\"/[]?=`, s[i]) >= 0 {
			return false
		}
	}
	return s != ""
}

// isMailbox tells whether s is [[local] "@"] domain with nothing that needs quotes.
func isMailbox(s string) bool {
	local, domain, found := strings.Cut(s, "@")
	return found && (local == "" || isDotAtom(local)) && isDomain(domain)
}

func isDotAtom(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] > '~' || strings.IndexByte(`()<>@,;:\"[]`, s[i]) >= 0 {
			return false
		}
	}
	return s != "" && s[0] != '.' && s[len(s)-1] != '.' && !strings.Contains(s, "..")
}

func isDomain(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isKeyword(s[i]) && s[i] != '.' {
			return false
		}
	}
	return s != "" && s[0] != '.'
}
