package peers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/test/peers/martlet"
)

const deletedRC = `IMAPAccount far
Host localhost
Port %s
User %s
Pass %s
SSLType IMAPS
CertificateFile %s

IMAPStore far
Account far

MaildirStore near
Path %s/
Inbox %s/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns INBOX "Recently Deleted"
Create Near
Expunge Both
SyncState *
`

// TestDeletedMailByPrograms: programs that know nothing of it see what was deleted and take
// it back, and so does the administrator.
func TestDeletedMailByPrograms(t *testing.T) {
	t.Parallel()
	s := start(t, martlet.Options{Accounts: []string{"deleted"}, Set: map[string]string{"deleted.keep": `"30d"`}})
	if s.Server == nil {
		t.Skip("what deleted mail is kept in is named by us")
	}
	notes := arrive(t, s, "deleted", 4)
	a, home := s.account(t, "deleted"), t.TempDir()
	_, port, _ := strings.Cut(s.addr("imaps"), ":")
	rc := write(t, home, "rc", fmt.Sprintf(deletedRC, port, a.Address, a.Password, s.CA, home, home))
	sync := func() { program{name: "mbsync", args: []string{"-V", "-c", rc, "all"}, home: home}.succeed(t) }
	in := func(box string) []string { return maildirFiles(t, filepath.Join(home, box)) }
	curl := func(box, request string) {
		program{name: "curl", home: home, args: []string{"--silent", "--show-error", "--max-time", "30", "--cacert", s.CA,
			"--user", a.Address + ":" + a.Password, "imap://" + s.addr("imap") + "/" + box, "--request", request}}.succeed(t)
	}
	w := dialIMAP(t, s, "deleted")
	whole := func() {
		t.Helper()
		there := remote(t, w, "INBOX")
		for _, m := range notes {
			id := messageID.FindSubmatch(m)[1]
			if !strings.HasSuffix(there[string(id)].body, strings.ReplaceAll(string(m), "\r\n", "\n")) {
				t.Errorf("note %s is not what it was: %q", id, there[string(id)].body)
			}
		}
	}
	sync()
	all := len(notes) + 1 // with the welcome
	if n := len(in("INBOX")); n != all {
		t.Fatalf("%d messages of %d came", n, all)
	}
	// mbsync deletes two, curl takes one back and mbsync the other.
	for _, path := range in("INBOX")[:2] {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	sync()
	sync() // the mailbox came with the deletion
	if n := len(in("Recently Deleted")); n != 2 {
		t.Fatalf("mbsync sees %d deleted notes", n)
	}
	curl("Recently%20Deleted", "UID MOVE 1 INBOX")
	sync()
	left := in("Recently Deleted")
	if len(left) != 1 || len(in("INBOX")) != all-1 {
		t.Fatalf("after a MOVE by curl there are %d deleted notes and %d others", len(left), len(in("INBOX")))
	}
	if err := os.Rename(left[0], filepath.Join(home, "INBOX", "cur", "1700000000.1_1.host:2,S")); err != nil {
		t.Fatal(err)
	}
	sync()
	whole()
	// curl deletes all over POP3 and IMAP, and the administrator gives all back, once.
	curl("INBOX", `STORE 1:* +FLAGS.SILENT (\Deleted)`)
	curl("INBOX", "EXPUNGE")
	for i, want := range []string{fmt.Sprint(all, " messages"), "no such deleted mail"} {
		out, err := exec.Command(built, "undelete", a.Address, "--config", s.Config).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("undelete, run %d: %v\n%s", i, err, out)
		}
	}
	if n := w.exists("INBOX"); n != all {
		t.Errorf("%d messages are there in the end", n)
	}
	whole()
	w.ok("LOGOUT")
}
