package mime

import (
	"encoding/base64"
	"strings"
)

// maxCharsetName bounds the search for the end of an encoded word's charset.
const maxCharsetName = 64

// DecodeWords decodes the encoded words of a header text to valid UTF-8 (RFC 2047).
// It accepts words that are too long, hold spaces, or touch other text; white space
// between two of them is dropped; bytes of neighbours in one charset are decoded
// together, because senders cut characters in two. What is no encoded word stays.
// Linear: each byte is looked at a fixed number of times.
func DecodeWords(s string) string {
	if !strings.Contains(s, "=?") {
		return validUTF8(s)
	}
	var d wordDecoder
	for s != "" {
		i := strings.Index(s, "=?")
		if i < 0 {
			break
		}
		w, rest, ok := cutWord(s[i:])
		if !ok {
			d.text(s[:i+2])
			s = s[i+2:]
			continue
		}
		if !d.after || strings.Trim(s[:i], " \t\r\n") != "" {
			d.text(s[:i])
		}
		d.word(w)
		s = rest
	}
	d.text(s)
	d.flush()
	return d.out.String()
}

// encodedWord is =?charset?encoding?text?=.
type encodedWord struct {
	charset  string
	encoding byte // 'b' or 'q'
	text     string
}

// cutWord reads the encoded word at the start of s, which begins with "=?". The text
// holds no question mark, so a failed try ends at the third one at the latest.
func cutWord(s string) (w encodedWord, rest string, ok bool) {
	s = s[2:]
	i := strings.IndexByte(clip(s, maxCharsetName), '?')
	if i <= 0 || len(s) < i+3 || s[i+2] != '?' {
		return w, "", false
	}
	w.charset, w.encoding = s[:i], s[i+1]|0x20
	if w.encoding != 'b' && w.encoding != 'q' || strings.ContainsAny(w.charset, " \t=") {
		return w, "", false
	}
	s = s[i+3:]
	i = strings.IndexByte(s, '?')
	if i < 0 || i+1 >= len(s) || s[i+1] != '=' {
		return w, "", false
	}
	w.text = s[:i]
	return w, s[i+2:], true
}

type wordDecoder struct {
	out     strings.Builder
	charset string // of raw
	raw     []byte // decoded bytes that wait for their neighbours
	after   bool   // the last thing was an encoded word
}

func (d *wordDecoder) text(s string) {
	if s == "" {
		return
	}
	d.flush()
	d.after = false
	d.out.WriteString(validUTF8(s))
}

func (d *wordDecoder) word(w encodedWord) {
	charset := lower(w.charset)
	if charset != d.charset {
		d.flush()
		d.charset = charset
	}
	d.after = true
	if w.encoding == 'b' {
		d.raw = append(d.raw, decodeB(w.text)...)
	} else {
		d.raw = appendQ(d.raw, w.text)
	}
}

func (d *wordDecoder) flush() {
	if len(d.raw) > 0 {
		d.out.WriteString(decodeCharset(d.charset, d.raw))
		d.raw = d.raw[:0]
	}
}

// decodeB decodes base64 with or without padding; stray bytes are skipped.
func decodeB(s string) []byte {
	clean := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if sextet(s[i]) >= 0 {
			clean = append(clean, s[i])
		}
	}
	if len(clean)%4 == 1 {
		clean = clean[:len(clean)-1]
	}
	out := make([]byte, base64.RawStdEncoding.DecodedLen(len(clean)))
	n, _ := base64.RawStdEncoding.Decode(out, clean)
	return out[:n]
}

// appendQ decodes the Q encoding (RFC 2047, 4.2).
func appendQ(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '_':
			b = append(b, ' ')
		case c == '=' && i+2 < len(s) && unhex(s[i+1]) >= 0 && unhex(s[i+2]) >= 0:
			b = append(b, byte(unhex(s[i+1])<<4|unhex(s[i+2])))
			i += 2
		default:
			b = append(b, c)
		}
	}
	return b
}
