package store

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
)

// A clock that is ten years ahead must not make garbage of what a delivery under way is about
// to name, nor forget that a delivery was made.
func TestSweepWhileTheClockIsAhead(t *testing.T) {
	for _, ahead := range []time.Duration{time.Hour, 25 * time.Hour, 10 * 365 * 24 * time.Hour} {
		w := newWorld(t)
		if _, err := w.Sweep(ctx); err != nil {
			t.Fatal(err)
		}
		w.clock.t = w.clock.t.Add(20 * time.Hour)
		p := w.receive(t, hello+strings.Repeat("more than a small body\r\n", 2000))
		again := func() bool {
			first := false
			w.update(t, func(tx *Tx) (err error) { first, err = tx.Once("a delivery"); return err })
			return !first
		}
		again()
		w.clock.t = w.clock.t.Add(ahead)
		// The control: by the clock alone it is old.
		if old := w.clock.t.Add(-SweepAge).After(w.clock.t.Add(-ahead)); old != (ahead > SweepAge) {
			t.Fatalf("%v: old %v", ahead, old)
		}
		for range 3 { // an impatient administrator
			if s, err := w.Sweep(ctx); err != nil || s.Removed != 0 {
				t.Errorf("%v ahead: %+v, %v", ahead, s, err)
			}
		}
		inbox := w.box(t, "INBOX").ID
		w.update(t, func(tx *Tx) error { _, err := tx.Append(inbox, NewMessage{Parcel: p}); return err })
		w.clock.t = w.clock.t.Add(-ahead)
		if _, err := w.Sweep(ctx); err != nil {
			t.Fatal(err)
		}
		if !again() {
			t.Errorf("%v ahead: the key of a delivery is forgotten", ahead)
		}
		r, err := p.Open(ctx, 0, -1)
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		if err != nil {
			t.Errorf("%v ahead: %v", ahead, err)
		}
		w.verify(t)
	}
}

// A clock that once stood at 1970, as on a machine without one of its own, makes nothing old
// that is not, and what nobody needs goes all the same once it has been right for a time.
func TestSweepAfterTheClockWasBehind(t *testing.T) {
	w := newWorld(t)
	w.sweep(t)
	good := w.clock.t
	w.clock.t = time.Unix(1000, 0)
	w.sweep(t)
	early := w.receive(t, hello+randText(50_000)) // dated 1970
	w.clock.t = good
	inbox := w.box(t, "INBOX").ID
	w.expunge(t, "INBOX", w.deliver(t, "INBOX", "Subject: x\r\n\r\n"+randText(100_000)))
	for range 3 {
		w.clock.t = w.clock.t.Add(time.Minute)
		if s, err := w.Sweep(ctx); err != nil || s.Removed != 0 {
			t.Fatalf("a clock that is set right sweeps at once: %+v, %v", s, err)
		}
	}
	w.update(t, func(tx *Tx) error { _, err := tx.Append(inbox, NewMessage{Parcel: early}); return err })
	w.verify(t)
	removed := 0
	for day := range 14 {
		w.clock.t = w.clock.t.Add(24 * time.Hour)
		s, err := w.Sweep(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if removed += s.Removed; removed > 0 && day < 6 {
			t.Fatalf("the clock is believed after %d days", day+1)
		}
	}
	if removed == 0 {
		t.Error("two weeks after the clock was set right no body is removed")
	}
	w.verify(t)
}

// The same for deleted mail: it is kept for its time once the clock is right, and no longer.
func TestPurgeAfterTheClockWasBehind(t *testing.T) {
	w := keepingWorld(t)
	purge := func() {
		t.Helper()
		if _, err := w.Purge(ctx); err != nil {
			t.Fatal(err)
		}
	}
	purge()
	good := w.clock.t
	w.clock.t = time.Unix(1000, 0)
	purge()
	w.expunge(t, "INBOX", w.deliver(t, "INBOX", letter(1))) // dated 1970
	w.clock.t = good
	purge()
	w.expunge(t, "INBOX", w.deliver(t, "INBOX", letter(2)))
	for day := range 34 {
		// The one that the clock has misdated goes by the time that was behind, and catches up.
		if n := len(w.deleted(t, DeletedQuery{})); day < 22 && n != 2 || day < 30 && n < 1 {
			t.Fatalf("after %d days %d messages are kept", day, n)
		}
		w.clock.t = w.clock.t.Add(24 * time.Hour)
		purge()
	}
	if n := len(w.deleted(t, DeletedQuery{})); n != 0 {
		t.Errorf("after 34 days of 30 %d are kept", n)
	}
}

// Readings on record of earlier versions are read.
func TestReadingsOfEarlierVersions(t *testing.T) {
	var e enc
	e.I(2000)
	e.I(1500)
	if r, err := decodeReading(seal(recKeepTime, e)); err != nil || r != (reading{2000, 1500, 0}) {
		t.Errorf("%+v, %v", r, err)
	}
	is := reading{2000, 1500, 400}
	if r, err := decodeReading(is.encode()); err != nil || r != is {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := decodeReading(seal(recLost, e)); err == nil {
		t.Error("another record is read")
	}
}

// A clock is believed only once it has gone for the whole time without a step.
func TestPace(t *testing.T) {
	const hour = 3600
	p := pace{30 * time.Hour, false, 72 * time.Hour}
	r, now := reading{}, int64(0)
	for i, step := range []struct {
		passed, back, steadily int64 // hours
		believed               bool
	}{
		{1_000_000, 0, 0, false}, // a step ahead
		{24, 0, 24, false},
		{30, 0, 54, false},      // as far as it may
		{31, 0, 0, false},       // too far
		{30, 0, 30, false},      //
		{29, 1, 30, false},      // it was behind meanwhile: from there on
		{30, 0, 60, false},      //
		{12, 0, 72, true},       //
		{24, 0, 72, true},       // for good
		{-48, 48, 0, true},      // set back: what was believed is not ahead of it
		{10, 100_000, 0, false}, // far behind meanwhile
		{30, 0, 30, false},
		{30, 0, 60, false},
		{30, 0, 72, true},
	} {
		low := now - step.back*hour
		now += step.passed * hour
		r = p.next(r, low, now)
		if r.clock != now || r.steadily != step.steadily*hour || (r.trusted == now) != step.believed {
			t.Errorf("step %d: %+v at %d", i, r, now)
		}
	}
}

// A message that goes to another account while the clock is behind makes its body young by that
// clock: the store notes how far behind it was, for the sweep.
func TestClockBehindWhileMailGoesAcross(t *testing.T) {
	w := newWorld(t)
	if err := w.CreateAccount(ctx, 2, Quota{}); err != nil {
		t.Fatal(err)
	}
	other := w.Account(2)
	w.sweep(t)
	w.deliver(t, "INBOX", "Subject: x\r\n\r\n"+randText(100_000))
	right, from := w.clock.t, w.box(t, "INBOX").ID
	var to mail.MailboxID
	if err := other.View(ctx, func(s *Snapshot) error { m, err := s.Mailbox("INBOX"); to = m.ID; return err }); err != nil {
		t.Fatal(err)
	}
	w.clock.t = right.Add(-40 * 24 * time.Hour)
	if _, err := w.a.MoveTo(ctx, from, All(), other, to); err != nil {
		t.Fatal(err)
	}
	w.clock.t = right
	if low := w.lowest.Load(); low != right.Add(-40*24*time.Hour).Unix() {
		t.Errorf("the store saw no time before %v", time.Unix(low, 0).UTC())
	}
	w.sweep(t)
	w.verify(t)
}
