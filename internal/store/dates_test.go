package store

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
)

// told fails if a mailbox has a date that cannot be told, or another one than that of its UID.
func (w *world) told(t *testing.T, box mail.MailboxID, want map[mail.UID]int64) {
	t.Helper()
	p := w.picture(t, box)
	for _, m := range p.Messages(All()) {
		one, _ := p.Message(m.UID)
		at := time.Unix(m.Internal, 0).UTC()
		if _, err := json.Marshal(at); err != nil || at.Year() < 1 || at.IsZero() || one.Internal != m.Internal || want != nil && m.Internal != want[m.UID] {
			t.Errorf("UID %d has the date %v, or %v; wanted %d: %v", m.UID, at, time.Unix(one.Internal, 0), want[m.UID], err)
		}
	}
}

// Whatever date a message is given, its own is one that IMAP and JSON can tell: in every zone,
// and wherever the message goes.
func TestInternalDatesCanBeTold(t *testing.T) {
	w := keepingWorld(t)
	inbox, archive := w.box(t, "INBOX").ID, w.box(t, "Archive").ID
	p := w.receive(t, letter(1))
	want := map[mail.UID]int64{}
	add := func(at time.Time) {
		w.update(t, func(tx *Tx) error {
			uid, err := tx.Append(inbox, NewMessage{Parcel: p, InternalDate: at})
			want[uid] = mail.BoundSeconds(at.Unix())
			if at.IsZero() {
				want[uid] = w.clock.t.Unix()
			}
			return err
		})
	}
	for quarter := -24 * 4; quarter <= 24*4; quarter++ {
		zone := time.FixedZone("", quarter*900)
		for _, local := range []time.Time{
			time.Date(0, 1, 1, 0, 0, 0, 0, zone), time.Date(1, 1, 1, 0, 0, 0, 0, zone), time.Date(1, 1, 1, 0, 0, 1, 0, zone),
			time.Date(9999, 12, 31, 23, 59, 59, 0, zone), time.Date(10000, 1, 1, 0, 0, 0, 0, zone),
		} {
			add(local)
		}
	}
	for _, s := range []int64{-1 << 63, -1 << 62, -1 << 40, 1 << 40, 1 << 62, 1<<63 - 1} {
		add(time.Unix(s, 0))
	}
	w.told(t, inbox, want)

	w.expunge(t, "INBOX", mail.UID(1), mail.UID(len(want)))
	if back := w.undelete(t, DeletedQuery{}); len(back) != 2 {
		t.Errorf("%+v", back)
	}
	w.told(t, inbox, nil)
	w.told(t, w.box(t, keptName).ID, nil)
	if _, err := w.a.Copy(ctx, inbox, All(), archive); err != nil {
		t.Fatal(err)
	}
	w.told(t, archive, nil)
	w.verify(t)
}

// Earlier versions kept any date. It is told as the last that can be, and goes so to others.
func TestAbsurdDatesOfEarlierVersions(t *testing.T) {
	w, other, theirs := neighbours(t, Quota{})
	inbox, archive := w.box(t, "INBOX").ID, w.box(t, "Archive").ID
	want := map[mail.UID]int64{}
	for i, raw := range []int64{-1 << 62, mail.EarliestDate - 1, mail.EarliestDate, -1, 0, mail.LatestDate, mail.LatestDate + 1, 1 << 62} {
		p := w.receive(t, letter(i))
		w.update(t, func(tx *Tx) error { // as Append was
			uid, err := tx.insert(inbox, Message{Size: p.Size(), Internal: raw}, nil, p.records())
			want[uid] = mail.BoundSeconds(raw)
			return err
		})
	}
	stored := func(a *Account, box mail.MailboxID) (wild int) {
		err := a.View(ctx, func(s *Snapshot) error {
			p, err := s.page(box, 0)
			for row := 0; err == nil && row < p.len(); row++ {
				if at := p.date(colInternal, row); at != mail.BoundSeconds(at) {
					wild++
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return wild
	}
	if n := stored(w.a, inbox); n != 4 {
		t.Fatalf("%d dates are as earlier versions had them", n) // the control
	}
	w.told(t, inbox, want)
	if _, err := w.a.As(1).CopyTo(ctx, inbox, All(), other.As(1), theirs); err != nil {
		t.Fatal(err)
	}
	if _, err := w.a.Move(ctx, inbox, All(), archive); err != nil {
		t.Fatal(err)
	}
	w.told(t, archive, want)
	if n := fmt.Sprint(stored(w.a, archive), stored(other, theirs)); n != "0 0" {
		t.Errorf("absurd dates went on: %s", n)
	}
	(&world{Store: w.Store, a: other, clock: w.clock}).told(t, theirs, want)
	w.verify(t)
}
