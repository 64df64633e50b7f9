package store

import (
	"testing"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
)

// A change whose line in the log would be longer than a record may be is made in parts.
func TestFlagsOfEverySecondMessage(t *testing.T) {
	const n = 110_000
	w := newWorld(t)
	box := w.box(t, "Archive").ID
	w.update(t, func(tx *Tx) error {
		b, err := tx.open(box)
		for i := 0; err == nil && i < n; i++ {
			_, err = tx.place(b, Message{ID: mail.MessageID(i + 1), Thread: mail.ThreadID(i + 1), Size: 1, Flags: mail.Flags(i%2) * mail.Flagged})
		}
		return err
	})
	held := w.picture(t, box)
	res, err := w.a.SetFlags(ctx, box, All(), FlagChange{Flags: mail.Flagged})
	if err != nil {
		t.Fatal(err)
	}
	now := w.picture(t, box)
	d := Diff(held, now)
	if res.Changed.Len() != n/2 || len(res.Changed) != n/2 || d.Changed.String() != res.Changed.String() {
		t.Fatalf("%d of %d messages changed, in %d ranges; %d by their modseqs", res.Changed.Len(), n, len(res.Changed), d.Changed.Len())
	}
	if changed := now.ChangedSince(All(), held.ModSeq()); changed.String() != res.Changed.String() {
		t.Fatalf("%d changed since", changed.Len())
	}
	for _, m := range now.Messages(All()) {
		if m.Flags != mail.Flagged {
			t.Fatalf("%+v", m)
		}
	}
}

func TestHalvesOfSets(t *testing.T) {
	set := mail.UIDSet{{From: 1, To: 3}, {From: 7, To: 7}, {From: 9, To: 12}}
	for n := range set.Len() + 1 {
		low, high := halves(set, n)
		both := append(append(mail.UIDSet{}, low...), high...)
		if low.Len() != n || merged(both).String() != "1:3,7,9:12" {
			t.Errorf("%d: %v and %v", n, low, high)
		}
	}
}

// Pages and marks that do not fit together are found.
func TestVerifyComparesMarksWithPages(t *testing.T) {
	for name, damage := range map[string]func(w engine.Writer, box mail.MailboxID) error{
		"page lost": func(w engine.Writer, box mail.MailboxID) error { return w.Delete(pageKey(box, 1)) },
		"all lost": func(w engine.Writer, box mail.MailboxID) error {
			return w.DeleteRange(pageKey(box, 0), pageKey(box+1, 0))
		},
		"marks lost": func(w engine.Writer, box mail.MailboxID) error { return w.Delete(marksKey(box, 0)) },
		"other page": func(w engine.Writer, box mail.MailboxID) error {
			d := pageDraft{}
			d.insert(&Message{UID: 64, ID: 64, Thread: 64})
			return w.Put(pageKey(box, 1), d.encode())
		},
	} {
		w := newWorld(t)
		p, box := w.receive(t, hello), w.box(t, "INBOX").ID
		w.update(t, func(tx *Tx) error {
			for range 70 {
				if _, err := tx.Append(box, NewMessage{Parcel: p}); err != nil {
					return err
				}
			}
			return nil
		})
		w.verify(t)
		if err := w.eng.Update(ctx, w.a.shard, func(e engine.Writer) error { return damage(e, box) }); err != nil {
			t.Fatal(err)
		}
		found := 0
		if _, err := w.Verify(ctx, func(Problem) { found++ }, nil); err != nil || found == 0 {
			t.Errorf("%s: %d problems, %v", name, found, err)
		}
		if _, err := w.a.Picture(ctx, box); err == nil {
			t.Errorf("%s: there is a picture of it", name)
		}
	}
}

// What somebody looks at is rolled forward by the change itself; what nobody looks at any
// more is not.
func TestPicturesAdvance(t *testing.T) {
	w := newWorld(t)
	box := w.box(t, "INBOX").ID
	w.deliver(t, "INBOX", hello)
	state := w.a.box(box)
	w.picture(t, box)
	w.deliver(t, "INBOX", hello)
	if state.picture.Len() != 2 {
		t.Fatalf("the picture has %d messages after an arrival, want 2", state.picture.Len())
	}
	w.deliver(t, "INBOX", hello)
	if state.picture.Len() != 2 {
		t.Fatal("a picture that nobody asked for went on")
	}
	if w.picture(t, box).Len() != 3 {
		t.Fatal("a picture is not of the present")
	}
}
