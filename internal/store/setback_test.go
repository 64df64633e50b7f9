package store

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/enginetest"
	"github.com/martlet-mail/martlet/internal/mail"
)

const (
	lostText  = "Subject: lost\r\n\r\nlost\r\n"
	otherText = "Subject: other\r\n\r\nof another, and longer\r\n"
)

// setBack makes an account what it was when all was read.
func setBack(t *testing.T, all enginetest.Records, db engine.Engine, shard engine.Shard) {
	t.Helper()
	if err := all.SetBack(ctx, db, shard); err != nil {
		t.Fatal(err)
	}
}

// A picture whose line has just been trimmed from the log is not brought forward: nobody knows
// whether the log goes on from it.
func TestSetBackBeyondTheLog(t *testing.T) {
	all, nodes := worlds(t, 3)
	a, b, db := all[0], all[1], nodes[2]
	inbox := a.box(t, "INBOX").ID
	for range 62 {
		a.deliver(t, "INBOX", hello)
	}
	before := recordsOf(t, db, a.a.shard)
	a.deliver(t, "INBOX", lostText) // the last of its page
	held := a.picture(t, inbox)
	setBack(t, before, db, a.a.shard)
	b.deliver(t, "INBOX", otherText)
	for range 3 {
		b.deliver(t, "INBOX", hello)
	}
	b.update(t, func(tx *Tx) error { return tx.trimLog(inbox, 3) })
	if floor := b.box(t, "INBOX").LogFloor; floor != held.ModSeq() {
		t.Fatalf("the floor is %d, the picture of %d: nothing is tried", floor, held.ModSeq())
	}
	fresh := worldOn(t, db, a.clock)
	if want, got := rows(fresh.picture(t, inbox)), rows(a.picture(t, inbox)); want != got {
		t.Error("a picture from before the log shows what was lost")
	}
	if _, err := a.a.Expunge(ctx, inbox, mail.SetOf(61), false); err != nil {
		t.Error(err)
	}
	fresh.verify(t)
}

// A mailbox that got the id of one that was lost is another one.
func TestSetBackOtherMailbox(t *testing.T) {
	all, nodes := worlds(t, 3)
	a, b, db := all[0], all[1], nodes[2]
	before := recordsOf(t, db, a.a.shard)
	create := func(w *world, name string) (m Mailbox) {
		w.update(t, func(tx *Tx) (err error) { m, err = tx.CreateMailbox(name, ""); return err })
		return m
	}
	x := create(a, "X")
	a.deliver(t, "X", lostText)
	held := a.picture(t, x.ID)
	setBack(t, before, db, a.a.shard)
	a.clock.t = a.clock.t.Add(time.Minute)
	y := create(b, "Y")
	b.deliver(t, "Y", otherText)
	if x.ID != y.ID || x.UIDValidity == y.UIDValidity {
		t.Fatal("the ids differ, or nothing does: nothing is tried")
	}
	if gone, err := a.a.Upon(held).Expunge(ctx, x.ID, mail.SetOf(1), false); !errors.Is(err, ErrSetBack) {
		t.Errorf("who knows X has removed %v of Y: %v", gone, err)
	}
}

