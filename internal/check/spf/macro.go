package spf

import (
	"fmt"
	"strconv"
	"strings"
)

// spec is a string with macros (RFC 7208, 7).
type spec struct {
	pieces []piece
	closed bool // the last piece is a macro, or the like
}

// piece is literal text, or a macro if letter is set.
type piece struct {
	text    string
	letter  byte // in lower case
	escape  bool // upper case in the record: for URLs
	keep    int  // right-hand parts kept; 0: all
	reverse bool
	split   string // delimiters
}

// letters of macros; those of explanations only come last.
const macroLetters, expLetters = "slodiphv", "crt"

// parseSpec reads a domain-spec: a macro-string that ends in a macro, or in a dot and a
// top label (RFC 7208, 7.1).
func parseSpec(s string) (*spec, error) {
	out, err := parseMacros(s, false)
	if err != nil {
		return nil, err
	}
	if len(out.pieces) == 0 {
		return nil, fmt.Errorf("the domain is empty")
	}
	if !out.closed && !endsWell(s) {
		return nil, fmt.Errorf("the domain does not end in a valid top label")
	}
	return out, nil
}

// endsWell tells whether a domain-spec that does not end in a macro ends in a dot and a top
// label.
func endsWell(s string) bool {
	s = strings.TrimSuffix(s, ".")
	dot := strings.LastIndexByte(s, '.')
	if dot < 0 || dot+1 == len(s) {
		return false
	}
	top, numeric := s[dot+1:], true
	for i := 0; i < len(top); i++ {
		c := top[i]
		switch {
		case isDigit(c):
		case isAlpha(c), c == '-' && i > 0 && i < len(top)-1:
			numeric = false
		default:
			return false
		}
	}
	return !numeric
}

// parseMacros reads a macro-string, or with exp an explain-string, in which there may be
// spaces and three more letters.
func parseMacros(s string, exp bool) (*spec, error) {
	out := &spec{}
	var text strings.Builder
	flush := func() {
		if text.Len() > 0 {
			out.pieces = append(out.pieces, piece{text: text.String()})
			text.Reset()
		}
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		out.closed = c == '%'
		if c != '%' {
			if c < '!' && !(exp && c == ' ') || c > '~' {
				return nil, fmt.Errorf("the byte 0x%02x is not allowed", c)
			}
			text.WriteByte(c)
			continue
		}
		if i++; i == len(s) {
			return nil, fmt.Errorf("it ends in %%")
		}
		switch s[i] {
		case '%':
			text.WriteByte('%')
		case '_':
			text.WriteByte(' ')
		case '-':
			text.WriteString("%20")
		case '{':
			end := strings.IndexByte(s[i:], '}')
			if end < 0 {
				return nil, fmt.Errorf("a macro has no end")
			}
			m, err := parseMacro(s[i+1:i+end], exp)
			if err != nil {
				return nil, err
			}
			flush()
			out.pieces = append(out.pieces, m)
			i += end
		default:
			return nil, fmt.Errorf("%%%c is no macro", printable(s[i : i+1])[0])
		}
	}
	flush()
	return out, nil
}

// parseMacro reads what stands in the braces.
func parseMacro(s string, exp bool) (piece, error) {
	bad := fmt.Errorf("%%{%s} is no macro", printable(s))
	if s == "" {
		return piece{}, bad
	}
	p := piece{letter: s[0] | 0x20, escape: s[0] >= 'A' && s[0] <= 'Z', split: "."}
	if !isAlpha(s[0]) || !strings.Contains(macroLetters, string(p.letter)) && !(exp && strings.Contains(expLetters, string(p.letter))) {
		return p, bad
	}
	s = s[1:]
	n := 0
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	if n > 0 {
		keep, err := strconv.Atoi(s[:n])
		if err != nil { // a number beyond all labels keeps them all
			keep = 1 << 30
		}
		if keep == 0 {
			return p, bad
		}
		p.keep, s = keep, s[n:]
	}
	if s != "" && s[0]|0x20 == 'r' {
		p.reverse, s = true, s[1:]
	}
	if s != "" {
		if strings.Trim(s, ".-+,/_=") != "" {
			return p, bad
		}
		p.split = s
	}
	return p, nil
}

// expand puts values in place of macros. No result is longer than most.
func (s *spec) expand(most int, value func(letter byte) string) (string, error) {
	var b strings.Builder
	for _, p := range s.pieces {
		if p.letter == 0 {
			b.WriteString(p.text)
		} else {
			b.WriteString(p.transform(value(p.letter)))
		}
		if b.Len() > most {
			return "", fmt.Errorf("macros expand to more than %d bytes", most)
		}
	}
	return b.String(), nil
}

// transform applies digits, reversal and delimiters (RFC 7208, 7.3).
func (p *piece) transform(v string) string {
	if p.keep > 0 || p.reverse || p.split != "." {
		parts := splitAny(v, p.split)
		if p.reverse {
			for i, j := 0, len(parts)-1; i < j; i, j = i+1, j-1 {
				parts[i], parts[j] = parts[j], parts[i]
			}
		}
		if p.keep > 0 && p.keep < len(parts) {
			parts = parts[len(parts)-p.keep:]
		}
		v = strings.Join(parts, ".")
	}
	if p.escape {
		v = urlEscape(v)
	}
	return v
}

// splitAny splits at every one of some bytes; parts may be empty.
func splitAny(v, at string) (parts []string) {
	for {
		i := strings.IndexAny(v, at)
		if i < 0 {
			return append(parts, v)
		}
		parts, v = append(parts, v[:i]), v[i+1:]
	}
}

// urlEscape escapes all that is not unreserved (RFC 3986, 2.3).
func urlEscape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; isAlpha(c) || isDigit(c) || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
