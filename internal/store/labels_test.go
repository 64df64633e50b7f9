package store

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/martlet-mail/martlet/internal/mail"
)

// labelModel is mailboxes as lists of message ids.
type labelModel struct {
	w     *world
	boxes []mail.MailboxID
	in    map[mail.MailboxID][]mail.MessageID
}

// ids returns which messages a mailbox holds, in order of UID.
func (m *labelModel) ids(t *rapid.T, box mail.MailboxID) (ids []mail.MessageID, uids []mail.UID) {
	p, err := m.w.a.Picture(ctx, box)
	if err != nil {
		t.Fatal(err)
	}
	for _, msg := range p.Messages(All()) {
		ids, uids = append(ids, msg.ID), append(uids, msg.UID)
	}
	return ids, uids
}

func (m *labelModel) holds(box mail.MailboxID, id mail.MessageID) bool {
	return slices.Contains(m.in[box], id)
}

func (m *labelModel) pick(t *rapid.T, what string, most int) []mail.MailboxID {
	return rapid.SliceOfNDistinct(rapid.SampledFrom(m.boxes), 0, most, func(b mail.MailboxID) mail.MailboxID { return b }).Draw(t, what)
}

// label changes labels of some messages of a mailbox, in the store and in the model.
func (m *labelModel) label(t *rapid.T) {
	from := rapid.SampledFrom(m.boxes).Draw(t, "from")
	ids, uids := m.ids(t, from)
	var set mail.UIDSet
	var chosen []mail.MessageID
	for i := range ids {
		if rapid.Bool().Draw(t, "in") {
			set.Add(uids[i])
			chosen = append(chosen, ids[i])
		}
	}
	c := Labelling{
		Add: m.pick(t, "add", 2), Remove: m.pick(t, "remove", 3), Only: rapid.Bool().Draw(t, "only"),
		Spare: m.pick(t, "spare", 1), Alone: m.pick(t, "alone", 1),
	}
	if rapid.Bool().Draw(t, "rest") {
		c.Rest = rapid.SampledFrom(m.boxes).Draw(t, "where")
	}
	if _, err := m.w.a.Label(ctx, from, set, 2, func(*Tx) (Labelling, error) { return c, nil }); err != nil {
		t.Fatal(err)
	}
	for _, id := range slices.Compact(slices.Sorted(slices.Values(chosen))) {
		m.apply(from, id, &c)
	}
}

func (m *labelModel) apply(from mail.MailboxID, id mail.MessageID, c *Labelling) {
	want := map[mail.MailboxID]bool{}
	alone := false
	for _, b := range m.boxes {
		want[b] = m.holds(b, id)
	}
	for _, b := range c.Add {
		alone = alone || !want[b] && slices.Contains(c.Alone, b)
	}
	for _, b := range m.boxes {
		if alone || slices.Contains(c.Remove, b) || c.Only && b != from && !slices.Contains(c.Spare, b) {
			want[b] = false
		}
	}
	for _, b := range c.Add {
		want[b] = true
	}
	left := 0
	for _, b := range m.boxes {
		if want[b] {
			left++
		}
	}
	switch {
	case left == 0 && c.Rest == 0:
		return
	case left == 0:
		want[c.Rest] = true
	}
	for _, b := range m.boxes {
		switch has := m.holds(b, id); {
		case want[b] && !has:
			m.in[b] = append(m.in[b], id)
		case !want[b] && has:
			m.in[b] = slices.DeleteFunc(m.in[b], func(x mail.MessageID) bool { return x == id })
		}
	}
}

func (m *labelModel) append(t *rapid.T) {
	box := rapid.SampledFrom(m.boxes).Draw(t, "box")
	p, err := m.w.Receive(ctx, strings.NewReader(fmt.Sprintf("Subject: %d\r\n\r\nx\r\n", rapid.IntRange(0, 3).Draw(t, "n"))))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.w.a.Update(ctx, func(tx *Tx) error { _, err := tx.Append(box, NewMessage{Parcel: p}); return err }); err != nil {
		t.Fatal(err)
	}
	ids, _ := m.ids(t, box)
	m.in[box] = append(m.in[box], ids[len(ids)-1])
}

