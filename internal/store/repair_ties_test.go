package store

import (
	"fmt"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
)

// What a repair loses does not look deleted by its owner: its tie goes, so that it comes again,
// or leads to nothing. What it parses anew is tied as before.
func TestRepairKeepsTiesTrue(t *testing.T) {
	w := newWorld(t)
	box := TiedBox{Source: "imap:a@example.net:993", Mailbox: "INBOX", State: []byte("far")}
	inbox := w.box(t, "INBOX")
	ids := make([]mail.MessageID, 5)
	for i := range ids {
		p := w.receive(t, fmt.Sprintf("Subject: %d\r\n\r\n%s", i, randText(100_000)))
		w.update(t, func(tx *Tx) error {
			tie, err := tx.AppendTied(inbox.ID, NewMessage{Parcel: p}, 0, box, Tie{Key: fmt.Sprint("7.", i)})
			ids[i] = tie.Message
			if err == nil {
				err = tx.PutTiedBox(box)
			}
			return err
		})
	}
	tie := func(i int) (t2 Tie, ok bool) {
		if err := w.a.View(ctx, func(s *Snapshot) (err error) { t2, ok, err = s.Tie(box, fmt.Sprint("7.", i)); return err }); err != nil {
			t.Fatal(err)
		}
		return t2, ok
	}
	if err := w.eng.Update(ctx, w.a.shard, func(wr engine.Writer) error {
		for _, id := range ids[3:] { // without facts
			if err := wr.Delete(engine.Key(famFacts, uint64(id))); err != nil {
				return err
			}
		}
		if err := wr.Delete(engine.Key(famHeader, uint64(ids[1]))); err != nil { // lost
			return err
		}
		return wr.DeleteRange(engine.Key(famKeys, uint64(ids[2])), engine.Key(famKeys, uint64(ids[2])+1)) // parsed anew
	}); err != nil {
		t.Fatal(err)
	}
	lost := 0
	if err := w.Repair(ctx, nil, func(m Mended) {
		t.Logf("%+v", m)
		if m.Lost {
			lost++
		}
	}); err != nil || lost == 0 {
		t.Fatalf("%d lost, %v", lost, err)
	}
	for i := range ids {
		got, ok := tie(i)
		if ok && got.Message != 0 { // then it must be here
			if err := w.a.View(ctx, func(s *Snapshot) error {
				m, err := s.Message(got.Mailbox, got.UID)
				if err == nil && m.ID != got.Message {
					err = fmt.Errorf("it is message %d", m.ID)
				}
				return err
			}); err != nil {
				t.Errorf("%d: tied to %d, %v", i, got.Message, err)
			}
		}
		switch i {
		case 0:
			if got.Message != ids[0] {
				t.Errorf("the sound one: %+v", got)
			}
		case 1:
			if ok {
				t.Errorf("the lost one is tied: %+v", got)
			}
		case 2:
			if !ok || got.Message == 0 || got.Message == ids[2] {
				t.Errorf("the one that was parsed anew: %+v", got)
			}
		}
	}
	if err := w.a.View(ctx, func(s *Snapshot) error {
		b, err := s.TiedBox(box.Source, box.Mailbox)
		if err == nil && (len(b.State) > 0 || b.Mailbox != box.Mailbox) {
			err = fmt.Errorf("it is read from where it was: %+v", b)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	w.verify(t)
}

// Of ties more than one commit can write may have lost their messages, or be damaged.
func TestRepairOfMoreTiesThanACommitHolds(t *testing.T) {
	w := newWorld(t)
	inbox, box := w.box(t, "INBOX").ID, TiedBox{Source: "s", Mailbox: "m"}
	gone := w.bring(t, inbox, box, "gone", 0, letter(1))
	w.expunge(t, "INBOX", gone.UID)
	here := w.bring(t, inbox, box, "here", 0, letter(2))
	const blank, damaged = engine.MaxUpdate/90_000 + 20, 80_000
	gone.Changed = strings.Repeat("x", 90_000)
	for i := range blank {
		w.update(t, func(tx *Tx) error { gone.Key = fmt.Sprint("b", i); return tx.PutTie(box, gone) })
	}
	if err := w.eng.Update(ctx, w.a.shard, func(wr engine.Writer) error {
		for i := range damaged {
			if err := wr.Put(box.tieKey(fmt.Sprintf("d%063d", i)), []byte{0}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	told := 0
	if err := w.Repair(ctx, nil, func(m Mended) {
		n := 0
		if _, after, ok := strings.Cut(m.What, "in part ("); !ok {
			t.Errorf("%+v", m)
		} else if _, err := fmt.Sscanf(after, "%d", &n); err != nil {
			t.Error(err)
		}
		told += n
	}); err != nil || told != damaged {
		t.Fatalf("%d of %d told, %v", told, damaged, err)
	}
	n := 0
	if err := w.a.View(ctx, func(s *Snapshot) error {
		return s.EachTie(box, "", func(tie Tie) bool {
			if n++; tie.Message != 0 != (tie.Key == "here") || tie.Key == "here" && tie.Message != here.Message {
				t.Errorf("%q is tied to %d", tie.Key, tie.Message)
			}
			return true
		})
	}); err != nil || n != 2+blank+damaged {
		t.Errorf("%d ties, %v", n, err)
	}
	w.verify(t)
}

// A tie that is forgotten leaves the others of its message tied, and what is looked for holds
// the ties of the messages asked for alone.
func TestRepairTiesWhatIsLeft(t *testing.T) {
	w := newWorld(t)
	inbox, box := w.box(t, "INBOX").ID, TiedBox{Source: "s", Mailbox: "m"}
	one := w.bring(t, inbox, box, "a", 0, letter(1))
	w.bring(t, inbox, box, "other", 0, letter(2))
	w.update(t, func(tx *Tx) error { again := one; again.Key = "b"; return tx.PutTie(box, again) })
	r := &mender{ctx: ctx, a: w.a}
	if err := r.findTies([]mail.MessageID{one.Message, 99}); err != nil || len(r.tied[one.Message]) != 2 || len(r.tied) != 2 || len(r.tied[99]) != 0 {
		t.Fatal(r.tied, err)
	}
	p := w.receive(t, letter(1))
	w.update(t, func(tx *Tx) error {
		if err := tx.w.Delete(box.tieKey("a")); err != nil {
			return err
		}
		uid, err := tx.Append(inbox, NewMessage{Parcel: p})
		if err != nil {
			return err
		}
		return tx.retie(r.tied[one.Message], inbox, uid)
	})
	if got, ok := w.tie(t, box, "b"); !ok || got.Message == one.Message || got.UID != 3 {
		t.Errorf("%+v %v", got, ok)
	}
	if _, ok := w.tie(t, box, "a"); ok {
		t.Error("a forgotten tie is there again")
	}
	w.verify(t)
}
