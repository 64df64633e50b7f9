package outward

import (
	"crypto/sha256"
	"encoding/hex"
	"path"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// Names of mailboxes as names of files. A level is a folder; what a file system, or the
// programs of one, could take for something else is written as "%" and two digits. A level
// that is too long goes on in the folder below: "%+" at the end says so. fileName can
// be undone, whatever the name is: the tests do.

const longestLevel = 200 // bytes: file systems have 255, and endings are put behind

// reserved are the names of devices on Windows.
var reserved = map[string]bool{"con": true, "prn": true, "aux": true, "nul": true}

// endings are those of files that lie beside the folders.
var endings = []string{".mbox", ".eml", ".json", ".jsonl", ".tmp"}

func hexByte(c byte) string { return "%" + strings.ToUpper(hex.EncodeToString([]byte{c})) }

// fileName returns the path of a mailbox below the folder. spelt is how many letters of the
// last level are written in digits, to tell apart names that some file systems do not.
func fileName(mailbox string, spelt int) string {
	levels := strings.Split(mailbox, "/")
	var out []string
	for i, l := range levels {
		n := 0
		if i == len(levels)-1 {
			n = spelt
		}
		out = append(out, pieces(safeLevel(l, n))...)
	}
	return path.Join(out...)
}

// safeLevel writes one level, its first letters in digits.
func safeLevel(level string, spelt int) string {
	if level == "" {
		return "%"
	}
	var b strings.Builder
	low := strings.ToLower(level)
	device := reserved[strings.SplitN(low, ".", 2)[0]] ||
		len(low) >= 4 && (low[:3] == "com" || low[:3] == "lpt") && low[3] >= '0' && low[3] <= '9' && (len(low) == 4 || low[4] == '.')
	dot := -1 // of an ending that means something
	for _, e := range endings {
		if strings.HasSuffix(low, e) {
			dot = len(level) - len(e)
		}
	}
	if len(low) != len(level) { // a letter whose small form is of another length
		dot = strings.LastIndexByte(level, '.')
	}
	for i := 0; i < len(level); {
		r, n := utf8.DecodeRuneInString(level[i:])
		digits := r < ' ' || r == 0x7f || r == utf8.RuneError && n == 1 || strings.ContainsRune(`%/\:*?"<>|`, r) ||
			i == 0 && (r == '.' || r == '~' || r == '-' || r == ' ' || device) || i == dot ||
			i+n == len(level) && (r == '.' || r == ' ') || i < spelt
		for ; n > 0; n-- {
			if digits {
				b.WriteString(hexByte(level[i]))
			} else {
				b.WriteByte(level[i])
			}
			i++
		}
	}
	return b.String()
}

// pieces cuts a level that is too long.
func pieces(level string) (out []string) {
	for len(level) > longestLevel {
		cut := longestLevel
		for cut > longestLevel-4 && (!utf8.RuneStart(level[cut]) || level[cut-1] == '%' || level[cut-2] == '%') {
			cut--
		}
		out = append(out, level[:cut]+"%+")
		level = level[cut:]
	}
	return append(out, level)
}

// maildirName returns the folder of a mailbox in a Maildir++: all levels in one name with a
// dot before each, in modified UTF-7. Dots within a level are written as Dovecot's plugin
// listescape does, and what could be taken for that. A name that is too long is cut, and
// ends in a hash of the whole; what it was is in the manifest.
func maildirName(mailbox string, spelt int) string {
	if mailbox == "INBOX" {
		return "."
	}
	var b strings.Builder
	levels := strings.Split(imap.EncodeUTF7(mailbox), "/")
	for i, l := range levels {
		b.WriteByte('.')
		if l == "" { // no mailbox of ours has one; two dots would be the folder above
			b.WriteString(`\00`)
		}
		for j := 0; j < len(l); j++ {
			c := l[j]
			escaped := c == '\\' && len(l) > j+2 && isHex(l[j+1]) && isHex(l[j+2])
			if c == '.' || escaped || c == '~' && i == 0 && j == 0 || i == len(levels)-1 && j < spelt && c != '&' && !shifted(l, j) {
				b.WriteString(`\` + hex.EncodeToString([]byte{c}))
			} else {
				b.WriteByte(c)
			}
		}
	}
	name := b.String()
	if len(name) <= 250 {
		return name
	}
	sum := sha256.Sum256([]byte(mailbox))
	cut := 220
	for name[cut-1] == '\\' || name[cut-2] == '\\' {
		cut--
	}
	if at := strings.LastIndexByte(name[:cut], '&'); at >= 0 && strings.IndexByte(name[at:cut], '-') < 0 {
		cut = at // a shift must not stay open
	}
	return strings.TrimRight(name[:cut], ".") + "~" + hex.EncodeToString(sum[:8])
}

func isHex(c byte) bool { return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f' }

// shifted tells whether a byte of modified UTF-7 is within base64.
func shifted(s string, at int) bool {
	open := strings.LastIndexByte(s[:at], '&')
	return open >= 0 && strings.IndexByte(s[open:at], '-') < 0
}

// folded is what two names have in common that are one name to some file systems.
func folded(file string) string { return cases.Fold().String(norm.NFC.String(file)) }

// folds tells whether the disk is such a one.
func folds(d Disk) (bool, error) {
	if err := mkdirs(d, side); err != nil {
		return false, err
	}
	return there(d, strings.ToUpper(side))
}

// place finds a name for the file of a mailbox that no other has, taken being those by fold.
func place(f Form, mailbox string, taken map[string]bool, fold func(string) string) string {
	name := ""
	for spelt := 0; spelt <= len(mailbox); spelt++ {
		if f == Maildir {
			name = maildirName(mailbox, spelt)
		} else {
			name = fileName(mailbox, spelt)
		}
		if !taken[fold(name)] {
			break
		}
	}
	for n := 0; taken[fold(name)]; n++ { // one that was made anew under the same name
		name = again(f, mailbox, n)
	}
	taken[fold(name)] = true
	return name
}

// again names a mailbox of which there was one of the same name before.
func again(f Form, mailbox string, n int) string {
	suffix := "~" + hex.EncodeToString([]byte{byte(n >> 8), byte(n)})
	if f == Maildir {
		if mailbox == "INBOX" {
			return ".INBOX" + suffix
		}
		return maildirName(mailbox, 0) + suffix
	}
	return fileName(mailbox, 0) + "%+/" + suffix
}
