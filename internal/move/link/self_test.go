package link

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/martlet-mail/martlet/internal/move"
)

// A mark is known by who made it, for its account only.
func TestMark(t *testing.T) {
	w := newWorld(t, nil)
	one, err := w.Mark(1)
	two, _ := w.Mark(1)
	if err != nil || one == two || len(one) > 100 {
		t.Error(one, two, err)
	}
	if !w.Marks(1, one) || w.Marks(2, one) || w.Marks(1, one[:len(one)-1]) || w.Marks(1, "") {
		t.Error("a mark is not told from others")
	}
	other := newWorld(t, func(o *Options) { o.Key = []byte(strings.Repeat("x", 32)) })
	if other.Marks(1, one) {
		t.Error("another server knows it")
	}
}

// What a ring brings back as new each time ends after a few times; all else still comes.
func TestRing(t *testing.T) {
	h, s := newHere(t, steady), newSide("INBOX", "Work", "Trash")
	s.add("INBOX", letter(1), 0)
	o := new(often)
	brought := int64(0)
	for n := range 20 {
		source := s.open()
		r := round{rule: following(), source: source, target: move.NewLocal(h.store, 1), now: steady, declined: map[string]declined{}, often: o}
		if err := r.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		source.Close()
		brought += r.report.Brought
		if n > 0 && r.report.Brought == 1 || n == 0 {
			s.add("INBOX", letter(1), 0) // somebody carries it there again
		} else if r.report.Why != tooOften {
			t.Errorf("round %d: %+v", n, r.report)
		}
	}
	if brought != 1+mostTimes {
		t.Errorf("it came %d times", brought)
	}
	s.add("INBOX", letter(2), 0)
	if r := accord(t, h, s, following()); r.Brought < 1 {
		t.Errorf("%+v", r)
	}
}

// What is counted of an account is bounded, and forgotten with its last link.
func TestCountsEndWithTheLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		defer w.run(t)()
		one, two := w.addAt(t, "one.example.net", 1), w.addAt(t, "one.example.net", 2)
		o := w.oftenOf(1)
		if o == nil {
			t.Fatal("nothing is counted")
		}
		for i := range 3 * mostOften {
			var c move.Content
			binary.BigEndian.PutUint64(c[:], uint64(i))
			o.came(c)
		}
		if n := len(o.times); n == 0 || n > mostOften {
			t.Errorf("%d contents are counted", n)
		}
		for i, id := range []ID{one, two} {
			if err := w.Remove(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			if kept := w.oftenOf(1) != nil; kept != (i == 0) || kept && w.oftenOf(1) != o {
				t.Errorf("after the removal of %d links it is kept: %v", i+1, kept)
			}
		}
	})
}

// What is refused is remembered anew when what was remembered is over.
func TestRefusalsAreBounded(t *testing.T) {
	now := steady()
	r := round{declined: map[string]declined{}, now: func() time.Time { return now }}
	b := new(box)
	fill := func(prefix string) {
		for i := range mostDeclined + 1 {
			r.decline(b, fmt.Sprint(prefix, i), "")
		}
	}
	fill("a")
	if len(r.declined) != mostDeclined || !r.wasDeclined(b, "a0") {
		t.Errorf("%d", len(r.declined))
	}
	now = now.Add(declinedFor)
	fill("b")
	if len(r.declined) != mostDeclined || !r.wasDeclined(b, "b0") || r.wasDeclined(b, "a0") {
		t.Errorf("%d", len(r.declined))
	}
}
