package link

import (
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// What is gone there goes into Trash from where the link put it. Copies that the person made
// stay, and so does what she moved elsewhere.
func TestCopiesStay(t *testing.T) {
	h, s := newHere(t, steady), newSide("INBOX", "Work", "Trash")
	for i := range 3 {
		s.add("INBOX", letter(i), 0)
	}
	accord(t, h, s, following())
	a, inbox := h.account(), h.box(t, "INBOX")
	var taxes mail.MailboxID
	err := a.Update(t.Context(), func(tx *store.Tx) error {
		box, err := tx.CreateMailbox("Taxes", "")
		taxes = box.ID
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Copy(t.Context(), inbox, mail.SetOf(1), taxes); err != nil { // text 0
		t.Fatal(err)
	}
	if _, err := a.Move(t.Context(), inbox, mail.SetOf(2), taxes); err != nil { // text 1
		t.Fatal(err)
	}
	s.Lock()
	kept := *s.box("INBOX").list[0]
	for range 3 {
		s.remove(s.box("INBOX"), 0)
	}
	s.Unlock()
	accord(t, h, s, following())
	got, _ := h.content(t)
	if len(got["INBOX"]) != 0 || len(got["Taxes"]) != 2 || len(got["Trash"]) != 2 {
		t.Errorf("%q", got)
	}
	// One that comes back comes out of Trash, and its copy stays where it is.
	s.Lock()
	s.insert(s.box("INBOX"), &kept)
	s.Unlock()
	accord(t, h, s, following())
	got, _ = h.content(t)
	if len(got["INBOX"]) != 1 || len(got["Taxes"]) != 2 || len(got["Trash"]) != 1 {
		t.Errorf("back: %q", got)
	}
	h.verify(t)
}
