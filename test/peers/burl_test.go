package peers

import (
	"strings"
	"testing"
)

// TestBURL sends what lies in a mailbox (RFC 4468), and reads it as another submission
// server would. No client of today does either, so bytes are written by hand.
func TestBURL(t *testing.T) {
	s := configured(t, "", map[string]string{"imap.submitters": `["submit@martlet.test"]`}, "submit")
	alice, bob := s.account(t, "alice"), s.account(t, "bob")
	w := dialIMAP(t, s, "alice")
	m := note("burl", "Sent from where it lies.")
	if status := w.append("Drafts", "", "", m); !strings.HasPrefix(status, "OK") {
		t.Fatal(status)
	}
	rump := "imap://alice@martlet.test/Drafts/;uid=1;urlauth=submit+alice"
	said, _ := w.do("GENURLAUTH %s INTERNAL", rump)
	url := strings.Trim(strings.TrimPrefix(said[0].text, "* GENURLAUTH "), `"`)

	c := dialSMTP(t, s.addr("submission"), false)
	c.login(alice.Address, alice.Password)
	_, own, ok := strings.Cut(c.expect(2, "EHLO client.example"), "BURL imap ")
	if own, _, _ = strings.Cut(own, "\n"); !ok || !strings.HasPrefix(own, "imap://") {
		t.Fatalf("after login %q", own)
	}
	for i, u := range []string{url, strings.TrimSpace(own) + "/Drafts/;uid=1"} {
		c.expect(2, "MAIL FROM:<%s>", alice.Address)
		c.expect(2, "RCPT TO:<%s>", bob.Address)
		c.expect(2, "BURL %s LAST", u)
		if n := dialIMAP(t, s, "bob").exists("INBOX"); n != i+2 { // one of welcome
			t.Errorf("%s: bob has %d messages", u, n)
		}
	}
	if !holds(t, s, "bob", "INBOX", m) {
		t.Error("bob's message is another")
	}
	c.expect(2, "MAIL FROM:<%s>", alice.Address)
	c.expect(2, "RCPT TO:<%s>", bob.Address)
	c.expect(5, "BURL %s LAST", url[:len(url)-1]+"x")

	for name, want := range map[string]int{"submit": 1, "bob": 0} {
		got, _ := dialIMAP(t, s, name).do("URLFETCH %q", url)
		if len(got) != 1 || len(got[0].literals) != want || want == 1 && string(got[0].literals[0]) != string(m) {
			t.Errorf("URLFETCH by %s: %+v", name, got)
		}
	}
}
