package store

import "testing"

// What is known of a mailbox without reading is what is true of it now.
func TestKnown(t *testing.T) {
	w := newWorld(t)
	w.deliver(t, "INBOX", hello)
	known := func(name string, want bool) {
		t.Helper()
		m, ok := w.a.Known(name)
		if ok != want {
			t.Errorf("%s: %v", name, ok)
		}
		if ok && m.HighestModSeq != w.box(t, name).HighestModSeq {
			t.Errorf("%s: %+v", name, m)
		}
	}
	known("INBOX", false)
	w.picture(t, w.box(t, "INBOX").ID)
	known("Inbox", true)
	known("Sent", false)
	known("", false)
	if _, ok := w.a.As(2).Known("INBOX"); ok {
		t.Error("known to somebody else")
	}
	w.deliver(t, "Sent", hello)
	known("INBOX", false)
	archive := w.box(t, "Archive").ID
	w.picture(t, archive)
	known("Archive", true)
	w.update(t, func(tx *Tx) error { return tx.RenameMailbox("Archive", "Old/Mail") })
	known("Archive", false)
	known("Old/Mail", false)
	w.picture(t, archive)
	known("Archive", false)
	known("Old/Mail", true)
	w.update(t, func(tx *Tx) error {
		_, err := tx.CreateMailbox("Archive", "")
		return err
	})
	w.picture(t, archive)
	known("Archive", false)
	w.picture(t, w.box(t, "Archive").ID)
	known("Archive", true)
	known("Old/Mail", true)
	if _, err := w.a.DeleteMailbox(ctx, "Old/Mail"); err != nil {
		t.Fatal(err)
	}
	known("Old/Mail", false)
}
