package mime

import (
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// ToUTF8 returns a reader of r's text as valid UTF-8. What cannot be decoded becomes
// U+FFFD. "", us-ascii and utf-8 are read as UTF-8; of a charset nobody knows the
// ASCII bytes are kept and every other byte becomes U+FFFD. Names are those of the
// WHATWG and IANA lists, without case; UTF-7 is not decoded, so that it cannot
// smuggle markup past a filter.
func ToUTF8(charset string, r io.Reader) io.Reader {
	return transform.NewReader(r, toUTF8(charset))
}

func toUTF8(charset string) transform.Transformer {
	// An asterisk and a language may follow (RFC 2231, 5).
	charset, _, _ = strings.Cut(lower(strings.Trim(charset, " \t\"'")), "*")
	if enc := encodingOf(charset); enc != nil {
		return enc.NewDecoder()
	}
	return asciiOnly{}
}

func encodingOf(charset string) encoding.Encoding {
	switch charset {
	case "", "us-ascii", "ascii", "utf-8", "utf8", "unknown-8bit", "unicode-1-1-utf-8":
		return unicode.UTF8
	case "utf-16": // big-endian without a mark (RFC 2781, 4.3)
		return unicode.UTF16(unicode.BigEndian, unicode.UseBOM)
	case "cp936":
		charset = "gbk"
	}
	if len(charset) > maxToken {
		return nil
	}
	if enc, err := htmlindex.Get(charset); err == nil && enc != encoding.Replacement {
		return enc
	}
	enc, err := ianaindex.MIME.Encoding(charset)
	if err != nil || enc == encoding.Replacement {
		return nil
	}
	return enc
}

// asciiOnly keeps ASCII and replaces every other byte.
type asciiOnly struct{ transform.NopResetter }

func (asciiOnly) Transform(dst, src []byte, _ bool) (nDst, nSrc int, err error) {
	for nSrc < len(src) {
		r := rune(src[nSrc])
		if r >= utf8.RuneSelf {
			r = utf8.RuneError
		}
		if nDst+utf8.RuneLen(r) > len(dst) {
			return nDst, nSrc, transform.ErrShortDst
		}
		nDst += utf8.EncodeRune(dst[nDst:], r)
		nSrc++
	}
	return nDst, nSrc, nil
}

// decodeCharset is ToUTF8 for short text.
func decodeCharset(charset string, b []byte) string {
	if (charset == "" || charset == "utf-8" || charset == "us-ascii") && utf8.Valid(b) {
		return string(b)
	}
	out, _, err := transform.Bytes(toUTF8(charset), b)
	if err != nil {
		return validUTF8(string(b))
	}
	return validUTF8(string(out))
}

// validUTF8 replaces what is no UTF-8.
func validUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
