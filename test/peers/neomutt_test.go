package peers

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What makes neomutt resynchronise by what it has kept, and idle.
const muttCachingRC = `set header_cache = "%[1]s/cache"
set message_cachedir = "%[1]s/bodies"
set imap_condstore = yes
set imap_qresync = yes
set imap_idle = yes
set imap_check_subscribed = no
set mail_check = 1
set timeout = 1
set imap_keepalive = 60
set confirmappend = no
set delete = yes
set auto_tag = no
set pager_stop = yes
set sort = mailbox-order
set index_format = "%%Z <%%s>"
set sleep_time = 0
set mbox_type = Maildir
set resolve = no
`

// neomuttCached works on a terminal, quits, and comes back after another client has
// changed much; then what it has kept and what the server tells must make the whole.
func neomuttCached(t *testing.T, s *subject) {
	a := s.account(t, "muttcache")
	home := t.TempDir()
	host, port, ca := "127.0.0.1", "", s.caPath()
	if _, port = s.host("imap"); s.Server != nil {
		_, port, _ = strings.Cut(s.through(t, "imap", "neomutt"), ":")
		host = "localhost"
	}
	rc := write(t, home, "rc", fmt.Sprintf(muttRC, a.Address, a.Password, "", "imap://"+host+":"+port, ca)+fmt.Sprintf(muttCachingRC, home)+
		"set ssl_starttls = "+map[bool]string{true: "no", false: "yes"}[os.Getenv("MARTLET_RECORD") != ""]+"\n")
	if err := os.Mkdir(filepath.Join(home, "cache"), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 12 {
		deliverTo(t, s, "muttcache", note(fmt.Sprintf("mutt-%02d", i), fmt.Sprintf("Text %d of mutt.", i)))
	}
	w := dialIMAP(t, s, "muttcache")
	w.ok("CREATE Filed")
	x := program{name: "neomutt", args: []string{"-n", "-F", rc}, home: home}.onTerminal(t)
	x.sees("<note mutt-11>")
	search := func(subject string) {
		x.press("1\r/~s " + subject + "\r")
	}
	search("mutt-03")
	x.press("\r")
	x.sees("Text 3 of mutt.")
	x.press("q")
	x.press("F$") // flag, and tell the server
	s.expect(t, "muttcache", "INBOX", "note mutt-03", `\Flagged`, `\Seen`)
	search("mutt-04")
	x.press("s=Filed\r$")
	s.expect(t, "muttcache", "Filed", "note mutt-04")
	s.expectGone(t, "muttcache", "INBOX", "note mutt-04")
	search("mutt-05")
	x.press("D~s mutt-05\r$")
	s.expectGone(t, "muttcache", "INBOX", "note mutt-05")
	x.press("l=b 'Text 7 of'\r") // searched by the server
	x.press("T~A\r;F$lall\r")
	s.expect(t, "muttcache", "INBOX", "note mutt-07", `\Flagged`)
	deliverTo(t, s, "muttcache", note("mutt-idle", "while it idles"))
	x.sees("<note mutt-idle>")
	x.press("q")
	x.ends()

	w.ok("SELECT INBOX")
	w.ok("UID STORE 1:3 +FLAGS.SILENT (\\Deleted)")
	w.ok("EXPUNGE")
	w.ok("STORE 2 +FLAGS.SILENT (\\Flagged \\Answered)")
	deliverTo(t, s, "muttcache", note("mutt-later", "while it was away"))
	write(t, home, "keys", `push "<tag-pattern>~A<enter><tag-prefix><copy-message>`+home+`/copy<enter><quit>"`+"\n")
	x = program{name: "neomutt", args: []string{"-n", "-F", rc, "-e", "source " + home + "/keys"}, home: home}.onTerminal(t)
	x.ends()
	got := maildir(t, filepath.Join(home, "copy"))
	var ids []string
	for id := range got {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	want := remote(t, dialIMAP(t, s, "muttcache"), "INBOX")
	if len(got) != len(want) {
		t.Errorf("neomutt has %d messages: %q; the server has %d", len(got), ids, len(want))
	}
	for id, m := range want {
		if g, ok := got[id]; !ok || strings.Contains(g.flags, "F") != strings.Contains(m.flags, "F") {
			t.Errorf("neomutt has %s: %v, with flags %q, and the server has %q", id, ok, g.flags, m.flags)
		}
	}
}
