package store

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// bring appends a message as one that comes from elsewhere.
func (w *world) bring(t testing.TB, at mail.MailboxID, box TiedBox, key string, wanted mail.UID, text string) Tie {
	t.Helper()
	p := w.receive(t, text)
	var got Tie
	w.update(t, func(tx *Tx) (err error) {
		got, err = tx.AppendTied(at, NewMessage{Parcel: p}, wanted, box, Tie{Key: key, Size: p.Size(), Content: p.Fingerprint()})
		return err
	})
	return got
}

func (w *world) tie(t testing.TB, box TiedBox, key string) (got Tie, ok bool) {
	t.Helper()
	if err := w.a.View(ctx, func(s *Snapshot) (err error) { got, ok, err = s.Tie(box, key); return err }); err != nil {
		t.Fatal(err)
	}
	return got, ok
}

func TestTiesAreKept(t *testing.T) {
	w := newWorld(t)
	inbox, box := w.box(t, "INBOX").ID, TiedBox{Source: "imap:a@b", Mailbox: "INBOX"}
	sum := sha256.Sum256([]byte("x"))
	for i, want := range []Tie{
		{Key: "1", Message: 1},
		{Key: "2.3", Message: 1, Mailbox: 2, UID: 1<<32 - 1, Flags: mail.Seen | mail.Draft, Keywords: []string{"a", ""}, Size: 1 << 40, Date: -5, Content: sum},
		{Key: strings.Repeat("\xff", maxTieKey), Message: 1, Size: -1, Content: sum, Stored: sha256.Sum256(nil), Changed: "NUL"},
	} {
		w.bring(t, inbox, box, fmt.Sprint("other", i), 0, letter(i))
		w.update(t, func(tx *Tx) error { return tx.PutTie(box, want) })
		if want.Changed == "" {
			want.Stored = want.Content
		}
		if got, ok := w.tie(t, box, want.Key); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v was kept as %+v, %v", want, got, ok)
		}
		if _, ok := w.tie(t, TiedBox{Source: "imap:a@b", Mailbox: "INBOX2"}, want.Key); ok {
			t.Error("the ties of two mailboxes are not apart")
		}
	}
	for _, key := range []string{"", strings.Repeat("k", maxTieKey+1)} {
		if err := w.a.Update(ctx, func(tx *Tx) error { return tx.PutTie(box, Tie{Key: key}) }); !fault.Is(err, fault.Invalid) {
			t.Errorf("key %q: %v", key, err)
		}
	}
	var keys []string
	err := w.a.View(ctx, func(s *Snapshot) error {
		return s.EachTie(box, "1", func(tie Tie) bool { keys = append(keys, tie.Key); return true })
	})
	if want := []string{"2.3", "other0", "other1", "other2", strings.Repeat("\xff", maxTieKey)}; err != nil || !reflect.DeepEqual(keys, want) {
		t.Errorf("%q, %v", keys, err)
	}
	w.verify(t)
}

// A tie comes with its message, outlives it, and goes when it is forgotten.
func TestTieOfAMessage(t *testing.T) {
	w := newWorld(t)
	inbox, box := w.box(t, "INBOX").ID, TiedBox{Source: "s", Mailbox: "m"}
	w.bring(t, inbox, TiedBox{Source: "s2", Mailbox: "m"}, "k", 0, letter(0))
	big := "Subject: big\r\n\r\n" + randText(100<<10)
	for i, text := range []string{letter(1), "Subject: no body\r\n\r\n", "no header", "", big, "A: " + strings.Repeat("x ", maxHead) + "\r\n\r\nx"} {
		tie := w.bring(t, inbox, box, fmt.Sprint("k", i), 0, text)
		var stored [sha256.Size]byte
		var m Message
		if err := w.a.View(ctx, func(s *Snapshot) (err error) {
			if m, err = s.Message(tie.Mailbox, tie.UID); err == nil {
				stored, err = s.Fingerprint(tie.Message)
			}
			return err
		}); err != nil || m.ID != tie.Message || stored != tie.Content {
			t.Errorf("message %d: %+v %x %+v %v", i, m, stored, tie, err)
		}
	}
	if _, err := w.a.Expunge(ctx, inbox, mail.SetOf(2), false); err != nil {
		t.Fatal(err)
	}
	if tie, ok := w.tie(t, box, "k0"); !ok || tie.UID != 2 {
		t.Errorf("the tie went with its message: %+v", tie)
	}
	w.update(t, func(tx *Tx) error {
		return tx.PutTiedBox(TiedBox{Source: "s", Mailbox: "m", At: inbox, Validity: 9, State: []byte("x")})
	})
	w.update(t, func(tx *Tx) error { return tx.PutTiedBox(TiedBox{Source: "s2", Mailbox: "m"}) })
	w.verify(t)
	w.update(t, func(tx *Tx) error { return tx.Forget("s", "") })
	if _, ok := w.tie(t, box, "k1"); ok {
		t.Error("forgotten, and still there")
	}
	if _, ok := w.tie(t, TiedBox{Source: "s2", Mailbox: "m"}, "k"); !ok {
		t.Error("more was forgotten than was asked")
	}
	var boxes []TiedBox
	if err := w.a.View(ctx, func(s *Snapshot) (err error) { boxes, err = s.TiedBoxes(); return err }); err != nil || len(boxes) != 1 || boxes[0].Source != "s2" {
		t.Errorf("%+v %v", boxes, err)
	}
	if err := w.a.Update(ctx, func(tx *Tx) error { return tx.Forget("s", "") }); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
}

