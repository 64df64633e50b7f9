package peers

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

const aercConf = `[ui]
index-columns = flags<4,name<20,subject<*
threading-enabled = true
[viewer]
pager = cat
[filters]
text/plain = cat
`

// aerc lists, reads, flags, moves and archives on a terminal, while mail comes in.
func aerc(t *testing.T, s *subject) {
	a := s.account(t, "aerc")
	home := t.TempDir()
	source := fmt.Sprintf("imap+insecure://%s:%s@%s", url.QueryEscape(a.Address), a.Password, s.addr("imap"))
	if s.Server != nil {
		_, port, _ := strings.Cut(s.through(t, "imaps", "aerc"), ":")
		source = fmt.Sprintf("imaps://%s:%s@localhost:%s", url.QueryEscape(a.Address), a.Password, port)
	}
	write(t, home, "aerc/aerc.conf", aercConf)
	write(t, home, "aerc/accounts.conf", fmt.Sprintf("[try]\nsource = %s\nfrom = %s\narchive = Archive\ncopy-to = Sent\ndefault = INBOX\n"+
		"check-mail = 1h\ncache-headers = true\n", source, a.Address))
	for i := range 6 {
		deliverTo(t, s, "aerc", note(fmt.Sprintf("aerc-%d", i), fmt.Sprintf("Text %d of aerc.", i)))
	}
	dialIMAP(t, s, "aerc").ok("CREATE Filed/aerc")
	x := program{name: "aerc", home: home, env: []string{"SSL_CERT_FILE=" + s.caPath()}}.onTerminal(t)
	x.sees("note aerc-0") // the last line that is drawn
	do := func(command string) { x.press(":" + command + "\r") }
	do("select 0") // the newest, unless threads are shown
	do("view")
	x.sees("Text 5 of aerc.")
	s.expect(t, "aerc", "INBOX", "note aerc-5", `\Seen`)
	do("close")
	do("flag")
	s.expect(t, "aerc", "INBOX", "note aerc-5", `\Flagged`, `\Seen`)
	do("unread")
	s.expect(t, "aerc", "INBOX", "note aerc-5", `\Flagged`)
	do("archive flat")
	s.expect(t, "aerc", "Archive", "note aerc-5", `\Flagged`)
	s.expectGone(t, "aerc", "INBOX", "note aerc-5")

	// A filter leaves one message, which is moved into a folder; another one is found,
	// copied and deleted. Making a folder goes there.
	do("filter aerc-2")
	x.sees("Filtering...")
	x.sees("note aerc-2")
	do("select 0")
	do("move Filed/aerc")
	s.expect(t, "aerc", "Filed/aerc", "note aerc-2")
	s.expectGone(t, "aerc", "INBOX", "note aerc-2")
	do("clear")
	do("search aerc-1")
	x.sees("Searching...")
	x.sees("note aerc-1")
	do("copy Filed/aerc")
	s.expect(t, "aerc", "Filed/aerc", "note aerc-1")
	do("delete")
	s.expectGone(t, "aerc", "INBOX", "note aerc-1")

	// It idles.
	deliverTo(t, s, "aerc", note("aerc-new", "while it idles"))
	x.sees("note aerc-new")
	do("cf Filed/aerc")
	x.sees("note aerc-2")
	do("quit")
	x.ends()
}
