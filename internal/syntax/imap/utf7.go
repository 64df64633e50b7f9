package imap

import (
	"encoding/base64"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Modified UTF-7 (RFC 3501, 5.1.3): printable ASCII stands for itself, '&' is "&-",
// and everything else is UTF-16BE in base64 with ',' for '/' between '&' and '-'.

var base64UTF7 = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").
	WithPadding(base64.NoPadding).Strict()

func isUTF7Direct(c byte) bool { return c >= ' ' && c <= '~' }

// EncodeUTF7 returns name, which is UTF-8, in modified UTF-7. What is not UTF-8
// becomes U+FFFD.
func EncodeUTF7(name string) string {
	plain := true
	for i := 0; i < len(name) && plain; i++ {
		plain = isUTF7Direct(name[i]) && name[i] != '&'
	}
	if plain {
		return name
	}
	var b []byte
	for i := 0; i < len(name); {
		if c := name[i]; isUTF7Direct(c) {
			b = append(b, c)
			if c == '&' {
				b = append(b, '-')
			}
			i++
			continue
		}
		start := i
		for i < len(name) && !isUTF7Direct(name[i]) {
			_, n := utf8.DecodeRuneInString(name[i:])
			i += n
		}
		var units []byte
		for _, u := range utf16.Encode([]rune(name[start:i])) {
			units = append(units, byte(u>>8), byte(u))
		}
		b = append(b, '&')
		b = base64UTF7.AppendEncode(b, units)
		b = append(b, '-')
	}
	return string(b)
}

// DecodeUTF7 returns the UTF-8 of a name in modified UTF-7. Only the one canonical
// form of a name is accepted: no ASCII in base64, no surrogate without its other
// half, no shift left open, no two shifts that should be one.
func DecodeUTF7(s string) (string, error) {
	bad := func(what string) (string, error) {
		return "", fault.Newf(fault.Invalid, "mailbox name is not valid modified UTF-7: %s", what)
	}
	var b strings.Builder
	shifted := false // a shift has just ended
	for i := 0; i < len(s); {
		c := s[i]
		if !isUTF7Direct(c) {
			return bad("it has 8-bit or control characters")
		}
		if c != '&' {
			b.WriteByte(c)
			shifted = false
			i++
			continue
		}
		n := strings.IndexByte(s[i:], '-')
		if n < 0 {
			return bad("'&' is not closed by '-'")
		}
		code := s[i+1 : i+n]
		i += n + 1
		if code == "" {
			b.WriteByte('&')
			shifted = false
			continue
		}
		if shifted {
			return bad("two encoded runs stand side by side")
		}
		if why := decodeShift(&b, code); why != "" {
			return bad(why)
		}
		shifted = true
	}
	return b.String(), nil
}

// decodeShift appends what the base64 of one shift says, or returns what is wrong.
func decodeShift(b *strings.Builder, code string) string {
	raw, err := base64UTF7.DecodeString(code)
	if err != nil || len(raw)%2 != 0 || strings.ContainsAny(code, "\r\n") {
		return "bad base64"
	}
	for i := 0; i < len(raw); i += 2 {
		r := rune(raw[i])<<8 | rune(raw[i+1])
		if r < 0x80 && isUTF7Direct(byte(r)) {
			return "ASCII characters are encoded"
		}
		if utf16.IsSurrogate(r) {
			if i+3 >= len(raw) {
				return "half a surrogate pair"
			}
			low := rune(raw[i+2])<<8 | rune(raw[i+3])
			if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
				return "half a surrogate pair"
			}
			i += 2
		}
		b.WriteRune(r)
	}
	return ""
}

// MaxMailboxName is the most bytes of UTF-8 in a whole mailbox name.
const MaxMailboxName = 1000

// ParseMailbox returns the name a client wrote, in UTF-8 and NFC: modified UTF-7
// unless utf8Enabled or 8-bit characters say that it is UTF-8, which a server that
// announces IMAP4rev2 takes at any time (RFC 9051, 4.3). "INBOX" is folded to upper case, alone or before a '/': it is
// one mailbox in any case (RFC 9051, 5.1). What a name may be beyond this (empty
// levels, "..", reserved names) is the store's to say.
func ParseMailbox(s string, utf8Enabled bool) (string, error) {
	name := s
	if !utf8Enabled && isASCII(s) {
		var err error
		if name, err = DecodeUTF7(s); err != nil {
			return "", err
		}
	}
	if !utf8.ValidString(name) {
		return "", fault.New(fault.Invalid, "mailbox name is not valid UTF-8")
	}
	name = norm.NFC.String(name)
	if len(name) > MaxMailboxName {
		return "", fault.Newf(fault.Invalid, "mailbox name is longer than %d bytes", MaxMailboxName)
	}
	for _, r := range name {
		// Net-Unicode has no controls; the line separators break lists (RFC 5198, 2).
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 {
			return "", fault.New(fault.Invalid, "mailbox name has a control character")
		}
	}
	if len(name) >= 5 && strings.EqualFold(name[:5], "INBOX") && (len(name) == 5 || name[5] == '/') {
		name = "INBOX" + name[5:]
	}
	return name, nil
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// ExpectMailbox reads a mailbox name and returns it as ParseMailbox does. A string
// that is no mailbox name is an error of kind Unsupported: the command is well
// formed, and its answer is NO (RFC 9051, 5.1).
func (d *Decoder) ExpectMailbox(out *string) bool {
	var s string
	if !d.expectAString(&s, "a mailbox name") {
		return false
	}
	return d.mailbox(s, out)
}

func (d *Decoder) mailbox(s string, out *string) bool {
	name, err := ParseMailbox(s, d.UTF8)
	if err != nil {
		return d.fault(fault.Wrap(fault.Unsupported, fault.Say(err), err))
	}
	*out, d.OldName = name, ""
	if d.UTF8 && s != name {
		d.OldName = s
	}
	return true
}