// An Update that fails leaves neither message nor tie.
func TestTieIsOfOneCommit(t *testing.T) {
	w := newWorld(t)
	inbox, box := w.box(t, "INBOX").ID, TiedBox{Source: "s", Mailbox: "m"}
	p := w.receive(t, letter(1))
	err := w.a.Update(ctx, func(tx *Tx) error {
		if _, err := tx.AppendTied(inbox, NewMessage{Parcel: p}, 0, box, Tie{Key: "k"}); err != nil {
			return err
		}
		return fault.New(fault.Busy, "no")
	})
	if _, ok := w.tie(t, box, "k"); ok || !fault.Is(err, fault.Busy) || w.box(t, "INBOX").Messages != 0 {
		t.Error("half of it is there", err)
	}
}

func TestUIDsAreKept(t *testing.T) {
	w := newWorld(t)
	inbox, box := w.box(t, "INBOX").ID, TiedBox{Source: "s", Mailbox: "m"}
	take := func(id mail.MailboxID, validity uint32) (took bool) {
		w.update(t, func(tx *Tx) (err error) { took, err = tx.TakeValidity(id, validity); return err })
		return took
	}
	for _, bad := range []uint32{0, 1<<32 - 1} {
		if take(inbox, bad) {
			t.Errorf("UIDVALIDITY %d was taken over", bad)
		}
	}
	if !take(inbox, 77) || w.box(t, "INBOX").UIDValidity != 77 {
		t.Error("it was not taken over")
	}
	for _, uid := range []mail.UID{5, 700, 100_000} {
		if got := w.bring(t, inbox, box, fmt.Sprint(uid), uid, letter(int(uid))); got.UID != uid {
			t.Errorf("%d became %d", uid, got.UID)
		}
	}
	if take(inbox, 78) {
		t.Error("taken over by a mailbox that has messages")
	}
	// One that comes late has a new UID, and nobody can take it for another.
	if got := w.bring(t, inbox, box, "6", 6, letter(6)); got.UID != 100_001 || w.box(t, "INBOX").UIDValidity != 77 {
		t.Errorf("%+v", got)
	}
	w.deliver(t, "INBOX", letter(1)) // 100,002
	got := w.bring(t, inbox, box, "100002", 100_002, letter(7))
	if now := w.box(t, "INBOX"); got.UID != 100_003 || now.UIDValidity == 77 || now.UIDNext != 100_004 {
		t.Errorf("%+v, %+v", got, now)
	}
	w.verify(t)
}

// Two mailboxes that have the same UIDVALIDITY elsewhere are not taken for each other here.
func TestRenamedAfterTakingOver(t *testing.T) {
	w := newWorld(t)
	w.update(t, func(tx *Tx) error {
		for i, name := range []string{"a", "b", "c"} {
			m, err := tx.CreateMailbox(name, "")
			if err != nil {
				return err
			}
			validity := uint32(500 + i/2)
			if took, err := tx.TakeValidity(m.ID, validity); err != nil || !took {
				t.Error(name, took, err)
			}
			if err := tx.PutTiedBox(TiedBox{Source: "s", Mailbox: name, At: m.ID, Validity: validity}); err != nil {
				return err
			}
		}
		return nil
	})
	w.update(t, func(tx *Tx) error { return tx.DeleteMailbox("a") })
	w.update(t, func(tx *Tx) error { return tx.RenameMailbox("b", "a") })
	w.update(t, func(tx *Tx) error { return tx.RenameMailbox("c", "d") })
	if a, d := w.box(t, "a").UIDValidity, w.box(t, "d").UIDValidity; a == 500 || d != 501 {
		t.Errorf("UIDVALIDITY %d and %d", a, d)
	}
}

