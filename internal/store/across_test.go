package store

import (
	"context"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// neighbours returns a world with a second account whose Archive the first may use.
func neighbours(t *testing.T, quota Quota) (w *world, other *Account, box mail.MailboxID) {
	w = newWorld(t)
	if err := w.CreateAccount(ctx, 2, quota); err != nil {
		t.Fatal(err)
	}
	other = w.Account(2)
	err := other.View(ctx, func(s *Snapshot) error {
		m, err := s.Mailbox("Archive")
		box = m.ID
		return err
	})
	if err == nil {
		err = other.Grant(ctx, box, 1, false, func(mail.Rights) mail.Rights { return mail.AllRights })
	}
	if err != nil {
		t.Fatal(err)
	}
	return w, other, box
}

const reply = "From: a@x\r\nMessage-ID: <2@x>\r\nReferences: <1@x>\r\nSubject: Re: hello\r\n\r\nBody of the reply\r\n"

// A copy in another account has all of the original: bytes, dates, flags as far as they
// may be set, its place in a thread; and lives on when the original goes.
func TestAcross(t *testing.T) {
	w, other, box := neighbours(t, Quota{})
	p := w.receive(t, reply)
	inbox := w.box(t, "INBOX").ID
	at := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	w.update(t, func(tx *Tx) error {
		_, err := tx.Append(inbox, NewMessage{Parcel: p, Flags: mail.Seen | mail.Flagged, Keywords: []string{"$Work", "x"}, InternalDate: at})
		return err
	})
	first := w.receive(t, "Message-ID: <1@x>\r\n\r\nfirst")
	err := other.Update(ctx, func(tx *Tx) error { _, err := tx.Append(box, NewMessage{Parcel: first}); return err })
	if err != nil {
		t.Fatal(err)
	}
	moved, err := w.a.As(1).MoveTo(ctx, inbox, All(), other.As(1), box)
	if err != nil || !slices.Equal(moved, []Moved{{1, 2}}) {
		t.Fatal(moved, err)
	}
	pic, err := other.As(1).Picture(ctx, box)
	if err != nil {
		t.Fatal(err)
	}
	m, _ := pic.Message(2)
	parent, _ := pic.Message(1)
	if m.Flags != mail.Seen|mail.Flagged || !slices.Equal(pic.Keywords(m), []string{"$Work", "x"}) || m.Internal != at.Unix() || m.Thread != parent.Thread {
		t.Errorf("%+v %v", m, pic.Keywords(m))
	}
	if pic, _ = other.Picture(ctx, box); pic.Mailbox().Unseen != 2 {
		t.Error("what the mover has seen the owner has not")
	}
	w.letPass(t, 100*24*time.Hour)
	if _, err := w.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if got := (&world{Store: w.Store, a: other}).whole(t, m.ID); got != reply {
		t.Errorf("%q", got)
	}
	w.verify(t)
}

// More than one Update takes: all is there, in order; and if the quota ends in the midst,
// nothing is.
func TestAcrossInPortions(t *testing.T) {
	const n = acrossMessages + 100
	for _, quota := range []Quota{{}, {Messages: n - 1}} {
		w, other, box := neighbours(t, quota)
		p := w.receive(t, hello)
		inbox := w.box(t, "INBOX").ID
		w.update(t, func(tx *Tx) error {
			for range n {
				if _, err := tx.Append(inbox, NewMessage{Parcel: p}); err != nil {
					return err
				}
			}
			return nil
		})
		moved, err := w.a.As(1).MoveTo(ctx, inbox, All(), other.As(1), box)
		here, there := w.picture(t, inbox).Len(), 0
		if pic, err := other.Picture(ctx, box); err == nil {
			there = pic.Len()
		}
		if quota.Messages == 0 && (err != nil || len(moved) != n || here != 0 || there != n) {
			t.Errorf("%v: %d moved, %d left, %d there", err, len(moved), here, there)
		}
		if quota.Messages != 0 && (!fault.Is(err, fault.OverQuota) || len(moved) != 0 || here != n || there != 0) {
			t.Errorf("%v: %d moved, %d left, %d there", err, len(moved), here, there)
		}
		w.verify(t)
	}
}

// A body that a sweep is about to take for garbage is kept by a copy that arrives.
func TestAcrossBesideSweep(t *testing.T) {
	w, other, box := neighbours(t, Quota{})
	inbox := w.box(t, "INBOX").ID
	body := make([]byte, 20<<10) // too large for a record of its own, however packed
	rand.NewChaCha8([32]byte{}).Read(body)
	p := w.receive(t, "Subject: x\r\n\r\n"+hex.EncodeToString(body))
	w.update(t, func(tx *Tx) error { _, err := tx.Append(inbox, NewMessage{Parcel: p}); return err })
	w.letPass(t, 100*24*time.Hour)
	// The referrer is asked after all accounts: as if the move came between the look at
	// the one and at the other, account 2 is seen before and account 1 after it.
	var moved bool
	w.AddReferrer(func(context.Context, func(mail.BlobRef)) error {
		if moved {
			return nil
		}
		moved = true
		_, err := w.a.As(1).MoveTo(ctx, inbox, All(), other.As(1), box)
		return err
	})
	before := w.clock.t.Add(-SweepAge)
	if _, err := w.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	// What the sweep would have done had it not seen account 1 at all:
	if removed, err := w.eng.Blobs().Delete(ctx, p.sum, before); err != nil || removed {
		t.Fatal("the body was taken", err)
	}
	w.verify(t)
}

// Who shares with whom is found again, for anyone and after an account is gone.
func TestSharers(t *testing.T) {
	w := newWorld(t)
	for _, id := range []mail.AccountID{2, 3, 4} {
		if err := w.CreateAccount(ctx, id, Quota{}); err != nil {
			t.Fatal(err)
		}
	}
	inbox := w.box(t, "INBOX").ID
	read := func(mail.Rights) mail.Rights { return mail.RightLookup | mail.RightRead }
	expect := func(when string, want ...string) {
		t.Helper()
		for i, id := range []mail.AccountID{1, 2, 3, 4} {
			sharers, err := w.Account(id).Sharers(ctx)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, s := range sharers {
				boxes, err := w.Account(s).As(id).Shared(ctx, mail.RightLookup)
				if err != nil && !fault.Is(err, fault.NotFound) {
					t.Fatal(err)
				}
				for _, m := range boxes {
					names = append(names, m.Name)
				}
			}
			if got := strings.Join(names, " "); got != want[i] {
				t.Errorf("%s: %d sees %q, want %q", when, id, got, want[i])
			}
		}
	}
	grant := func(a *Account, name string, who mail.AccountID) {
		t.Helper()
		var box Mailbox
		err := a.View(ctx, func(s *Snapshot) (err error) { box, err = s.Mailbox(name); return err })
		if err == nil {
			err = a.Grant(ctx, box.ID, who, false, read)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	expect("at first", "", "", "", "")
	grant(w.a, "INBOX", 2)
	expect("INBOX to 2", "", "INBOX", "", "")
	grant(w.a, "Archive", 0)
	grant(w.Account(4), "Sent", 0)
	expect("Archive and Sent to anyone", "Sent", "INBOX Archive Sent", "Archive Sent", "Archive")
	if err := w.a.Revoke(ctx, inbox, 2, false); err != nil {
		t.Fatal(err)
	}
	expect("INBOX taken back", "Sent", "Archive Sent", "Archive Sent", "Archive")
	grant(w.a, "INBOX", 3)
	if err := w.DeleteAccount(ctx, 3); err != nil {
		t.Fatal(err)
	}
	if err := w.a.Grant(ctx, inbox, 3, false, read); !fault.Is(err, fault.NotFound) {
		t.Errorf("a grant to nobody: %v", err)
	}
	if err := w.DeleteAccount(ctx, 4); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if box := w.box(t, "INBOX"); len(box.Grants) != 0 {
		t.Errorf("the sweep left %v", box.Grants)
	}
	if open, err := w.openSharers(ctx); err != nil || !slices.Equal(open, []mail.AccountID{1}) {
		t.Error(open, err)
	}
	w.verify(t)
}

// The list of rights has a limit, and so have the guests of a mailbox.
func TestSharingLimits(t *testing.T) {
	w := newWorld(t)
	inbox := w.box(t, "INBOX").ID
	all := func(mail.Rights) mail.Rights { return mail.AllRights }
	for i := range mail.AccountID(maxGrants) {
		if err := w.a.Grant(ctx, inbox, 100+i, true, all); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.a.Grant(ctx, inbox, 99, true, all); !fault.Is(err, fault.Limited) {
		t.Error(err)
	}
	archive := w.box(t, "Archive").ID
	if err := w.a.Grant(ctx, archive, 0, false, all); err != nil {
		t.Fatal(err)
	}
	p := w.receive(t, hello)
	w.update(t, func(tx *Tx) error { _, err := tx.Append(archive, NewMessage{Parcel: p}); return err })
	seen := FlagChange{Flags: mail.Seen}
	for i := range mail.AccountID(maxGuests) {
		if _, err := w.a.As(1000+i).SetFlags(ctx, archive, All(), seen); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.a.As(999).SetFlags(ctx, archive, All(), seen); !fault.Is(err, fault.Limited) {
		t.Error(err)
	}
	if _, err := w.a.As(1000).SetFlags(ctx, archive, All(), FlagChange{Op: RemoveFlags, Flags: mail.Seen}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.a.As(999).SetFlags(ctx, archive, All(), seen); err != nil {
		t.Error(err)
	}
	w.verify(t)
	// Accounts that never were are no guests after a sweep.
	if _, err := w.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if box := w.box(t, "Archive"); box.guests != 0 {
		t.Errorf("%d guests are left", box.guests)
	}
	w.verify(t)
}
