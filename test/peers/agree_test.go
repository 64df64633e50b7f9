package peers

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/test/peers/martlet"
)

// One truth over all protocols: what SMTP, LMTP, POP3 or another IMAP session does to
// a mailbox, a session in IDLE is told at once, once, and in order.
func TestProtocolsAgree(t *testing.T) {
	s := start(t, martlet.Options{})
	s.need(t, "imap", "pop3", "lmtp")
	idler, other := dialIMAP(t, s, "alice"), dialIMAP(t, s, "alice")
	before := idler.exists("INBOX")
	idler.ok("SELECT INBOX")
	other.ok("SELECT INBOX")
	alice := s.account(t, "alice").Address

	idler.idle()
	lmtp := dialSMTP(t, s.addr("lmtp"), true)
	for i := 1; i <= 3; i++ {
		if code, text := lmtp.deliver("x@example.org", alice, []byte("Subject: "+strings.Repeat("n", i)+"\r\n\r\nbody\r\n")); code != 250 {
			t.Fatalf("%d %s", code, text)
		}
		idler.hears("* %d EXISTS", before+i)
	}

	// Flags set in the other session, then a move. Its numbers are those it knows.
	other.ok("NOOP")
	other.ok("STORE %d +FLAGS (\\Flagged)", before+2)
	idler.hears("* %d FETCH (FLAGS (\\Flagged", before+2)
	other.ok("MOVE %d Archive", before+1)
	idler.hears("* %d EXPUNGE", before+1)

	// POP3 deletes at QUIT, not before.
	pop := dialPOP3(t, s, "alice")
	pop.ok("DELE %d", before+2)
	other.ok("NOOP")
	pop.ok("QUIT")
	idler.hears("* %d EXPUNGE", before+2)
	idler.done()
	if n := idler.exists("INBOX"); n != before+1 {
		t.Errorf("%d messages at the end, want %d", n, before+1)
	}

	// A mailbox made, renamed and deleted in one session is so in the other.
	idler.ok("CREATE plans/2026")
	other.ok("RENAME plans projects")
	list := idler.ok(`LIST "" "projects/*"`)
	if len(list) != 1 || !strings.Contains(list[0].text, "projects/2026") {
		t.Errorf("%v", list)
	}
	other.ok("DELETE projects/2026")
	if list = idler.ok(`LIST "" "projects/*"`); len(list) != 0 {
		t.Errorf("%v", list)
	}
}

// A message to a colleague is in her mailbox and announced when the sender reads 250.
func TestAnnouncedWith250(t *testing.T) {
	s := start(t, martlet.Options{})
	s.need(t, "imap", "submission")
	idler := dialIMAP(t, s, "bob")
	before := idler.exists("INBOX")
	idler.ok("SELECT INBOX")
	idler.idle()
	alice, bob := s.account(t, "alice"), s.account(t, "bob")
	w := dialSMTP(t, s.addr("submission"), false)
	w.login(alice.Address, alice.Password)
	if code, text := w.deliver(alice.Address, bob.Address, []byte("From: "+alice.Address+"\r\nSubject: hi\r\n\r\nhi\r\n")); code != 250 {
		t.Fatalf("%d %s", code, text)
	}
	idler.hears("* %d EXISTS", before+1)
	idler.done()
	// The same without IDLE: a fresh session sees it at once.
	if n := dialIMAP(t, s, "bob").exists("INBOX"); n != before+1 {
		t.Errorf("%d messages, want %d", n, before+1)
	}
}

// idle begins IDLE and waits until the server is listening.
func (w *imapWire) idle() {
	w.t.Helper()
	w.tag++
	w.send("t%d IDLE\r\n", w.tag)
	if l := w.line(); !strings.HasPrefix(l, "+") {
		w.t.Fatalf("IDLE: %q", l)
	}
}

// done ends IDLE. Nothing more may have been told.
func (w *imapWire) done() {
	w.t.Helper()
	w.send("DONE\r\n")
	told, tagged := w.finish()
	told = slices.DeleteFunc(told, func(r response) bool { return strings.HasSuffix(r.text, " RECENT") })
	if len(told) > 0 || !strings.HasPrefix(tagged, "OK") {
		w.t.Errorf("told besides: %v; %s", told, tagged)
	}
}

// hears reads the next line, which must begin as said. RECENT is passed over.
func (w *imapWire) hears(format string, args ...any) {
	w.t.Helper()
	want := fmt.Sprintf(format, args...)
	l := w.line()
	for strings.HasSuffix(l, " RECENT") {
		l = w.line()
	}
	if !strings.HasPrefix(l, want) {
		w.t.Fatalf("heard %q, want %q", l, want)
	}
}
