package store

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
)

// keyed are messages with what their keys say; references are in the order of the field.
var keyed = []struct {
	text, want string
	known      bool
	refs       []uint64
}{
	{hello, "Re: hello|hello|true|2026-03-01 10:00:00 +0100|ann|bob||Ann|bob@example.org|1@example.org|true", true, nil},
	{"\r\nno header\r\n", "||false|0001-01-01 00:00:00 +0000|||||||false", true, nil},
	{"Subject: [x] Fwd: b\r\nDate: Thu, 1 Jan 1970 00:00:00 +0000\r\nReferences: <a@x> <b@x> <c@x>\r\nIn-Reply-To: <d@x>\r\n\r\n",
		"[x] Fwd: b|b|true|1970-01-01 00:00:00 +0000|||||||true", true, []uint64{HashMessageID("a@x"), HashMessageID("b@x"), HashMessageID("c@x")}},
	{"From: team: a@x, b@x;\r\nTo: =?utf-8?q?=C3=9Cs?=:;\r\nCc: c@x\r\n\r\n", "||false|0001-01-01 00:00:00 +0000|team|Üs|c|team|Üs||false", true, nil},
	{"From: =?utf-8?q?J=C3=BCrgen?= <j@x>\r\nTo: k@x\r\nCc: l@x, m@x\r\nIn-Reply-To: <d@x> <e@x>\r\nDate: never\r\n\r\n",
		"||false|0001-01-01 00:00:00 +0000|j|k|l|Jürgen|k@x||false", true, []uint64{HashMessageID("d@x")}},
	{"Subject: =?utf-8?q?caf=C3=A9?=\r\n  au  lait (fwd)\r\n\r\n", "café  au  lait (fwd)|café au lait|true|0001-01-01 00:00:00 +0000|||||||true", true, nil},
	{"Subject: one\r\nSubject: two\r\n\r\n", "", false, nil},
	{"Subject: a\x00b\r\n\r\n", "", false, nil},
	{"SUBJECT:\r\n\r\n", "||false|0001-01-01 00:00:00 +0000|||||||true", true, nil},
}

// shown is keys as the table writes them, but for the Message-ID, of which there is a hash.
func shown(k *Keys, id string) string {
	if k.Named != (id != "") || k.Named && k.ID != HashMessageID(id) {
		id = "another"
	}
	return fmt.Sprintf("%s|%s|%t|%s|%s|%s|%s|%s|%s|%s|%t", k.Subject, k.Base, k.Reply, k.Sent().Format("2006-01-02 15:04:05 -0700"),
		k.From, k.To, k.Cc, k.DisplayFrom, k.DisplayTo, id, k.Titled)
}

// Keys say what the message says. Those that earlier versions kept among the facts say the
// same, but for what these did not know of the subject, and are read between others.
func TestKeys(t *testing.T) {
	w := newWorld(t)
	box := w.box(t, "INBOX").ID
	var ids []mail.MessageID
	for _, m := range keyed {
		uid := w.deliver(t, "INBOX", m.text)
		row, _ := w.picture(t, box).Message(uid)
		ids = append(ids, row.ID)
	}
	check := func(isOld func(i int) bool) {
		t.Helper()
		seen := make([]bool, len(ids))
		each := func(i int, k *Keys, ok bool) error {
			want := keyed[i]
			if !ok || seen[i] {
				t.Fatalf("%d: ok %t, seen %t", i, ok, seen[i])
			}
			seen[i] = true
			if k.Known != (want.known && !isOld(i)) {
				t.Errorf("%d: known %t", i, k.Known)
			}
			id := ""
			if i == 0 {
				id = "1@example.org"
			}
			if isOld(i) {
				k.Titled = strings.HasSuffix(want.want, "|true")
			}
			if got := shown(k, id); want.known && got != want.want {
				t.Errorf("%d: %s, want %s", i, got, want.want)
			}
			if refs, err := k.AppendReferences(nil); err != nil || !slices.Equal(refs, want.refs) {
				t.Errorf("%d: refers to %v, want %v (%v)", i, refs, want.refs, err)
			}
			return nil
		}
		err := w.a.View(ctx, func(s *Snapshot) error {
			if err := s.EachKeys(ids, each); err != nil {
				return err
			}
			for i, id := range ids {
				k, err := s.Keys(id)
				if err != nil {
					return err
				}
				if seen[i] = false; each(i, &k, true) != nil {
					t.Error("stopped")
				}
			}
			return nil
		})
		if err != nil || slices.Contains(seen, false) {
			t.Fatal(err, seen)
		}
		w.verify(t)
	}
	check(func(int) bool { return false })
	var before [][]byte
	for i, id := range ids {
		if i%2 == 0 {
			before = append(before, w.keepAsBefore(t, id, keyed[i].text))
		}
	}
	check(func(i int) bool { return i%2 == 0 })
	for i := range before {
		if len(before[i]) == 0 {
			t.Errorf("facts %d were not of the present form", i)
		}
	}
}

