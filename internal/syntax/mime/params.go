package mime

import (
	"sort"
	"strings"
)

// Param is a parameter of Content-Type or Content-Disposition as IMAP shows it. The
// name is in lower case. Pieces by RFC 2231 are put together; if one of them was
// encoded, the name ends in "*" and the value has the form charset'language'text
// with %XX.
type Param struct {
	Name, Value string
}

// Params are the parameters of one field in order, each name once.
type Params []Param

// Get returns the decoded value of a parameter (RFC 2231, and encoded words, which
// senders use although RFC 2047 forbids it), or "". The encoded form wins.
func (ps Params) Get(name string) string {
	plain, found := "", false
	for _, p := range ps {
		switch {
		case len(p.Name) == len(name)+1 && p.Name[len(name)] == '*' && p.Name[:len(name)] == name:
			return decodeExtended(p.Value)
		case p.Name == name && !found:
			plain, found = p.Value, true
		}
	}
	return DecodeWords(plain)
}

// decodeExtended decodes charset'language'text (RFC 2231, 4).
func decodeExtended(s string) string {
	charset, rest, ok := strings.Cut(s, "'")
	if !ok {
		return decodeCharset("", unpercent(s))
	}
	_, text, ok := strings.Cut(rest, "'")
	if !ok {
		return decodeCharset("", unpercent(s))
	}
	return decodeCharset(charset, unpercent(text))
}

// unpercent decodes %XX; a stray % stays.
func unpercent(s string) []byte {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			hi, lo := unhex(s[i+1]), unhex(s[i+2])
			if hi >= 0 && lo >= 0 {
				b = append(b, byte(hi<<4|lo))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return b
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

// parseContentType reads type/subtype and parameters (RFC 2045, 5.1). It is not ok
// if there is no type and subtype; bad parameters are left out.
func parseContentType(s string) (typ, subtype string, params Params, ok bool) {
	sc := scanner{s: s}
	sc.skipCFWS()
	typ = lower(sc.token())
	sc.skipCFWS()
	if !sc.eat('/') {
		return "", "", nil, false
	}
	sc.skipCFWS()
	subtype = lower(sc.token())
	if typ == "" || subtype == "" || len(typ) > maxToken || len(subtype) > maxToken {
		return "", "", nil, false
	}
	return typ, subtype, sc.params(), true
}

// parseDisposition reads a Content-Disposition field (RFC 2183). Without a type it
// is none, unless it has parameters: then it is an attachment.
func parseDisposition(s string) (string, Params) {
	sc := scanner{s: s}
	sc.skipCFWS()
	disp := lower(sc.token())
	params := sc.params()
	if len(disp) > maxToken || disp == "" && len(params) > 0 {
		disp = "attachment"
	}
	return disp, params
}

// parseLanguages reads a Content-Language field (RFC 3282).
func parseLanguages(s string) []string {
	var out []string
	sc := scanner{s: s}
	for sc.more() && len(out) < maxParams {
		sc.skipCFWS()
		if t := sc.token(); t != "" && len(t) <= maxToken {
			out = append(out, t)
		} else if t == "" && sc.more() {
			sc.i++
		}
	}
	return out
}

// firstToken returns the first token of a field in lower case, or "".
func firstToken(s string) string {
	sc := scanner{s: s}
	sc.skipCFWS()
	return lower(clip(sc.token(), maxToken))
}

// params reads the rest of a field as ;name=value pairs and joins the pieces of
// RFC 2231.
func (sc *scanner) params() Params {
	var raw Params
	for sc.more() && len(raw) < maxParams {
		sc.skipTo(';')
		if !sc.eat(';') {
			break
		}
		sc.skipCFWS()
		name := lower(sc.token())
		sc.skipCFWS()
		if name == "" || len(name) > maxToken || !sc.eat('=') {
			continue
		}
		sc.skipCFWS()
		raw = append(raw, Param{name, sc.paramValue()})
	}
	return joinPieces(raw)
}

// paramValue reads a quoted string, or what stands up to the next semicolon without
// white space and comments around it: many senders forget the quotes around spaces.
func (sc *scanner) paramValue() string {
	if sc.peek() == '"' {
		return sc.quoted()
	}
	start := sc.i
	end := start
	for sc.more() && sc.s[sc.i] != ';' {
		if c := sc.s[sc.i]; c == ' ' || c == '\t' || c == '\r' || c == '\n' {
			sc.skipCFWS()
			continue
		}
		sc.i++
		end = sc.i
	}
	return sc.s[start:end]
}

// piece is one parameter of a family name*0, name*1*, ... (RFC 2231, 3).
type piece struct {
	n        int
	extended bool
	value    string
}

// joinPieces puts the pieces of RFC 2231 together in order of their numbers, up to
// the first gap; of two with one number the first counts. A plain parameter stays.
func joinPieces(raw Params) Params {
	families := map[string][]piece{}
	seen := map[string]bool{}
	var out Params
	for _, p := range raw {
		base, pc, ok := splitPiece(p)
		key := p.Name
		if ok {
			families[base] = append(families[base], pc)
			key = base + "*"
		}
		if !seen[key] {
			seen[key] = true
			out = append(out, Param{Name: key, Value: p.Value})
		}
	}
	kept := out[:0]
	for _, p := range out {
		if base, ok := strings.CutSuffix(p.Name, "*"); ok && families[base] != nil {
			joined, extended, ok := join(families[base])
			if !ok {
				continue
			}
			p.Value = joined
			if !extended {
				if seen[base] {
					continue
				}
				p.Name = base
			}
		}
		kept = append(kept, p)
	}
	return kept
}

// splitPiece tells whether p is name*, name*N or name*N*.
func splitPiece(p Param) (base string, pc piece, ok bool) {
	base, tail, ok := strings.Cut(p.Name, "*")
	if !ok || base == "" {
		return "", piece{}, false
	}
	pc = piece{value: p.Value}
	tail, pc.extended = strings.CutSuffix(tail, "*")
	if tail == "" && !pc.extended {
		// name* alone: the whole value, encoded.
		return base, piece{n: 0, extended: true, value: p.Value}, true
	}
	if tail == "" || len(tail) > 4 {
		return "", piece{}, false
	}
	for _, c := range []byte(tail) {
		if c < '0' || c > '9' {
			return "", piece{}, false
		}
		pc.n = pc.n*10 + int(c-'0')
	}
	return base, pc, true
}

func join(ps []piece) (value string, extended, ok bool) {
	sort.SliceStable(ps, func(i, j int) bool { return ps[i].n < ps[j].n })
	n := 0
	for i, p := range ps {
		if i > 0 && p.n == ps[i-1].n {
			continue
		}
		if p.n != n {
			break
		}
		extended = extended || p.extended
		n++
	}
	var b strings.Builder
	n = 0
	for i, p := range ps {
		if i > 0 && p.n == ps[i-1].n {
			continue
		}
		if p.n != n {
			break
		}
		if n == 0 && extended && !p.extended {
			b.WriteString("''")
		}
		if extended && !p.extended {
			percent(&b, p.value)
		} else {
			b.WriteString(p.value)
		}
		n++
	}
	return b.String(), extended, n > 0
}

// percent writes s so that unpercent gives it back.
func percent(b *strings.Builder, s string) {
	const hexDigits = "0123456789ABCDEF"
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '%' || c == '\'' || c == '*' {
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		} else {
			b.WriteByte(c)
		}
	}
}
