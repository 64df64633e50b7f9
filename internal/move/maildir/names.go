package maildir

import (
	"strconv"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
)

// A name is "unique,S=size,W=size:2,flags". mbsync puts ",U=uid" behind the unique part,
// and a file system that has no colons gets another character.

// base is the part of a name that stays when flags change.
func base(name string) string {
	if i := infoAt(name); i >= 0 {
		return name[:i]
	}
	return name
}

// unique is the part of a name that names the message for ever.
func unique(name string) string {
	name = base(name)
	if i := strings.IndexByte(name, ','); i > 0 {
		name = name[:i]
	}
	return name
}

// infoAt returns where the info begins: ":2,", or with ";" or "!"; -1 if there is none.
func infoAt(name string) int {
	for i := len(name) - 3; i > 0; i-- {
		if name[i+1] == '2' && name[i+2] == ',' && strings.IndexByte(":;!", name[i]) >= 0 {
			return i
		}
	}
	if i := strings.IndexByte(name, ':'); i > 0 { // an info of another kind
		return i
	}
	return -1
}

// flagsIn reads the flags in a name. words are Dovecot's keywords by their letters.
func flagsIn(name string, words []string) (f mail.Flags, keywords []string) {
	i := infoAt(name)
	if i < 0 || len(name) < i+3 || name[i+1] != '2' {
		return 0, nil
	}
	for _, c := range []byte(name[i+3:]) {
		switch {
		case flagLetters[c] != 0:
			f |= flagLetters[c]
		case c == 'P':
			keywords = append(keywords, "$Forwarded")
		case c >= 'a' && c <= 'z' && int(c-'a') < len(words) && words[c-'a'] != "":
			keywords = append(keywords, words[c-'a'])
		case c == ',':
			return f, keywords // experimental: flags of other programs
		}
	}
	return f, keywords
}

// sizeIn returns the size of a message with lines in CRLF, which Dovecot keeps in the name: ",W=".
func sizeIn(name string) (int64, bool) {
	for _, field := range strings.Split(base(name), ",")[1:] {
		if v, ok := strings.CutPrefix(field, "W="); ok {
			n, err := strconv.ParseInt(v, 10, 64)
			return n, err == nil && n >= 0 && n < 1<<40
		}
	}
	return 0, false
}

// stamp is when a name was made, by its beginning; zero if it does not say.
func stamp(name string) time.Time {
	sec, _, ok := strings.Cut(name, ".")
	n, err := strconv.ParseInt(sec, 10, 64)
	if !ok || err != nil || n < 500_000_000 || n > 1<<33 {
		return time.Time{}
	}
	return time.Unix(n, 0).UTC()
}