// What a guest is shown is made of what the owner is shown, and may be newer. When it is lost, the
// owner's goes on otherwise.
func TestSetBackOfGuests(t *testing.T) {
	all, nodes := worlds(t, 3)
	a, b, db := all[0], all[1], nodes[2]
	inbox := a.box(t, "INBOX").ID
	a.deliver(t, "INBOX", hello)
	const who = mail.AccountID(77)
	a.update(t, func(tx *Tx) error {
		box, err := tx.open(inbox)
		if err != nil {
			return err
		}
		return tx.putGrant(box, -1, Grant{Who: who, Rights: mail.AllRights})
	})
	guest := a.a.As(who)
	shown := func() *Picture {
		p, err := guest.Picture(ctx, inbox)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	defer a.a.Attend()()
	a.picture(t, inbox)
	shown()
	before := recordsOf(t, db, a.a.shard)
	nodes[0].Lose()
	b.deliver(t, "INBOX", lostText)
	held, err := guest.PictureSince(ctx, inbox, a.Moment())
	if err != nil || held.Len() != 2 {
		t.Fatal(err)
	}
	setBack(t, before, db, a.a.shard)
	b.deliver(t, "INBOX", otherText)
	a.picture(t, inbox)
	shown() // to another session of the guest
	if _, err := guest.Upon(held).Picture(ctx, inbox); !errors.Is(err, ErrSetBack) {
		t.Errorf("a guest's session goes on: %v", err)
	}
	if err := guest.Upon(shown()).View(ctx, func(*Snapshot) error { return nil }); err != nil {
		t.Error(err)
	}
}

// Who follows is told of changes whose modseqs were seen before, and lost.
func TestSetBackIsFollowed(t *testing.T) {
	for _, lossy := range []bool{false, true} {
		t.Run(fmt.Sprint("lossy ", lossy), func(t *testing.T) {
			all, nodes := worlds(t, 3)
			a, b, db := all[0], all[1], nodes[2]
			f := a.a.Follow(nil, func() {})
			defer f.Stop()
			look := func() {
				if err := a.a.View(ctx, func(*Snapshot) error { return nil }); err != nil {
					t.Fatal(err)
				}
			}
			before := recordsOf(t, db, a.a.shard)
			if lossy {
				b.deliver(t, "INBOX", lostText)
				b.deliver(t, "INBOX", lostText)
				look()
				f.Take()
				setBack(t, before, db, a.a.shard)
			}
			look()
			f.Take()
			b.deliver(t, "INBOX", otherText)
			look()
			if told, box := f.Take(), b.box(t, "INBOX"); told.Lost == 0 || told.Lost > box.HighestModSeq {
				t.Errorf("anything may have changed since %d, and the mailbox has at %d", told.Lost, box.HighestModSeq)
			}
		})
	}
}

// What a search has noted of a lost message is not kept with another that has its number.
func TestSetBackKeepsNoNotes(t *testing.T) {
	all, nodes := worlds(t, 3)
	a, b, db := all[0], all[1], nodes[2]
	inbox := a.box(t, "INBOX").ID
	before := recordsOf(t, db, a.a.shard)
	uid := a.deliver(t, "INBOX", lostText)
	held := a.picture(t, inbox)
	m, _ := held.Message(uid)
	job := briefJob{a.a, inbox, everyBrief, nil}
	setBack(t, before, db, a.a.shard)
	b.deliver(t, "INBOX", otherText)
	if err := a.a.Upon(held).KeepGrams(ctx, inbox, []Grams{{UID: uid, ID: m.ID, Bytes: []byte{1, 2, 3}}}); !errors.Is(err, ErrSetBack) {
		t.Errorf("notes of what is lost are kept with another message: %v", err)
	}
	record := []byte{1}
	if err := job.keep(ctx, held, []numbered{{BriefEnvelope, 0, 1 << uid, record}}); err != nil {
		t.Fatal(err)
	}
	err := a.a.View(ctx, func(s *Snapshot) error {
		if _, there, err := s.r.Get(briefKey(inbox, BriefEnvelope, 0)); err != nil || there {
			t.Errorf("a brief of what is lost is kept: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// As long as a node of an earlier version may read the records they have no stamps.
func TestStampsWait(t *testing.T) {
	w := newWorld(t)
	form := uint64(1)
	w.opt.Format = func() uint64 { return form }
	kinds := func() (box, line byte) {
		w.deliver(t, "INBOX", hello)
		m := w.box(t, "INBOX")
		for _, r := range recordsOf(t, w.eng, w.a.shard) {
			if string(r.Key) == string(engine.Key(famLog, uint64(m.ID), uint64(m.HighestModSeq))) {
				line = r.Value[0]
			}
		}
		return m.encode()[0], line
	}
	if box, line := kinds(); box != recMailbox || line != recLog {
		t.Errorf("kinds %d and %d", box, line)
	}
	form = stampsForm
	if box, line := kinds(); box != recStampedMailbox || line != recStampedLog {
		t.Errorf("kinds %d and %d", box, line)
	}
}
