package store

import (
	"bytes"
	"fmt"
	"maps"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// noteModel is what annotations messages should have: by mailbox, UID and name, with
// "private " before the name or "shared ".
type noteModel struct {
	w     *world
	boxes []mail.MailboxID
	notes map[mail.MailboxID]map[mail.UID]map[string]string
}

func (m *noteModel) pick(t *rapid.T, what string) mail.MailboxID {
	return rapid.SampledFrom(m.boxes).Draw(t, what)
}

func (m *noteModel) set(t *rapid.T) mail.UIDSet {
	from := rapid.IntRange(1, 30).Draw(t, "from")
	return mail.UIDSet{{From: mail.UID(from), To: mail.UID(from + rapid.IntRange(0, 10).Draw(t, "len"))}}
}

var noteGen = rapid.Custom(func(t *rapid.T) NoteChange {
	c := NoteChange{Name: rapid.SampledFrom([]string{"/comment", "/altsubject", "/1/comment"}).Draw(t, "name"), Private: rapid.Bool().Draw(t, "private")}
	if rapid.IntRange(0, 3).Draw(t, "gone") > 0 {
		c.Value = []byte(rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "value"))
	}
	return c
})

func noteKind(c NoteChange) string {
	if c.Private {
		return "private " + c.Name
	}
	return "shared " + c.Name
}

// change is what changes do to the annotations of a message; it tells whether anything
// changed.
func change(notes map[string]string, changes []NoteChange) bool {
	changed := false
	for _, c := range changes {
		old, had := notes[noteKind(c)]
		if c.Value == nil {
			delete(notes, noteKind(c))
			changed = changed || had
			continue
		}
		notes[noteKind(c)] = string(c.Value)
		changed = changed || !had || old != string(c.Value)
	}
	return changed
}

