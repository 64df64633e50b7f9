package store

import (
	"runtime"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
)

// BenchmarkPicture is about a mailbox of 100,000 messages, every seventh of which is
// marked.
func BenchmarkPicture(b *testing.B) {
	w := newWorld(b)
	box := w.box(b, "INBOX").ID
	p := w.receive(b, hello)
	for range 100 {
		w.update(b, func(tx *Tx) error {
			for range 1000 {
				if _, err := tx.Append(box, NewMessage{Parcel: p}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	var some mail.UIDSet
	for uid := mail.UID(1); uid <= 100_000; uid += 7 {
		some.Add(uid)
	}
	if _, err := w.a.SetFlags(ctx, box, some, FlagChange{Flags: mail.Flagged}); err != nil {
		b.Fatal(err)
	}
	picture := func() *Picture {
		pic, err := w.a.Picture(ctx, box)
		if err != nil {
			b.Fatal(err)
		}
		return pic
	}
	pic := picture()
	b.Run("messages", func(b *testing.B) {
		for b.Loop() {
			var sum int64
			for seq, m := range pic.Messages(All()) {
				sum += m.Size + int64(seq)
			}
		}
	})
	b.Run("marks", func(b *testing.B) {
		for b.Loop() {
			var sum int64
			for seq, m := range pic.Marks(All()) {
				sum += int64(m.ModSeq) + int64(seq)
			}
		}
	})
	b.Run("existing", func(b *testing.B) {
		for b.Loop() {
			pic.Existing(All())
		}
	})
	b.Run("load", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			err := w.a.View(ctx, func(s *Snapshot) error {
				_, err := s.roll(box, nil)
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	for name, set := range map[string]mail.UIDSet{"flags of one": mail.SetOf(5000), "flags of all": All()} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := w.a.SetFlags(ctx, box, set, FlagChange{Op: FlagOp(i % 2), Flags: mail.Seen}); err != nil {
					b.Fatal(err)
				}
				now := picture()
				Diff(pic, now)
				pic = now
			}
		})
	}
}

// BenchmarkMillion is about a mailbox of 1,000,000 messages that came one by one and
// were read here and there.
func BenchmarkMillion(b *testing.B) {
	w := newWorld(b)
	box := w.box(b, "Archive").ID
	put := func(n int) {
		w.update(b, func(tx *Tx) error {
			in, err := tx.open(box)
			for i := 0; err == nil && i < n; i++ {
				id := uint64(in.UIDNext)
				tx.mod = mail.ModSeq(id) * 2
				_, err = tx.place(in, Message{
					ID: mail.MessageID(id * 3), Thread: mail.ThreadID(id * 3 / 5 * 2), Size: int64(id * 7919 % 40000), Internal: 1.7e9 + int64(id*97),
					Flags: mail.Flags(id * 7919 % 11 / 9),
				})
			}
			return err
		})
	}
	for range 50 {
		put(20_000)
	}
	load := func(b *testing.B) *Picture {
		var p *Picture
		err := w.a.View(ctx, func(s *Snapshot) (err error) { p, err = s.roll(box, nil); return err })
		if err != nil {
			b.Fatal(err)
		}
		return p
	}
	b.Run("load", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			load(b)
		}
	})
	b.Run("memory", func(b *testing.B) {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		p := load(b)
		runtime.GC()
		runtime.ReadMemStats(&after)
		for b.Loop() {
		}
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(p.Len()), "B/message")
		b.ReportMetric(float64(p.bytes())/float64(p.Len()), "B/message-counted")
	})
	pic := w.picture(b, box)
	news := func(b *testing.B) {
		now := w.picture(b, box)
		Diff(pic, now)
		pic = now
	}
	b.Run("arrival", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			put(1)
			news(b)
		}
	})
	for name, set := range map[string]mail.UIDSet{"flags of one": mail.SetOf(500_000), "flags of all": All()} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := w.a.SetFlags(ctx, box, set, FlagChange{Op: FlagOp(i % 2), Flags: mail.Flagged}); err != nil {
					b.Fatal(err)
				}
				news(b)
			}
		})
	}
	b.Run("changed since", func(b *testing.B) {
		for b.Loop() {
			pic.ChangedSince(All(), pic.ModSeq()-1)
		}
	})
}