func (m *labelModel) copy(t *rapid.T) {
	from, to := rapid.SampledFrom(m.boxes).Draw(t, "from"), rapid.SampledFrom(m.boxes).Draw(t, "to")
	ids, uids := m.ids(t, from)
	if len(ids) == 0 {
		return
	}
	i := rapid.IntRange(0, len(ids)-1).Draw(t, "which")
	verb := m.w.a.Copy
	if move := rapid.Bool().Draw(t, "move"); move {
		verb = m.w.a.Move
		at := slices.Index(m.in[from], ids[i])
		m.in[from] = slices.Delete(m.in[from], at, at+1)
	}
	if _, err := verb(ctx, from, mail.SetOf(uids[i]), to); err != nil {
		t.Fatal(err)
	}
	m.in[to] = append(m.in[to], ids[i])
}

// check compares the mailboxes, and what EachPlaces says of each message.
func (m *labelModel) check(t *rapid.T) {
	all := map[mail.MessageID]bool{}
	for _, box := range m.boxes {
		got, _ := m.ids(t, box)
		want := slices.Clone(m.in[box])
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("mailbox %d holds %v, want %v", box, got, want)
		}
		for _, id := range want {
			all[id] = true
		}
	}
	var ids []mail.MessageID
	for id := range all {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	if rapid.Bool().Draw(t, "backwards") {
		slices.Reverse(ids)
	}
	err := m.w.a.View(ctx, func(s *Snapshot) error {
		next := 0
		err := s.EachPlaces(ids, func(i int, boxes []mail.MailboxID) error {
			var want []mail.MailboxID
			for _, b := range m.boxes {
				if m.holds(b, ids[i]) {
					want = append(want, b)
				}
			}
			if i != next || boxes != nil && !slices.Equal(boxes, want) || boxes == nil && len(want) != 1 {
				t.Fatalf("message %d is said to be in %v, want %v", ids[i], boxes, want)
			}
			next++
			return nil
		})
		if err == nil && next != len(ids) {
			t.Fatalf("told of %d messages of %d", next, len(ids))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestLabelsAgainstModel: random labels, copies and moves; then every mailbox holds
// what it should, and the store finds nothing wrong with itself.
func TestLabelsAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &labelModel{w: newWorld(rapidT{rt}), in: map[mail.MailboxID][]mail.MessageID{}}
		for _, name := range []string{"INBOX", "Archive", "Sent", "Trash"} {
			b, err := m.w.boxErr(name)
			if err != nil {
				rt.Fatal(err)
			}
			m.boxes = append(m.boxes, b.ID)
		}
		slices.Sort(m.boxes)
		rt.Repeat(map[string]func(*rapid.T){"append": m.append, "label": m.label, "label2": m.label, "copy": m.copy, "": m.check})
		m.w.verify(rt)
	})
}

// Labels keep flags, keywords and dates, and leave alone what changed too late.
func TestLabelKeepsFlags(t *testing.T) {
	w := newWorld(t)
	inbox, sent := w.box(t, "INBOX"), w.box(t, "Sent")
	p := w.receive(t, "Subject: a\r\n\r\n")
	var mod mail.ModSeq
	w.update(t, func(tx *Tx) error {
		mod = tx.ModSeq()
		_, err := tx.Append(inbox.ID, NewMessage{Parcel: p, Flags: mail.Seen, Keywords: []string{"$x"}, InternalDate: w.clock.t.AddDate(-1, 0, 0)})
		return err
	})
	change := Labelling{Add: []mail.MailboxID{sent.ID}, Flags: []FlagChange{{Op: AddFlags, Flags: mail.Flagged}}}
	before := mod - 1
	change.UnchangedSince = &before
	plan := func(*Tx) (Labelling, error) { return change, nil }
	failed, err := w.a.Label(ctx, inbox.ID, All(), 1, plan)
	if err != nil || failed.String() != "1" || w.box(t, "Sent").Messages != 0 {
		t.Fatal(failed, err)
	}
	change.UnchangedSince = &mod
	if failed, err = w.a.Label(ctx, inbox.ID, All(), 1, plan); err != nil || !failed.IsEmpty() {
		t.Fatal(failed, err)
	}
	pic, err := w.a.Picture(ctx, sent.ID)
	if err != nil || pic.Len() != 1 {
		t.Fatal(err)
	}
	m, _ := pic.Message(1)
	if m.Flags != mail.Seen|mail.Flagged || m.Internal != w.clock.t.AddDate(-1, 0, 0).Unix() || fmt.Sprint(pic.Keywords(m)) != "[$x]" {
		t.Errorf("%+v %v", m, pic.Keywords(m))
	}
}
