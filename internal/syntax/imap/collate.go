package imap

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Fold returns the form in which texts are compared and ordered, byte by byte: that
// of the comparator i;unicode-casemap (RFC 5051), in title case and with characters
// taken apart, so that two spellings of one letter are the same. SEARCH, SORT and
// THREAD all use it (RFC 5255, 4.3; RFC 9051, 6.4.4).
func Fold(s string) string {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= utf8.RuneSelf || c >= 'a' && c <= 'z' {
			return string(AppendFold(make([]byte, 0, len(s)), s))
		}
	}
	return s
}

// AppendFold appends the folded form of s to b.
func AppendFold(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= utf8.RuneSelf {
			return appendFoldRunes(b, s, i)
		}
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		b = append(b, c)
	}
	return b
}

// appendFoldRunes appends the rest of s from i on; what is before it is ASCII and in
// b already and stays as it is whatever follows.
func appendFoldRunes(b []byte, s string, i int) []byte {
	titled := make([]byte, 0, len(s)-i+8)
	for _, r := range s[i:] {
		titled = utf8.AppendRune(titled, titleOf(r))
	}
	return append(b, norm.NFKD.Bytes(titled)...)
}

// titleOf is unicode.ToTitle, quick for ASCII.
func titleOf(r rune) rune {
	if r < utf8.RuneSelf {
		if r >= 'a' && r <= 'z' {
			r -= 'a' - 'A'
		}
		return r
	}
	return unicode.ToTitle(r)
}
