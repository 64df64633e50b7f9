package move

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// What cannot be in a name here is written as "=" and two hexadecimal digits for each byte,
// and so is an "=" of such a name that would read as one: what it was can be told. Names that
// can be stay as they are, and so does what was written in this way.

// NameHere returns the name that a mailbox can have here, which is the same unless it cannot.
// A name that is too long loses its end, which cannot be told from it any more.
func NameHere(name string) string {
	if clean, err := store.CleanName(name); err == nil {
		return clean
	}
	levels := strings.Split(name, store.Separator)
	for i, level := range levels {
		switch level {
		case "":
			levels[i] = "="
		case ".", "..":
			levels[i] = strings.ReplaceAll(level, ".", "=2E")
		default:
			levels[i] = escape(level, func(r rune) bool {
				return unicode.IsControl(r) || r == 0x2028 || r == 0x2029 || r == utf8.RuneError || r == '*' || r == '%'
			})
		}
	}
	if over := len(levels) - store.MaxMailboxDepth; over > 0 {
		levels = append(levels[:store.MaxMailboxDepth-1], strings.Join(levels[store.MaxMailboxDepth-1:], "=2F"))
	}
	whole := strings.Join(levels, store.Separator)
	if len(whole) > store.MaxMailboxName {
		whole = shorten(whole, store.MaxMailboxName)
	}
	clean, err := store.CleanName(whole)
	if err != nil { // nothing that is known of; a name it must have
		sum := sha256.Sum256([]byte(name))
		return "Mailbox " + hex.EncodeToString(sum[:6])
	}
	return clean
}

// KeywordHere returns the keyword that stands for one of elsewhere, which is the same unless
// it cannot be one (RFC 9051, 9: an atom).
func KeywordHere(name string) string {
	bad := func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`(){%*"\]`, r) }
	k := name
	if strings.ContainsFunc(name, bad) {
		k = escape(name, bad)
	}
	if k == "" {
		k = "="
	}
	if len(k) > store.MaxKeyword {
		k = shorten(k, store.MaxKeyword)
	}
	return mail.Keyword(k)
}

func isEscape(s string) bool {
	return len(s) > 2 && s[0] == '=' && isHex(s[1]) && isHex(s[2])
}

func isHex(c byte) bool { return c >= '0' && c <= '9' || c >= 'A' && c <= 'F' }

func escape(s string, bad func(rune) bool) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if bad(r) || isEscape(s[i:]) {
			for _, c := range []byte(s[i : i+n]) {
				fmt.Fprintf(&b, "=%02X", c)
			}
		} else {
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

// shorten cuts s to n bytes, and tells those that begin alike apart.
func shorten(s string, n int) string {
	sum := sha256.Sum256([]byte(s))
	tail := "=~" + hex.EncodeToString(sum[:4])
	s = s[:n-len(tail)]
	for len(s) > 0 && !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return strings.TrimRight(s, store.Separator) + tail
}
