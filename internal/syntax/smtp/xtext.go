package smtp

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

const upperHex = "0123456789ABCDEF"

// decodeXtext decodes xtext (RFC 3461, 4). What it encodes must be printable: a
// value ends up in header fields and reports, where a CR, LF or NUL could pass for
// something else.
func decodeXtext(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '+':
			if i+2 >= len(s) {
				return "", false
			}
			hi, lo := strings.IndexByte(upperHex, s[i+1]), strings.IndexByte(upperHex, s[i+2])
			if hi < 0 || lo < 0 {
				return "", false
			}
			c, i = byte(hi<<4|lo), i+2
		case c == '=' || c <= ' ' || c >= 0x7f:
			return "", false
		}
		if c < ' ' || c >= 0x7f {
			return "", false
		}
		b.WriteByte(c)
	}
	return b.String(), true
}

// appendXtext encodes s. Bytes that decodeXtext would refuse become "?".
func appendXtext(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c < ' ' || c >= 0x7f:
			b = append(b, '?')
		case c == '+' || c == '=' || c == ' ':
			b = append(b, '+', upperHex[c>>4], upperHex[c&15])
		default:
			b = append(b, c)
		}
	}
	return b
}

// maxORcpt is the length of an ORCPT value (RFC 3461, 4.2).
const maxORcpt = 500

// parseORcpt reads "addr-type;xtext" and returns it decoded. With the type utf-8
// and SMTPUTF8 the address may be UTF-8 as it is; without, characters beyond ASCII
// stand as \x{HEX} (RFC 6533, 3).
func parseORcpt(s string, allowUTF8 bool) (string, bool) {
	kind, addr, found := strings.Cut(s, ";")
	if !found || len(s) > maxORcpt || !isKeyword(strings.ToUpper(kind)) || addr == "" {
		return "", false
	}
	if !strings.EqualFold(kind, "utf-8") {
		plain, ok := decodeXtext(addr)
		return kind + ";" + plain, ok
	}
	return parseUTF8ORcpt(kind, addr, allowUTF8)
}

// parseUTF8ORcpt decodes utf-8-addr-xtext and utf-8-addr-unitext.
func parseUTF8ORcpt(kind, addr string, allowUTF8 bool) (string, bool) {
	if !utf8.ValidString(addr) || !allowUTF8 && !isASCII(addr) {
		return "", false
	}
	var b strings.Builder
	for len(addr) > 0 {
		if rest, ok := strings.CutPrefix(addr, `\x{`); ok {
			hex, after, closed := strings.Cut(rest, "}")
			n, err := strconv.ParseUint(hex, 16, 32)
			if !closed || err != nil || len(hex) > 6 || !visible(rune(n)) {
				return "", false
			}
			b.WriteRune(rune(n))
			addr = after
			continue
		}
		r, size := utf8.DecodeRuneInString(addr)
		if r == '=' || r == '+' || r == '\\' || r == ' ' || !visible(r) {
			return "", false
		}
		b.WriteRune(r)
		addr = addr[size:]
	}
	return kind + ";" + b.String(), true
}

// visible tells whether r is neither a control character nor no character at all.
func visible(r rune) bool {
	return r >= ' ' && r != 0x7f && (r < 0x80 || r >= 0xa0) && r != 0x2028 && r != 0x2029 && utf8.ValidRune(r)
}

// appendORcpt encodes what parseORcpt returned.
func appendORcpt(b []byte, s string, allowUTF8 bool) []byte {
	kind, addr, _ := strings.Cut(s, ";")
	b = append(append(b, kind...), ';')
	if !strings.EqualFold(kind, "utf-8") {
		return appendXtext(b, addr)
	}
	for _, r := range addr {
		switch {
		case r >= 0x80 && allowUTF8:
			b = utf8.AppendRune(b, r)
		case r >= 0x80, r == '+', r == '=', r == '\\', r == ' ':
			b = fmt.Appendf(b, `\x{%02X}`, r)
		case !visible(r):
			b = append(b, '?')
		default:
			b = append(b, byte(r))
		}
	}
	return b
}
