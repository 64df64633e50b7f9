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
			return string(AppendFold(make([]byte, 0, len(s)), []byte(s)))
		}
	}
	return s
}

// AppendFold appends the folded form of s to b.
func AppendFold(b, s []byte) []byte {
	for i, c := range s {
		if c >= utf8.RuneSelf {
			return appendFoldRunes(b, s[i:])
		}
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		b = append(b, c)
	}
	return b
}

// appendFoldRunes is AppendFold for what is not ASCII. What is in b stays as it is,
// whatever follows.
func appendFoldRunes(b, s []byte) []byte {
	titled := make([]byte, 0, len(s)+8)
	for len(s) > 0 {
		r, n := utf8.DecodeRune(s)
		titled = utf8.AppendRune(titled, titleOf(r))
		s = s[n:]
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
