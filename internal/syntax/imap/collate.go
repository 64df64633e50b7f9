package imap

import (
	"encoding/binary"
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
	n := len(b)
	b = append(b, s...)
	if i := upperASCII(b[n:]); i < len(s) {
		return appendFoldRunes(b[:n+i], s[i:])
	}
	return b
}

// upperASCII makes ASCII letters capitals, up to the first byte that is not ASCII, and
// returns how many bytes it has passed: eight at a time, for texts are searched so.
func upperASCII(b []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(b); i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		if w&highs != 0 {
			break
		}
		// The high bit of each byte that is at least 'a' and not over 'z', moved to where
		// capitals differ.
		small := (w + (0x80-'a')*ones) &^ (w + (0x7f-'z')*ones) & highs
		binary.LittleEndian.PutUint64(b[i:], w^small>>2)
	}
	for ; i < len(b) && b[i] < utf8.RuneSelf; i++ {
		if b[i] >= 'a' && b[i] <= 'z' {
			b[i] -= 'a' - 'A'
		}
	}
	return i
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