// What is lost of a tie does not bring its message a second time.
func TestRepairOfTies(t *testing.T) {
	w := newWorld(t)
	inbox, box := w.box(t, "INBOX").ID, TiedBox{Source: "s", Mailbox: "m"}
	for i := range 3 {
		w.bring(t, inbox, box, fmt.Sprint(i), 0, letter(i))
	}
	w.update(t, func(tx *Tx) error { return tx.PutTiedBox(TiedBox{Source: "s", Mailbox: "m"}) })
	spoil := func(key []byte) {
		if err := w.eng.Update(ctx, w.a.shard, func(wr engine.Writer) error {
			v, _, err := wr.Get(key)
			if err != nil {
				return err
			}
			v = bytes.Clone(v)
			v[len(v)/2] ^= 1
			return wr.Put(key, v)
		}); err != nil {
			t.Fatal(err)
		}
	}
	spoil(box.tieKey("1"))
	spoil(box.key())
	found := 0
	if _, err := w.Verify(ctx, func(Problem) { found++ }, nil); err != nil || found != 2 {
		t.Errorf("%d problems, %v", found, err)
	}
	told := ""
	if err := w.Repair(ctx, nil, func(m Mended) { told += m.What + "\n" }); err != nil || !strings.Contains(told, "2 records") {
		t.Errorf("%s %v", told, err)
	}
	if tie, ok := w.tie(t, box, "1"); !ok || tie.Message != 0 {
		t.Errorf("%+v %v", tie, ok)
	}
	if tie, ok := w.tie(t, box, "2"); !ok || tie.Message != 3 {
		t.Errorf("%+v %v", tie, ok)
	}
	w.verify(t)
}

// Where a UIDVALIDITY is taken over, modseqs go on above those that clients may know from
// there, and the log does not reach back to them; what else the same commit does is in order.
func TestModSeqsLeapWithAUIDVALIDITY(t *testing.T) {
	w := newWorld(t)
	inbox, archive := w.box(t, "INBOX").ID, w.box(t, "Archive").ID
	w.deliver(t, "INBOX", letter(1))
	before := w.picture(t, inbox)
	var made mail.MailboxID
	w.update(t, func(tx *Tx) error {
		if _, err := tx.Copy(inbox, mail.SetOf(1), inbox); err != nil {
			return err
		}
		m, err := tx.CreateMailbox("new", "")
		made = m.ID
		if err == nil {
			_, err = tx.TakeValidity(made, 77)
		}
		return err
	})
	now := uint64(w.clock.t.UnixMicro())
	for _, name := range []string{"new", "INBOX"} {
		if b := w.box(t, name); uint64(b.HighestModSeq) != now || b.FromElsewhere() != (name == "new") {
			t.Errorf("%s has %+v", name, b)
		}
	}
	// To who knows INBOX from before, and in the sheet that has both kinds of modseqs.
	w.deliver(t, "INBOX", letter(2))
	p := w.picture(t, inbox)
	if d := Diff(before, p); fmt.Sprint(d.Arrived) != "2:3" || fmt.Sprint(p.ChangedSince(All(), before.ModSeq())) != "2:3" || uint64(p.ModSeq()) != now+1 {
		t.Errorf("%+v", d)
	}
	log := func(box mail.MailboxID, since mail.ModSeq) (c Changes) {
		if err := w.a.View(ctx, func(s *Snapshot) (err error) { c, err = s.Changes(box, since); return err }); err != nil {
			t.Fatal(err)
		}
		return c
	}
	if c := log(inbox, before.ModSeq()); !c.Complete || fmt.Sprint(c.Arrived) != "2:3" {
		t.Errorf("%+v", c)
	}
	if log(made, mail.ModSeq(now-1)).Complete || !log(made, mail.ModSeq(now)).Complete {
		t.Error("who knows it from elsewhere is told of what the log has, or who knows it from here of all")
	}
	// A later one does not go back, whatever the clock says, nor one that has it already.
	w.clock.t = time.Date(1960, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		box      mail.MailboxID
		validity uint32
	}{{archive, 78}, {archive, 78}, {archive, w.box(t, "Archive").UIDValidity}} {
		last := w.picture(t, inbox).ModSeq()
		w.update(t, func(tx *Tx) error {
			if took, err := tx.TakeValidity(c.box, c.validity); err != nil || !took && c.validity == 78 {
				t.Error(took, err)
			}
			return nil
		})
		if b := w.box(t, "Archive"); b.HighestModSeq <= last || b.LogFloor != b.HighestModSeq {
			t.Errorf("%+v after %d", b, last)
		}
	}
	w.verify(t)
	// With a clock that says nothing it is high all the same.
	other := newWorld(t)
	other.clock.t = time.Unix(0, 0)
	other.update(t, func(tx *Tx) error { _, err := tx.TakeValidity(other.box(t, "Archive").ID, 77); return err })
	if b := other.box(t, "Archive"); b.HighestModSeq < 1<<40 || b.HighestModSeq > 1<<53 {
		t.Errorf("%+v", b)
	}
	other.verify(t)
}
