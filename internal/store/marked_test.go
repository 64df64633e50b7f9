package store

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
)

// Marked finds what looking at each message finds.
func TestMarked(t *testing.T) {
	w := newWorld(t)
	r := rand.New(rand.NewPCG(1, 2))
	box := w.box(t, "INBOX").ID
	const many = 700
	p, err := w.Receive(ctx, strings.NewReader(hello))
	if err != nil {
		t.Fatal(err)
	}
	w.update(t, func(tx *Tx) error {
		for range many {
			m := NewMessage{Parcel: p, Flags: mail.Flags(r.IntN(4))}
			if r.IntN(3) == 0 {
				m.Keywords = []string{"a", "b"}[:1+r.IntN(2)]
			}
			if _, err := tx.Append(box, m); err != nil {
				return err
			}
		}
		var some mail.UIDSet
		for range 100 {
			some.Add(mail.UID(1 + r.IntN(many)))
		}
		_, err := tx.Expunge(box, some, false)
		return err
	})
	pic := w.picture(t, box)
	seen := 0
	for range 300 {
		want, known := mail.Flags(r.IntN(4)), r.IntN(2) == 0
		fits := func(f mail.Flags, k KeywordSet) bool { return f&3 == want && (k != "") == known }
		if r.IntN(10) == 0 {
			fits = func(mail.Flags, KeywordSet) bool { return known }
		}
		set := All()
		if r.IntN(2) == 0 {
			set = nil
			for range r.IntN(20) {
				from := mail.UID(1 + r.IntN(many))
				set.AddRange(from, from+mail.UID(r.IntN(100)))
			}
		}
		var plain mail.UIDSet
		for _, m := range pic.Messages(set) {
			if fits(m.Flags, m.Keywords) {
				plain.Add(m.UID)
			}
		}
		if got := pic.Marked(set, fits); got.String() != plain.String() {
			t.Fatalf("of %s: %s, want %s", set, got, plain)
		}
		seen += plain.Len()
	}
	if seen == 0 {
		t.Error("nothing was found")
	}
}
