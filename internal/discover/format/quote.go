package format

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Each form has its own way to say that a character means itself. Control characters were
// refused before.

// inQuotes puts double quotes around a text, with a backslash before each of the characters.
func inQuotes(s, special string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		if r < utf8.RuneSelf && strings.ContainsRune(special, r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	b.WriteByte('"')
	return b.String()
}

// mutt quotes for muttrc(5): in double quotes $ begins a variable and ` a command.
func mutt(s string) string { return inQuotes(s, "\\\"$`") }

// quote is for mbsync, fetchmail and strings of Python.
func quote(s string) string { return inQuotes(s, `\"`) }

// shell makes a text one word of a shell.
func shell(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// percent is for user names in URLs (RFC 3986, 3.2.1): only what means itself everywhere
// stays.
func percent(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// bare is for forms without quotes: a value is the rest of the line, without spaces around it.
func bare(s string) (string, error) {
	if s != strings.TrimSpace(s) || s == "" {
		return "", fault.Newf(fault.Invalid, "%q begins or ends with a space, which this file cannot say", s)
	}
	return s, nil
}

// doubled is for files of Python's configparser, in which % begins a reference.
func doubled(s string) string { return strings.ReplaceAll(s, "%", "%%") }
