package peers

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/peers/martlet"
)

// TestGmailLabels lets programs that know Gmail's labels work with them: a script as
// people write them, and offlineimap, which keeps them in a header of its copies.
func TestGmailLabels(t *testing.T) {
	t.Parallel()
	s := start(t, martlet.Options{Accounts: []string{"script", "labels"}})
	if s.Server == nil {
		t.Skip("labels are not for every server")
	}
	a := s.account(t, "script")
	script, err := filepath.Abs("testdata/labels.py")
	if err != nil {
		t.Fatal(err)
	}
	r := program{name: "/usr/bin/python3", args: []string{script, a.Address, a.Password, s.addr("imap")}}.succeed(t)
	if !strings.HasSuffix(r.out, "all done\n") {
		t.Errorf("the script ended early\n%s%s", r.out, r.err)
	}
	offlineimapLabels(t, s)
}

// offlineimapLabels syncs a mailbox both ways with labels.
func offlineimapLabels(t *testing.T, s *subject) {
	a := s.account(t, "labels")
	home := t.TempDir()
	w := dialIMAP(t, s, "labels")
	defer w.ok("LOGOUT")
	w.ok("CREATE Sync")
	fill(t, w, "Sync", "labels", 3)
	w.ok("SELECT Sync")
	w.ok(`STORE 1 +X-GM-LABELS.SILENT (work)`)
	w.ok(`STORE 2 +X-GM-LABELS.SILENT ("far away")`)
	_, port := s.host("imaps")
	rc := strings.Replace(offlineimapRC, "[Account all]", "[Account all]\nsynclabels = yes\nlabelsheader = X-Keywords\nignorelabels = \\Inbox, \\Sent", 1)
	rc = strings.NewReplacer("type = Maildir", "type = GmailMaildir", "type = IMAP", "type = Gmail").Replace(rc)
	file := write(t, home, "rc", fmt.Sprintf(rc, home, "localhost", port, a.Address, a.Password, "ssl = yes\nsslcacertfile = "+s.CA))
	run := func() {
		program{name: "offlineimap", args: []string{"-o", "-c", file, "-u", "basic"}, home: home, limit: 2 * time.Minute}.succeed(t)
	}
	near := func() map[string]string { // subject and labels
		labels := map[string]string{}
		for _, f := range maildirFiles(t, filepath.Join(home, "mail", "Sync")) {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			m, err := mail.ReadMessage(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			labels[m.Header.Get("Subject")] = m.Header.Get("X-Keywords")
		}
		return labels
	}
	run()
	want := map[string]string{"note labels-0": "work", "note labels-1": "far away", "note labels-2": ""}
	if got := near(); !maps.Equal(got, want) {
		t.Errorf("offlineimap has the labels %q, not %q", got, want)
	}
	w.ok(`STORE 1:2 -X-GM-LABELS.SILENT (work "far away")`)
	w.ok(`STORE 3 +X-GM-LABELS.SILENT (work \Starred)`)
	run()
	want = map[string]string{"note labels-0": "", "note labels-1": "", "note labels-2": `\Starred,work`}
	if got := near(); !maps.Equal(got, want) {
		t.Errorf("after changes at the server offlineimap has the labels %q, not %q", got, want)
	}
	for _, f := range maildirFiles(t, filepath.Join(home, "mail", "Sync")) {
		relabel(t, f, `\Starred,work`, `\Starred,near by`)
	}
	run()
	answer := w.ok(`FETCH 3 X-GM-LABELS`)
	if got := answer[0].text; got != `* 3 FETCH (X-GM-LABELS ("\\Starred" "near by"))` {
		t.Errorf("after a change here the server says %s", got)
	}
}

// relabel changes the labels in a file, which becomes newer by it.
func relabel(t *testing.T, file, from, to string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Replace(b, []byte("X-Keywords: "+from), []byte("X-Keywords: "+to), 1)
	if bytes.Equal(b, changed) {
		return
	}
	later := time.Now().Add(5 * time.Second)
	if err := cmp.Or(os.WriteFile(file, changed, 0o600), os.Chtimes(file, later, later)); err != nil {
		t.Fatal(err)
	}
}
