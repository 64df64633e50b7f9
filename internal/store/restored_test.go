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

// In the lost time mail may have been brought with its UIDs, and modseqs have leapt. That, too,
// is departed from: by the clock, or, if that is behind, so that a modseq of then counts as none.
func TestDepartFromALeap(t *testing.T) {
	for _, c := range []struct {
		what   string
		clock  func(time.Time) time.Time
		behind bool
	}{
		{"the clock went on", func(at time.Time) time.Time { return at.Add(time.Second) }, false},
		{"the clock went back a little", func(at time.Time) time.Time { return at.Add(-10 * time.Second) }, false},
		{"the clock has lost the date", func(time.Time) time.Time { return time.Unix(5, 0) }, true},
		{"the clock is before its time", func(time.Time) time.Time { return time.Unix(-5, 0) }, true},
		{"the clock is far ahead", func(time.Time) time.Time { return time.Date(2900, 1, 1, 0, 0, 0, 0, time.UTC) }, false},
	} {
		w := newWorld(t)
		w.deliver(t, "INBOX", letter(1))
		inbox := w.box(t, "INBOX").ID
		w.letPass(t, time.Hour)
		lost := mail.ModSeq(w.clock.t.UnixMicro() + 1000) // a leap, and what changed after it
		w.clock.t = c.clock(w.clock.t)
		for again := range 2 {
			was := w.picture(t, inbox).ModSeq()
			if err := w.a.Depart(ctx); err != nil {
				t.Fatal(err)
			}
			p := w.picture(t, inbox)
			told := lost
			if box := p.Mailbox(); c.behind {
				if told = 0; !box.FromElsewhere() || box.HighestModSeq >= lost {
					t.Errorf("%s: %d does not count as none for %+v", c.what, lost, box)
				}
			}
			if n := p.ChangedSince(All(), told).Len(); n != 1 || p.Mailbox().LogFloor <= told {
				t.Errorf("%s: a client of the lost time is told of %d messages; floor %d, lost %d", c.what, n, p.Mailbox().LogFloor, lost)
			}
			if p.ModSeq() < was+departModSeq || p.ModSeq() >= 1<<53 {
				t.Errorf("%s, %d: modseq %d after %d", c.what, again, p.ModSeq(), was)
			}
		}
		w.verify(t)
	}
}

// Nor is it known of an account whose record is lost how far it had come.
func TestRepairDepartsFromALeap(t *testing.T) {
	w := newWorld(t)
	w.deliver(t, "INBOX", letter(1))
	w.lose(t, w.a.shard, []byte{famAccount})
	lost := mail.ModSeq(w.clock.t.UnixMicro())
	if err := w.Repair(ctx, nil, func(Mended) {}); err != nil {
		t.Fatal(err)
	}
	if p := w.picture(t, w.box(t, "INBOX").ID); p.ModSeq() <= lost || p.ModSeq() >= 1<<53 {
		t.Errorf("modseq %d, there may have been %d", p.ModSeq(), lost)
	}
	w.verify(t)
}
