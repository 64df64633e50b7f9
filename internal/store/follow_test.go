package store

import (
	"fmt"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
)

// A Follower names each mailbox that was changed once, tells own changes from those of
// others, and wakes for others only.
func TestFollower(t *testing.T) {
	w := newWorld(t)
	inbox, sent := w.box(t, "INBOX"), w.box(t, "Sent")
	var own Origin
	wakes := 0
	f := w.a.Follow(&own, func() { wakes++ })
	if got := f.Take(); !got.IsEmpty() {
		t.Fatalf("before anything happened: %+v", got)
	}
	first := w.deliver(t, "INBOX", "Subject: one\r\n\r\n")
	w.deliver(t, "INBOX", "Subject: two\r\n\r\n")
	mod := w.picture(t, inbox.ID).ModSeq()
	if _, err := w.a.Copy(own.Mark(ctx), inbox.ID, mail.SetOf(first, first+1), sent.ID); err != nil {
		t.Fatal(err)
	}
	w.update(t, func(tx *Tx) error { return tx.Subscribe("Sent", true) })
	got := f.Take()
	if len(got.Boxes) != 3 || got.Boxes[inbox.ID].First != mod-1 || got.Boxes[sent.ID].First != 0 || got.Boxes[0].First == 0 ||
		got.Boxes[sent.ID].Brought.String() != "1:2" || !got.Boxes[inbox.ID].Brought.IsEmpty() {
		t.Errorf("%+v", got)
	}
	if wakes != 3 {
		t.Errorf("woken %d times", wakes)
	}
	if again := f.Take(); !again.IsEmpty() {
		t.Errorf("taken twice: %+v", again)
	}
	f.Stop()
	w.deliver(t, "INBOX", "Subject: three\r\n\r\n")
	if got := f.Take(); !got.IsEmpty() || wakes != 3 {
		t.Errorf("after Stop: %+v", got)
	}
}

// However much happens, what a Follower holds is bounded, and it says since when.
func TestFollowerLoses(t *testing.T) {
	w := newWorld(t)
	f := w.a.Follow(nil, nil)
	var mod mail.ModSeq
	for i := range 3 {
		w.update(t, func(tx *Tx) error {
			if i == 2 {
				mod = tx.ModSeq()
			}
			for j := range maxTouched/2 + 10 {
				if _, err := tx.CreateMailbox(fmt.Sprint("box ", i, " ", j), ""); err != nil {
					return err
				}
			}
			return nil
		})
	}
	got := f.Take()
	if len(got.Boxes) != maxTouched || got.Lost == 0 || got.Lost > mod {
		t.Errorf("%d mailboxes, lost since %d", len(got.Boxes), got.Lost)
	}
}

// Before leaves out what comes later, and nothing else.
func TestPictureBefore(t *testing.T) {
	w := newWorld(t)
	for i := range 150 {
		w.deliver(t, "INBOX", fmt.Sprintf("Subject: %d\r\n\r\n", i))
	}
	box := w.box(t, "INBOX")
	if _, err := w.a.Expunge(ctx, box.ID, mail.SetOf(10, 64, 65, 128), false); err != nil {
		t.Fatal(err)
	}
	pic := w.picture(t, box.ID)
	for uid := mail.UID(1); uid < 260; uid++ {
		cut := pic.Before(uid)
		want := pic.Existing(mail.UIDSet{{From: 1, To: max(uid-1, 1)}})
		if uid == 1 {
			want = nil
		}
		if got := cut.Existing(All()); got.String() != want.String() || cut.Len() != want.Len() {
			t.Fatalf("before %d: %s, want %s", uid, got, want)
		}
		if d := Diff(cut, pic); d.Arrived.Len() != pic.Len()-cut.Len() || !d.Expunged.IsEmpty() || !d.Changed.IsEmpty() {
			t.Fatalf("before %d: %+v", uid, d)
		}
	}
	if pic.Before(151) != pic || pic.Before(100_000) != pic {
		t.Error("a whole picture is made anew")
	}
}
