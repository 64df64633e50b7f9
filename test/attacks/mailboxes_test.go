// Package attacks holds one test for each row of the table of attacks in
// docs/reliability.md, named by the number of the row: what is sent, and what a good server
// answers. They run against a whole server over real sockets; what an attack does to
// parsers alone is tested beside these.
package attacks

import (
	"io"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/test/house"
)

// messages returns what an account's INBOX holds, whole, in order of UIDs.
func messages(t *testing.T, h *house.House, who directory.Account) []string {
	t.Helper()
	account := h.Store.Account(who.ID)
	pic, err := account.Picture(t.Context(), inbox(t, h, who).ID)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, m := range pic.Messages(store.All()) {
		r, err := account.Open(t.Context(), m.ID, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		found = append(found, string(text))
	}
	return found
}

// inbox returns what is known of an account's INBOX.
func inbox(t *testing.T, h *house.House, who directory.Account) (box store.Mailbox) {
	t.Helper()
	err := h.Store.Account(who.ID).View(t.Context(), func(s *store.Snapshot) (err error) {
		box, err = s.Mailbox("INBOX")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return box
}

// count tells how many messages lie in an INBOX.
func count(t *testing.T, h *house.House, who directory.Account) int {
	t.Helper()
	return int(inbox(t, h, who).Messages)
}

// sound fails if a session of the house has panicked, or its store is not whole.
func sound(t *testing.T, h *house.House) {
	t.Helper()
	if n := h.Sessions.Stats().Panics; n != 0 {
		t.Errorf("%d sessions panicked", n)
	}
	if _, err := h.Store.Verify(t.Context(), func(p store.Problem) { t.Errorf("the store is not whole: %+v", p) }, func(store.Verified) {}); err != nil {
		t.Error(err)
	}
}

// hello greets a server of SMTP and returns the connection after its answer.
func hello(t *testing.T, h *house.House, protocol string) *house.Client {
	t.Helper()
	c := h.Dial(t, protocol)
	c.Reply()
	verb := "EHLO"
	if protocol == "lmtp" {
		verb = "LHLO"
	}
	if got := c.Ask(verb + " client.example.net"); !strings.HasPrefix(got, "250") {
		t.Fatalf("%s: %s", verb, got)
	}
	return c
}
