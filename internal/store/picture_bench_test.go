package store

import (
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