func (m *noteModel) append(t *rapid.T) {
	box := m.pick(t, "box")
	p, err := m.w.Receive(ctx, strings.NewReader("Subject: x\r\n\r\nx\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	notes := rapid.SliceOfN(noteGen, 0, 3).Draw(t, "notes")
	err = m.w.a.Update(ctx, func(tx *Tx) error {
		uid, err := tx.Append(box, NewMessage{Parcel: p, Notes: notes})
		m.notes[box][uid] = map[string]string{}
		change(m.notes[box][uid], notes)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (m *noteModel) note(t *rapid.T) {
	box, set, changes := m.pick(t, "box"), m.set(t), rapid.SliceOfN(noteGen, 1, 3).Draw(t, "changes")
	res, err := m.w.a.SetNotes(ctx, box, set, changes, nil)
	if err != nil {
		t.Fatal(err)
	}
	pic, err := m.w.a.Picture(ctx, box)
	if err != nil {
		t.Fatal(err)
	}
	for uid, notes := range m.notes[box] {
		if !set.Contains(uid) {
			continue
		}
		msg, _ := pic.Message(uid)
		// Two changes of one annotation may cancel out.
		if changed := change(notes, changes); len(changes) == 1 && changed != (res.Changed.Contains(uid) && msg.ModSeq == pic.ModSeq()) {
			t.Fatalf("message %d with modseq %d of %d: changed are %v", uid, msg.ModSeq, pic.ModSeq(), res.Changed)
		}
	}
}

func (m *noteModel) transfer(t *rapid.T) {
	from, to, set, move := m.pick(t, "from"), m.pick(t, "to"), m.set(t), rapid.Bool().Draw(t, "move")
	verb := m.w.a.Copy
	if move {
		verb = m.w.a.Move
	}
	moved, err := verb(ctx, from, set, to)
	if err != nil {
		t.Fatal(err)
	}
	for _, mv := range moved {
		m.notes[to][mv.To] = maps.Clone(m.notes[from][mv.From])
		if move {
			delete(m.notes[from], mv.From)
		}
	}
}

func (m *noteModel) expunge(t *rapid.T) {
	box, set := m.pick(t, "box"), m.set(t)
	if _, err := m.w.a.Expunge(ctx, box, set, false); err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(m.notes[box], func(uid mail.UID, _ map[string]string) bool { return set.Contains(uid) })
}

func (m *noteModel) check(t *rapid.T) {
	err := m.w.a.View(ctx, func(s *Snapshot) error {
		for _, box := range m.boxes {
			got := map[mail.UID]map[string]string{}
			var last mail.UID
			err := s.EachNote(box, All(), func(n Note) bool {
				if n.UID < last {
					t.Fatal("annotations are out of order")
				}
				last = n.UID
				if n.Value != nil {
					if got[n.UID] == nil {
						got[n.UID] = map[string]string{}
					}
					got[n.UID][noteKind(NoteChange{Name: n.Name, Private: n.Private})] = string(n.Value)
				}
				return true
			})
			if err != nil {
				return err
			}
			want := maps.Clone(m.notes[box])
			maps.DeleteFunc(want, func(_ mail.UID, n map[string]string) bool { return len(n) == 0 })
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("mailbox %d has %v, want %v", box, got, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestNotesAgainstModel: random annotations, copies, moves and expunges; then all
// messages have what they should, and the store finds nothing wrong with itself.
func TestNotesAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &noteModel{w: newWorld(rapidT{rt}), notes: map[mail.MailboxID]map[mail.UID]map[string]string{}}
		for _, name := range []string{"INBOX", "Archive", "Sent"} {
			b, err := m.w.boxErr(name)
			if err != nil {
				rt.Fatal(err)
			}
			m.boxes = append(m.boxes, b.ID)
			m.notes[b.ID] = map[mail.UID]map[string]string{}
		}
		rt.Repeat(map[string]func(*rapid.T){"append": m.append, "note": m.note, "note2": m.note, "transfer": m.transfer, "expunge": m.expunge, "": m.check})
		m.w.verify(rt)
		if err := m.w.a.Update(ctx, func(tx *Tx) error { return tx.DeleteMailbox("Archive") }); err != nil {
			rt.Fatal(err)
		}
		m.w.verify(rt)
	})
}

// fillNotes puts a message into INBOX and returns its mailbox.
func fillNotes(t *testing.T, w *world, messages int) Mailbox {
	t.Helper()
	p := w.receive(t, "Subject: a\r\n\r\n")
	inbox := w.box(t, "INBOX")
	w.update(t, func(tx *Tx) error {
		for range messages {
			if _, err := tx.Append(inbox.ID, NewMessage{Parcel: p}); err != nil {
				return err
			}
		}
		return nil
	})
	return inbox
}

func TestNoteLimits(t *testing.T) {
	w := newWorld(t)
	inbox := fillNotes(t, w, 1)
	one := mail.SetOf(1)
	set := func(c ...NoteChange) error { _, err := w.a.SetNotes(ctx, inbox.ID, one, c, nil); return err }
	for name, kind := range map[string]fault.Kind{
		"comment": fault.Invalid, "/a//b": fault.Invalid, "/a/": fault.Invalid, "/": fault.Invalid, "/a*": fault.Invalid, "/%": fault.Invalid,
		"/ü": fault.Invalid, "/" + strings.Repeat("a", MaxNoteName): fault.Invalid,
	} {
		if err := set(NoteChange{Name: name, Value: []byte("x")}); !fault.Is(err, kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := set(NoteChange{Name: "/x", Value: make([]byte, MaxNoteValue+1)}); !fault.Is(err, fault.TooLarge) {
		t.Error(err)
	}
	for i := range MaxNotes {
		if err := set(NoteChange{Name: fmt.Sprint("/vendor/x/", i), Private: i%2 == 0, Value: []byte("x")}); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := set(NoteChange{Name: "/more", Value: []byte("x")}); !fault.Is(err, fault.Limited) {
		t.Error(err)
	}
	// One may take another's place.
	if err := set(NoteChange{Name: "/vendor/x/1"}, NoteChange{Name: "/more", Value: []byte("x")}); err != nil {
		t.Error(err)
	}
	// Removed ones are forgotten when there are many.
	for i := range 4 * MaxNotes {
		name := fmt.Sprint("/passing/", i)
		if err := set(NoteChange{Name: "/more"}, NoteChange{Name: name, Value: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		if err := set(NoteChange{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	if b := w.box(t, "INBOX"); b.notes > 3*MaxNotes {
		t.Errorf("%d records are kept", b.notes)
	}
	w.verify(t)
}

// Large annotations of many messages are written, copied and removed in parts.
func TestManyLargeNotes(t *testing.T) {
	w := newWorld(t)
	inbox := fillNotes(t, w, 120)
	var changes []NoteChange
	for i := range 10 {
		changes = append(changes, NoteChange{Name: fmt.Sprint("/vendor/x/", i), Value: bytes.Repeat([]byte{'x'}, MaxNoteValue-50)})
	}
	few := mail.UIDSet{{From: 1, To: 70}}
	if res, err := w.a.SetNotes(ctx, inbox.ID, few, changes, nil); err != nil || res.Changed.Len() != 70 {
		t.Fatal(res, err)
	}
	if _, err := w.a.Copy(ctx, inbox.ID, All(), w.box(t, "Sent").ID); err != nil {
		t.Fatal(err)
	}
	w.verify(t)
	// The account has an end to it.
	if _, err := w.a.SetNotes(ctx, inbox.ID, All(), changes, nil); !fault.Is(err, fault.Limited) {
		t.Fatal(err)
	}
	if _, err := w.a.Expunge(ctx, inbox.ID, All(), false); err != nil {
		t.Fatal(err)
	}
	if b := w.box(t, "INBOX"); b.notes != 0 || b.noteBytes != 0 {
		t.Errorf("%d annotations in %d bytes are left", b.notes, b.noteBytes)
	}
	w.verify(t)
}

// A mailbox without annotations counts none.
func TestNoNotesNoCount(t *testing.T) {
	w := newWorld(t)
	inbox := fillNotes(t, w, 2)
	notes := func() uint32 { return w.box(t, "INBOX").notes }
	if notes() != 0 {
		t.Error(notes())
	}
	if _, err := w.a.SetNotes(ctx, inbox.ID, mail.SetOf(2), []NoteChange{{Name: "/comment", Value: []byte{}}}, nil); err != nil {
		t.Fatal(err)
	}
	if notes() != 1 {
		t.Error(notes())
	}
	if _, err := w.a.Expunge(ctx, inbox.ID, mail.SetOf(2), false); err != nil {
		t.Fatal(err)
	}
	if notes() != 0 {
		t.Error(notes())
	}
}

// Each reader sees the shared ones and those of its own; a copy takes what its maker sees.
func TestNotesOfGuests(t *testing.T) {
	w := newWorld(t)
	inbox, sent := fillNotes(t, w, 1), w.box(t, "Sent")
	if err := w.CreateAccount(ctx, 2, Quota{}); err != nil {
		t.Fatal(err)
	}
	owner, guest := w.a.As(1), w.a.As(2)
	grant := func(box mail.MailboxID, r mail.Rights) {
		t.Helper()
		if err := w.a.Grant(ctx, box, 2, false, func(mail.Rights) mail.Rights { return r }); err != nil {
			t.Fatal(err)
		}
	}
	grant(inbox.ID, mail.RightLookup|mail.RightRead)
	grant(sent.ID, mail.RightLookup|mail.RightRead|mail.RightInsert)
	set := func(a *Account, private bool, value string) error {
		_, err := a.SetNotes(ctx, inbox.ID, All(), []NoteChange{{Name: "/comment", Private: private, Value: []byte(value)}}, nil)
		return err
	}
	for _, err := range []error{set(owner, false, "shared"), set(owner, true, "the owner's"), set(guest, true, "the guest's")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := set(guest, false, "x"); !fault.Is(err, fault.Denied) {
		t.Error(err)
	}
	see := func(a *Account, box mail.MailboxID) (seen string) {
		t.Helper()
		err := a.View(ctx, func(s *Snapshot) error {
			return s.EachNote(box, All(), func(n Note) bool {
				seen += fmt.Sprintf("%s %s;", noteKind(NoteChange{n.Name, n.Private, nil}), n.Value)
				return true
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		return seen
	}
	if got := see(owner, inbox.ID); got != "shared /comment shared;private /comment the owner's;" {
		t.Error(got)
	}
	if got := see(guest, inbox.ID); got != "shared /comment shared;private /comment the guest's;" {
		t.Error(got)
	}
	if _, err := guest.Copy(ctx, inbox.ID, All(), sent.ID); err != nil {
		t.Fatal(err)
	}
	if got := see(guest, sent.ID) + see(owner, sent.ID); got != "private /comment the guest's;" {
		t.Error(got)
	}
	away := w.Account(2).As(2)
	var theirs Mailbox
	if err := away.View(ctx, func(s *Snapshot) (err error) { theirs, err = s.Mailbox("INBOX"); return err }); err != nil {
		t.Fatal(err)
	}
	if _, err := guest.CopyTo(ctx, inbox.ID, All(), away, theirs.ID); err != nil {
		t.Fatal(err)
	}
	if got := see(away, theirs.ID); got != "shared /comment shared;private /comment the guest's;" {
		t.Error(got)
	}
	w.verify(t)
}
