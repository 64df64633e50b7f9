package store

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
)

// A client that has seen the time that is lost asks what has changed since: all that is
// there has, and the log says nothing of what is not.
func TestDepartTellsOfAll(t *testing.T) {
	w := newWorld(t)
	inbox := w.box(t, "INBOX").ID
	const sheets = departAtOnce + 6 // more than one Update sets
	for i := range sheets {
		w.deliver(t, "INBOX", letter(i))
		w.update(t, func(tx *Tx) error {
			b, err := tx.open(inbox)
			if err != nil {
				return err
			}
			b.UIDNext = mail.UID((i + 1) * sheetSize)
			tx.touch(b)
			return nil
		})
	}
	w.deliver(t, "Archive", letter(sheets))
	was := w.picture(t, inbox)
	lost := was.ModSeq() + 5
	if err := w.a.Depart(ctx); err != nil {
		t.Fatal(err)
	}
	for _, restarted := range []bool{false, true} {
		if restarted {
			w.a.forgetPictures()
		}
		p := w.picture(t, inbox)
		if n := p.ChangedSince(All(), lost).Len(); n != sheets {
			t.Errorf("a client of the lost time is told of %d of %d messages", n, sheets)
		}
		for _, m := range p.Messages(All()) {
			if m.ModSeq > p.ModSeq() {
				t.Errorf("message %d has modseq %d, the mailbox %d", m.UID, m.ModSeq, p.ModSeq())
			}
		}
		if p.ChangedSince(All(), p.ModSeq()).Len() != 0 {
			t.Error("a client that is up to date is told of something")
		}
		if got, want := p.Existing(All()).String(), was.Existing(All()).String(); got != want {
			t.Errorf("UIDs %s, want %s", got, want)
		}
		if floor := p.Mailbox().LogFloor; floor <= lost {
			t.Errorf("the log is said to know of all since %d", floor)
		}
	}
	if p := w.picture(t, w.box(t, "Archive").ID); p.ChangedSince(All(), lost).Len() != 1 {
		t.Error("a second mailbox is not told of")
	}
	w.verify(t)
}

// Mailboxes of the lost time may have been made faster than the clock went.
func TestDepartValidity(t *testing.T) {
	w := newWorld(t)
	var was accountRecord
	_ = w.a.View(ctx, func(s *Snapshot) error { was = s.acct; return nil })
	var lost uint32
	names := []string{"x1", "x2", "x3", "y"}
	w.update(t, func(tx *Tx) error {
		for _, n := range names {
			m, err := tx.CreateMailbox(n, "")
			if err != nil {
				return err
			}
			lost = m.UIDValidity
		}
		return nil
	})
	for _, n := range names {
		if _, err := w.a.DeleteMailbox(ctx, n); err != nil {
			t.Fatal(err)
		}
	}
	w.update(t, func(tx *Tx) error { tx.acct.validity, tx.acctDirty = was.validity, true; return nil })
	if err := w.a.Depart(ctx); err != nil {
		t.Fatal(err)
	}
	w.update(t, func(tx *Tx) error {
		m, err := tx.CreateMailbox("y", "")
		if err == nil && m.UIDValidity <= lost {
			t.Errorf("UIDVALIDITY %d is given out again: %d", lost, m.UIDValidity)
		}
		return err
	})
}

// A Sweep that waits for one who holds bodies keeps no other from holding them.
func TestHoldDoesNotWaitForAWaitingSweep(t *testing.T) {
	w := newWorld(t)
	release, err := w.HoldBodies(ctx)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { _, err := w.Sweep(ctx); done <- err }()
	for waits := false; !waits; runtime.Gosched() {
		w.bodies.mu.Lock()
		waits = w.bodies.freed != nil
		w.bodies.mu.Unlock()
	}
	soon, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	second, err := w.HoldBodies(soon)
	if err != nil {
		t.Fatal("a second one waits for the first: ", err)
	}
	release()
	release() // does nothing
	select {
	case err := <-done:
		t.Fatal("swept while bodies are held: ", err)
	default:
	}
	second()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
