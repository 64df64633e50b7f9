package store

import (
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
)

// encode writes a page as it was written before there were marks.
func (p *wholePage) encode() []byte {
	var e enc
	e.U(p.present)
	for _, column := range [...][]uint64{p.ids, p.mods, p.threads} {
		var last uint64
		for _, v := range column {
			e.I(int64(v - last))
			last = v
		}
	}
	for _, v := range p.sizes {
		e.U(v)
	}
	for _, column := range [...][]int64{p.internal, p.saved} {
		var last int64
		for _, v := range column {
			e.I(v - last)
			last = v
		}
	}
	for _, f := range p.flags {
		e.Raw(byte(f))
	}
	e.Bool(p.keywords != nil)
	for _, k := range p.keywords {
		e.Str(string(k))
	}
	return seal(recPage, e)
}

// age puts a sheet on record as earlier versions did; the messages stay as they are.
func (w *world) age(box mail.MailboxID, number uint64) error {
	var rows []Message
	err := w.a.View(ctx, func(s *Snapshot) error {
		p, err := s.roll(box, nil)
		if err != nil {
			return err
		}
		for _, m := range p.Messages(mail.UIDSet{{From: mail.UID(number * sheetSize), To: mail.UID(number*sheetSize + sheetSize - 1)}}) {
			rows = append(rows, m)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return w.eng.Update(ctx, w.a.shard, func(e engine.Writer) error {
		for len(rows) > 0 {
			p, n := &wholePage{}, pageOf(rows[0].UID)
			for len(rows) > 0 && pageOf(rows[0].UID) == n {
				m := rows[0]
				rows = rows[1:]
				p.present |= 1 << (m.UID % pageSize)
				p.ids, p.threads = append(p.ids, uint64(m.ID)), append(p.threads, uint64(m.Thread))
				p.flags, p.mods, p.sizes = append(p.flags, m.Flags), append(p.mods, uint64(m.ModSeq)), append(p.sizes, uint64(m.Size))
				p.internal, p.saved = append(p.internal, m.Internal), append(p.saved, m.Saved)
				p.keywords = append(p.keywords, m.Keywords)
			}
			if !slices.ContainsFunc(p.keywords, func(k KeywordSet) bool { return k != "" }) {
				p.keywords = nil
			}
			if err := e.Put(pageKey(box, n), p.encode()); err != nil {
				return err
			}
		}
		return e.Delete(marksKey(box, number))
	})
}

// A mailbox that an earlier version has filled is read, and each way to touch it makes
// of it what it makes of a new one.
func TestOldPages(t *testing.T) {
	const n = sheetSize + 100
	flagged := FlagChange{Flags: mail.Flagged, Keywords: []string{"blue"}}
	touches := map[string]func(tx *Tx, box mail.MailboxID) error{
		"nothing": func(*Tx, mail.MailboxID) error { return nil },
		"flags": func(tx *Tx, box mail.MailboxID) error {
			_, err := tx.SetFlags(box, mail.SetOf(7, 600), flagged)
			return err
		},
		"all flags": func(tx *Tx, box mail.MailboxID) error { _, err := tx.SetFlags(box, All(), flagged); return err },
		"expunge": func(tx *Tx, box mail.MailboxID) error {
			_, err := tx.Expunge(box, mail.SetOf(65, 601), false)
			return err
		},
		"all gone": func(tx *Tx, box mail.MailboxID) error { _, err := tx.Expunge(box, All(), false); return err },
		"copies":   func(tx *Tx, box mail.MailboxID) error { _, err := tx.Copy(box, mail.SetOf(3, 599), box); return err },
	}
	for name, touch := range touches {
		t.Run(name, func(t *testing.T) {
			var now [2][]Message
			for i, old := range []bool{false, true} {
				w := newWorld(t)
				box := w.box(t, "Archive").ID
				p := w.receive(t, hello)
				w.update(t, func(tx *Tx) error {
					for i := range n {
						m := NewMessage{Parcel: p, Flags: mail.Flags(i % 3)}
						if i%5 == 0 {
							m.Keywords = []string{"old"}
						}
						if _, err := tx.Append(box, m); err != nil {
							return err
						}
					}
					return nil
				})
				if old {
					for number := range uint64(2) {
						if err := w.age(box, number); err != nil {
							t.Fatal(err)
						}
					}
					w.verify(t)
				}
				w.update(t, func(tx *Tx) error { return touch(tx, box) })
				for _, m := range w.picture(t, box).Messages(All()) {
					now[i] = append(now[i], m)
				}
				w.verify(t)
				if _, err := w.a.DeleteMailbox(ctx, "Archive"); err != nil {
					t.Fatal(err)
				}
				w.background.Wait()
				if left := w.count(t, famPage) + w.count(t, famMarks); left != 0 {
					t.Fatalf("%d pages and marks of a deleted mailbox are left", left)
				}
			}
			if !slices.Equal(now[0], now[1]) {
				t.Fatal("an old mailbox became another one than a new one")
			}
		})
	}
}

// count returns how many records of a family the account has.
func (w *world) count(t *testing.T, family byte) (n int) {
	t.Helper()
	err := w.a.View(ctx, func(s *Snapshot) error {
		return s.r.Scan([]byte{family}, []byte{family + 1}, false, func(_, _ []byte) bool { n++; return true })
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// What is written of a page and of marks is read again, however its numbers lie.
func TestPageAndMarksRecords(t *testing.T) {
	number := rapid.OneOf(rapid.Uint64Range(0, 3), rapid.Uint64Range(1000, 70000), rapid.Uint64())
	rapid.Check(t, func(t *rapid.T) {
		var p pageDraft
		var d marksDraft
		d.present[sheetPages-1] = rapid.Uint64Range(1, 1<<64-1).Draw(t, "present")
		d.present[0] = rapid.SampledFrom([]uint64{0, 1, 1<<64 - 1}).Draw(t, "first")
		p.present = d.present[sheetPages-1]
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		some := rapid.SliceOfN(number, 1, 5).Draw(t, "numbers")
		for i := range d.kind {
			d.mods[i] = some[r.IntN(len(some))] + uint64(i)*uint64(r.IntN(2))
			m := marking{flags: mail.Flags(r.IntN(4))}
			if r.IntN(4) == 0 {
				m.keywords = keywordBit(r.IntN(len(some)))
			}
			d.kind[i] = d.kindOf(m)
		}
		for c := range p.values {
			for slot := range p.values[c] {
				p.values[c][slot] = some[r.IntN(len(some))]
			}
		}
		read, err := decodePage(p.encode())
		if err != nil {
			t.Fatal(err)
		}
		var again marksDraft
		if err := again.decode(d.encode()); err != nil {
			t.Fatal(err)
		}
		packed := again.marks()
		rows := pageRows{}
		(&sheet{marks: packed, pages: [sheetPages]*page{sheetPages - 1: read}}).read(&rows, sheetPages-1)
		if again.present != d.present || read.present != p.present {
			t.Fatal("other messages")
		}
		row := 0
		for slot := range pageSize {
			if p.present>>slot&1 == 0 {
				continue
			}
			at := (sheetPages-1)*pageSize + slot
			for c := range p.values {
				if v := p.values[c][slot]; read.at(c, row) != v || rows.columns[c][row] != v || read.draft().values[c][slot] != v {
					t.Fatalf("column %d of %d: %d, not %d", c, slot, read.at(c, row), v)
				}
			}
			in, ok := packed.row(mail.UID(at))
			if want := d.kinds[d.kind[at]]; !ok || again.kinds[again.kind[at]] != want || *packed.marking(in) != want || packed.kinds[rows.kind[row]] != want {
				t.Fatalf("marking of %d", at)
			}
			if d.mods[at] != again.mods[at] || packed.mods.at(in) != d.mods[at] || rows.mods[row] != d.mods[at] {
				t.Fatalf("modseq of %d", at)
			}
			row++
		}
	})
}

// Broken records are faults and no more.
func TestBrokenPagesAndMarks(t *testing.T) {
	p := pageDraft{}
	d := marksDraft{}
	for i := range 40 {
		p.insert(&Message{UID: mail.UID(i), ID: mail.MessageID(i * i), Size: int64(i * 1000)})
		d.set(i, marking{flags: mail.Flags(i & 3)}, mail.ModSeq(i*i%7))
	}
	for _, whole := range [][]byte{p.encode(), d.encode()} {
		payload := whole[1 : len(whole)-4]
		for i := range payload {
			for _, v := range []byte{0, 1, 0x7f, 0x80, 0xff, payload[i] ^ 1} {
				broken := slices.Clone(payload)
				broken[i] = v
				for _, b := range [][]byte{broken, broken[:i]} {
					if q, err := decodePage(seal(recRows, b)); err == nil {
						q.draft()
					}
					var e marksDraft
					if err := e.decode(seal(recMarks, b)); err == nil {
						e.marks()
						e.encode()
					}
				}
			}
		}
	}
}
