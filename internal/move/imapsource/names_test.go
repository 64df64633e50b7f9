package imapsource

import (
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move/imapc"
)

func TestNames(t *testing.T) {
	n := naming{used: map[string]bool{}, personal: []imapc.Namespace{{Prefix: "INBOX.", Separator: '.'}}}
	for _, c := range []struct {
		wire string
		sep  byte
		want string
	}{
		{"INBOX", '.', "INBOX"},
		{"INBOX.Work", '.', "Work"},
		{"inbox.Other", '.', "Other"},
		{"INBOX.a.b", '.', "a/b"},
		{"INBOX.a/b", '.', "a\u2215b"},
		{"INBOX.Reis&AOk-n", '.', "Reisén"},
		{"INBOX.bad &shift", '.', "bad &shift"},
		{"INBOX.trailing ", '.', "trailing "},
		{"INBOX.e\xcc\x81", '.', "é"},
		{"INBOX.caf\xe9", '.', "café"},
		{"flat/with.all", 0, "flat\u2215with.all"},
		{"INBOX.&AOk-", '.', "é (2)"}, // one that is called so already
		{"x\\y", '\\', "x/y"},
	} {
		m := imapc.Mailbox{Wire: c.wire, Name: imapName(c.wire), Separator: c.sep}
		if c.wire == "INBOX" {
			m.Role = mail.RoleInbox
		}
		if got := n.name(&m); got != c.want {
			t.Errorf("%q: %q, not %q", c.wire, got, c.want)
		}
	}
	long := strings.Repeat("x", 1000)
	if s := shorten(long); len(s) > 400 || s == shorten(long+"y") {
		t.Errorf("shortened to %d bytes, or not told apart", len(s))
	}
}

// A role is guessed only if one mailbox has such a name, on its first level, and nobody has
// the role.
func TestRoles(t *testing.T) {
	for _, c := range []struct {
		names, want string // "wire" or "wire=Role"
	}{
		{"INBOX.Sent INBOX.Drafts", "INBOX.Sent=Sent INBOX.Drafts=Drafts"},
		{"Sent=Sent Gesendet", "Sent=Sent Gesendet"},
		{"Sent Gesendet", "Sent Gesendet"},
		{"Work.Sent Sent", "Work.Sent Sent=Sent"},
		{"Work.Sent", "Work.Sent"},
		{"Entw&APw-rfe Papierkorb &XfJT0ZAB-", "Entw&APw-rfe=Drafts Papierkorb=Trash &XfJT0ZAB-=Sent"},
		{"&XfJT0ZAB- Enviados", "&XfJT0ZAB- Enviados"},
		{"spam Archiv Corbeille", "spam=Junk Archiv=Archive Corbeille=Trash"},
	} {
		var all []imapc.Mailbox
		for _, f := range strings.Fields(c.names) {
			wire, role, _ := strings.Cut(f, "=")
			all = append(all, imapc.Mailbox{Wire: wire, Separator: '.', Role: mail.Role(role)})
		}
		prefix := ""
		if strings.HasPrefix(c.names, "INBOX.") {
			prefix = "INBOX."
		}
		guessRoles(all, prefix)
		var got []string
		for _, m := range all {
			s := m.Wire
			if m.Role != "" {
				s += "=" + string(m.Role)
			}
			got = append(got, s)
		}
		if g := strings.Join(got, " "); g != c.want {
			t.Errorf("%s: %s, not %s", c.names, g, c.want)
		}
	}
	seen := map[string]mail.Role{}
	for role, names := range wellKnown {
		for _, n := range names {
			if n != strings.ToLower(n) {
				t.Errorf("%q is not in lower case", n)
			}
			if r, ok := seen[n]; ok {
				t.Errorf("%q is said to be %s and %s", n, r, role)
			}
			seen[n] = role
		}
	}
}
