package peers

import (
	"fmt"
	"strings"
	"testing"
)

const pineRC = `personal-name=Alpine
user-domain=martlet.test
inbox-path={localhost:%[1]s/%[2]suser=%[3]s}INBOX
folder-collections=Folders {localhost:%[1]s/%[2]suser=%[3]s}[]
default-fcc=
feature-list=quit-without-confirm,expunge-without-confirm,enable-flag-cmd,enable-aggregate-command-set,enable-dot-files,
	auto-move-read-msgs,no-expunge-without-confirm-everywhere,enable-search-and-replace,
	no-enable-msg-view-urls
last-version-used=9.99z9
`

// alpine is the client of IMAP's own author. It reads, flags, finds, saves into a
// folder that it makes, and expunges.
func alpine(t *testing.T, s *subject) {
	a := s.account(t, "alpine")
	home := t.TempDir()
	_, port := s.host("imap")
	options := "notls/"
	if s.Server != nil {
		_, port, _ = strings.Cut(s.through(t, "imaps", "alpine"), ":")
		options = "ssl/"
	}
	rc := write(t, home, "pinerc", fmt.Sprintf(pineRC, port, options, a.Address))
	for i := range 4 {
		deliverTo(t, s, "alpine", note(fmt.Sprintf("alpine-%d", i), fmt.Sprintf("Text %d of alpine.", i)))
	}
	x := program{name: "alpine", home: home, args: []string{"-p", rc, "-i"}, env: []string{"SSL_CERT_FILE=" + s.caPath()}}.onTerminal(t)
	x.sees("ENTER PASSWORD:")
	x.press(a.Password + "\r")
	x.sees("next login?")
	x.press("n")
	x.sees("note alpine-3")
	// press, and wait for the answer: keys typed ahead are thrown away at some prompts.
	step := func(keys, answer string) {
		t.Helper()
		x.press(keys)
		x.sees(answer)
	}
	step("n", "note alpine-0")
	step("\r", "Text 0 of alpine.")
	s.expect(t, "alpine", "INBOX", "note alpine-0", `\Seen`)
	step("*", "Not")
	step("*", "Flagged message")
	s.expect(t, "alpine", "INBOX", "note alpine-0", `\Flagged`, `\Seen`)
	step("<", "[ViewMsg]")
	step("s", "SAVE")
	x.press("\x15")
	step("pine\r", "Create")
	step("y", "*D") // flagged and deleted
	s.expect(t, "alpine", "pine", "note alpine-0", `\Flagged`, `\Seen`)
	step(";", "criteria")
	step("t", "Participant")
	step("s", "to match")
	step("alpine-1\r", "Select matched")
	step("a", "APPLY")
	step("d", "XD") // chosen and deleted
	x.press("x")
	s.expectGone(t, "alpine", "INBOX", "note alpine-1")
	s.expectGone(t, "alpine", "INBOX", "note alpine-0")
	deliverTo(t, s, "alpine", note("alpine-new", "while it waits"))
	step("\f", "alpine-new") // it asks when a key is pressed
	x.press("q")
	x.ends()
}