// keepAsBefore stores the facts of a message as versions did that had no keys apart, and
// returns the record there was.
func (w *world) keepAsBefore(t *testing.T, id mail.MessageID, text string) (lean []byte) {
	t.Helper()
	p, err := w.Receive(ctx, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	w.update(t, func(tx *Tx) error {
		v, _, err := tx.w.Get(engine.Key(famFacts, uint64(id)))
		if err != nil {
			return err
		}
		f, err := decodeFacts(v)
		if err != nil {
			return err
		}
		lean = bytes.Clone(v)
		var e enc
		e.U(uint64(f.home.box))
		e.U(uint64(f.home.uid))
		preview, attachment, _ := f.Preview()
		var tail enc
		tail.Bytes(preview)
		tail.Bool(attachment)
		e.Raw(bytes.TrimSuffix(f.shared, tail)...)
		m := p.message
		e.Str(m.Subject, m.BaseSubject)
		e.Bool(m.IsReply, !m.Date.IsZero())
		if !m.Date.IsZero() {
			_, zone := m.Date.Zone()
			e.I(m.Date.Unix())
			e.I(int64(zone))
		}
		e.Str(m.FirstFrom.Mailbox, m.FirstTo.Mailbox, m.FirstCc.Mailbox, display(m.FirstFrom), display(m.FirstTo), m.MessageID)
		refs := referenceHashes(m)
		if len(m.References) == 0 && len(refs) > 1 {
			refs = refs[:1]
		}
		e.U(uint64(len(refs)))
		for _, r := range refs {
			e.U(r)
		}
		e.Bytes(preview)
		e.Bool(attachment)
		if err := tx.w.Delete(engine.Key(famKeys, uint64(id))); err != nil {
			return err
		}
		return tx.w.Put(engine.Key(famFacts, uint64(id)), seal(recFacts, e))
	})
	return lean
}

// A message that goes to another account takes facts and keys with it, in the present form.
func TestKeysAcross(t *testing.T) {
	w := newWorld(t)
	uid := w.deliver(t, "INBOX", keyed[2].text)
	row, _ := w.picture(t, w.box(t, "INBOX").ID).Message(uid)
	var lean, old content
	read := func() (c content) {
		err := w.a.View(ctx, func(s *Snapshot) error {
			x, err := s.crossing(row)
			c = x.content
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	lean = read()
	w.keepAsBefore(t, row.ID, keyed[2].text)
	old = read()
	var was, is Keys
	if err := was.decode(lean.keys); err != nil {
		t.Fatal(err)
	}
	if err := is.decode(old.keys); err != nil {
		t.Fatal(err)
	}
	if is.Known {
		t.Error("known what nobody had looked for")
	}
	is.Known, is.Titled = was.Known, was.Titled
	if !reflect.DeepEqual(is, was) || !bytes.Equal(lean.facts, old.facts) || !slices.Equal(lean.references, old.references) {
		t.Errorf("%+v\n%+v", is, was)
	}
}

// What a record of keys says of where its base subject lies is not believed.
func FuzzKeys(f *testing.F) {
	f.Add([]byte{31, 3, 'a', 'b', 'c', 2, 2, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{0, 1, 'a', 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, payload []byte) {
		var k Keys
		if k.decode(seal(recKeys, payload)) != nil {
			return
		}
		if _, err := k.AppendReferences(nil); err != nil {
			return
		}
		var again Keys
		if err := again.decode(k.encode()); err != nil || again.text() != k.text() || again.Known != k.Known || again.Titled != k.Titled {
			t.Fatalf("%+v %+v %v", k, again, err)
		}
	})
}
