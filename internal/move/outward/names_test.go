package outward

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/fault"
)

// mailboxName undoes fileName.
func mailboxName(file string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(file); i++ {
		switch {
		case file[i] != '%':
			b.WriteByte(file[i])
		case file[i:] == "%" || strings.HasPrefix(file[i:], "%/"): // an empty level
		case strings.HasPrefix(file[i:], "%+/"):
			i += 2
		default:
			var c [1]byte
			if len(file) < i+3 {
				return "", fault.Newf(fault.Invalid, "%q is no name of a mailbox's file", file)
			}
			if _, err := hex.Decode(c[:], []byte(file[i+1:i+3])); err != nil {
				return "", fault.Newf(fault.Invalid, "%q is no name of a mailbox's file", file)
			}
			b.WriteByte(c[0])
			i += 2
		}
	}
	return b.String(), nil
}

func TestFileNames(t *testing.T) {
	for _, c := range []struct{ mailbox, file string }{
		{"INBOX", "INBOX"}, {"Sent Items", "Sent Items"}, {"../x", "%2E%2E/x"}, {"a/../b", "a/%2E%2E/b"}, {"/etc", "%/etc"}, {"a//b", "a/%/b"},
		{"con", "%63on"}, {"a:b", "a%3Ab"}, {"100%", "100%25"}, {"x.mbox", "x%2Embox"}, {"end.", "end%2E"}, {"a\x00b", "a%00b"}, {"~a", "%7Ea"}, {"ü", "ü"},
	} {
		if got := fileName(c.mailbox, 0); got != c.file {
			t.Errorf("%q: %q, want %q", c.mailbox, got, c.file)
		}
	}
	for _, n := range nastyNames {
		for spelt := range 4 {
			back, err := mailboxName(fileName(n, spelt))
			if err != nil || back != n {
				t.Errorf("%q is %q, and that is %q again (%v)", n, fileName(n, spelt), back, err)
			}
		}
	}
}

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"INBOX", "INBOX", true}, {"*", "a/b", true}, {"%", "a/b", false}, {"%", "ab", true}, {"a/%", "a/b", true}, {"a/%", "a/b/c", false}, {"a*c", "a/b/c", true},
		{"", "", true}, {"a", "ab", false}, {"*b*", "aXbY", true}, {strings.Repeat("*a", 50), strings.Repeat("a", 400), true}, {strings.Repeat("*a", 50) + "b", strings.Repeat("a", 400), false},
	} {
		if got := matches(c.pattern, c.name); got != c.want {
			t.Errorf("%q %q: %v", c.pattern, c.name, got)
		}
	}
}

func FuzzFileName(f *testing.F) {
	for _, n := range nastyNames {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, mailbox string) {
		if len(mailbox) > 800 {
			return
		}
		file := fileName(mailbox, 0)
		for _, level := range strings.Split(file, "/") {
			if level == "" || level == "." || level == ".." || len(level) > 240 || strings.ContainsAny(level, "\x00\\:") {
				t.Fatalf("%q has the level %q", mailbox, level)
			}
		}
		if back, err := mailboxName(file); err != nil || back != mailbox {
			t.Fatalf("%q is %q, and that is %q again (%v)", mailbox, file, back, err)
		}
		for _, level := range strings.Split(maildirName(mailbox, 0), "/") {
			if level == "" || level == ".." || len(level) > 255 {
				t.Fatalf("%q in a Maildir has the level %q", mailbox, level)
			}
		}
	})
}
