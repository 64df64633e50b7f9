package authres

import (
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Bounds of what a field can make us keep.
const (
	maxResults = 100
	maxProps   = 50 // of one result
)

// Parse reads the value of a field, unfolded or not: what stands behind the colon. A field
// that is not of the grammar is refused whole, as Invalid; it is worth nothing then.
// Results of methods whose version is not 1 are kept, with their version.
func Parse(text string) (Field, error) {
	p := parser{s: text}
	f := Field{ID: p.token()}
	if f.ID == "" {
		return f, p.bad("names no host")
	}
	if v := p.number(); v != "" {
		f.Version = v
		if v != "1" {
			return f, fault.Newf(fault.Unsupported, "the field has version %s", clip(v))
		}
	}
	p.space()
	if !p.eat(';') {
		return f, p.bad("has no results")
	}
	for {
		p.space()
		if p.end() {
			break // a semicolon at the end is common
		}
		r, none := p.result()
		if p.broken {
			return f, p.bad("is malformed")
		}
		if !none && len(f.Results) < maxResults {
			f.Results = append(f.Results, r)
		}
		p.space()
		if p.end() {
			break
		}
		if !p.eat(';') {
			return f, p.bad("is malformed")
		}
	}
	if p.broken {
		return f, p.bad("is malformed")
	}
	return f, nil
}

func (p *parser) bad(what string) error {
	return fault.Newf(fault.Invalid, "the Authentication-Results field %s", what)
}

func clip(s string) string { return s[:min(len(s), 20)] }

// parser reads the grammar of RFC 8601, 2.2. Once broken is set nothing counts.
type parser struct {
	s       string
	i       int
	comment string // the last that was skipped
	broken  bool
}

func (p *parser) end() bool { return p.i >= len(p.s) }

func (p *parser) eat(c byte) bool {
	if !p.end() && p.s[p.i] == c {
		p.i++
		return true
	}
	return false
}

// space skips white space and comments.
func (p *parser) space() {
	for !p.end() {
		switch p.s[p.i] {
		case ' ', '\t', '\r', '\n':
			p.i++
		case '(':
			text, n, ok := skipComment(p.s[p.i:])
			p.broken = p.broken || !ok
			p.comment = text
			p.i += n
		default:
			return
		}
	}
}

// skipComment returns the text of a comment and its length; ok is false if it has no end.
func skipComment(s string) (text string, n int, ok bool) {
	depth := 0
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
			continue
		case c == '(':
			if depth++; depth == 1 {
				continue
			}
		case c == ')':
			if depth--; depth == 0 {
				return b.String(), i + 1, true
			}
		}
		b.WriteByte(s[i])
	}
	return b.String(), len(s), false
}

// token reads a token or a quoted string.
func (p *parser) token() string { return p.word(`()<>,;:\"[]=`) }

// value reads a token, a quoted string, or [local "@"] domain. Many write an equals sign in it
// without quotes: signatures and return addresses have some.
func (p *parser) value() string { return p.word(`()<>,;:\"[]`) }

// word reads up to one of some bytes.
func (p *parser) word(stop string) string {
	p.space()
	if p.end() {
		return ""
	}
	var v string
	if p.s[p.i] == '"' {
		text, n, ok := unquote(p.s[p.i:])
		p.broken = p.broken || !ok
		p.i += n
		v = text
	} else {
		v = p.run(stop)
	}
	if p.eat('@') { // behind a quoted local part
		v += "@" + p.run("@"+stop)
	}
	return v
}

// run reads bytes up to white space or one of some.
func (p *parser) run(stop string) string {
	start := p.i
	for !p.end() && p.s[p.i] > ' ' && p.s[p.i] != 0x7f && strings.IndexByte(stop, p.s[p.i]) < 0 {
		p.i++
	}
	return p.s[start:p.i]
}

func unquote(s string) (text string, n int, ok bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			i++
		case c == '"':
			return b.String(), i + 1, true
		case c == '\r' || c == '\n':
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String(), len(s), false
}

func (p *parser) number() string {
	p.space()
	start := p.i
	for !p.end() && p.s[p.i] >= '0' && p.s[p.i] <= '9' {
		p.i++
	}
	return p.s[start:p.i]
}

func (p *parser) keyword() string {
	p.space()
	start := p.i
	for !p.end() && isKeyword(p.s[p.i]) {
		p.i++
	}
	return strings.ToLower(p.s[start:p.i])
}

// result reads one resinfo, or the word none.
func (p *parser) result() (r Result, none bool) {
	r.Method = p.keyword()
	p.space()
	if p.eat('/') {
		r.Version = p.number()
		p.space()
	}
	if !p.eat('=') {
		p.broken = p.broken || r.Method != "none" || r.Version != ""
		return r, true
	}
	r.Value = p.keyword()
	if r.Method == "" || r.Value == "" {
		p.broken = true
		return r, false
	}
	p.comment = ""
	p.space()
	r.Comment = p.comment
	for !p.broken && !p.end() && p.s[p.i] != ';' {
		p.property(&r)
		p.space()
	}
	return r, false
}

// property reads reason=value or ptype.property=value.
func (p *parser) property(r *Result) {
	kind := p.keyword()
	p.space()
	var name string
	dotted := p.eat('.')
	if dotted {
		name = p.keyword()
		p.space()
	}
	if kind == "" || !p.eat('=') || dotted == (name == "") {
		p.broken = true
		return
	}
	v := p.value()
	switch {
	case !dotted && kind == "reason":
		r.Reason = v
	case !dotted: // action=none, as some write
	case len(r.Props) < maxProps:
		r.Props = append(r.Props, Property{kind, name, v})
	}
}
