package link

import (
	"fmt"
	"slices"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// copying are servers without MOVE.
func copying(t *testing.T, fn func(t *testing.T, s *side)) {
	for _, noPlus := range []bool{false, true} {
		for _, marks := range []bool{false, true} {
			t.Run(fmt.Sprintf("noPlus=%v,marks=%v", noPlus, marks), func(t *testing.T) {
				s := newSide("INBOX", "Archive", "Trash")
				s.copies, s.noPlus, s.marks = true, noPlus, marks
				for n := range 3 {
					s.add("INBOX", letter(n), 0)
				}
				fn(t, s)
			})
		}
	}
}

// flip changes a flag of a message here, so that changes are looked for.
func (h *here) flip(t testing.TB, box string, uid mail.UID, n int) {
	op := []store.FlagOp{store.AddFlags, store.RemoveFlags}[n%2]
	if _, err := h.account().SetFlags(t.Context(), h.box(t, box), mail.SetOf(uid), store.FlagChange{Op: op, Flags: mail.Flagged}); err != nil {
		t.Fatal(err)
	}
}

// A move is copied there once, though the server can only mark what was copied, however often
// something is changed here afterwards.
func TestMovedOnceByCopies(t *testing.T) {
	copying(t, func(t *testing.T, s *side) {
		h, rule := newHere(t, steady), everything()
		accord(t, h, s, rule)
		if _, err := h.account().Move(t.Context(), h.box(t, "INBOX"), mail.SetOf(2), h.box(t, "Archive")); err != nil {
			t.Fatal(err)
		}
		for n := range 4 {
			accord(t, h, s, rule)
			h.flip(t, "INBOX", 1, n)
		}
		accord(t, h, s, rule)
		want := map[string][]string{"INBOX": {"text 0  []", "text 2  []"}, "Archive": {"text 1  []"}}
		got, _ := h.content(t)
		delete(got, "Trash")
		same(t, "here", got, want)
		same(t, "there", s.content(), want)
	})
}

// The same of a deletion: it goes into Trash there once, and stays in it.
func TestThrownOnceByCopies(t *testing.T) {
	copying(t, func(t *testing.T, s *side) {
		h, rule := newHere(t, steady), everything()
		accord(t, h, s, rule)
		if _, err := h.account().Expunge(t.Context(), h.box(t, "INBOX"), mail.SetOf(2), false); err != nil {
			t.Fatal(err)
		}
		for n := range 4 {
			accord(t, h, s, rule)
			h.flip(t, "INBOX", 1, n)
		}
		accord(t, h, s, rule)
		rest := []string{"text 0  []", "text 2  []"}
		got, _ := h.content(t)
		same(t, "here", got, map[string][]string{"INBOX": rest})
		same(t, "there", s.content(), map[string][]string{"INBOX": rest, "Trash": {"text 1  []"}})
	})
}

// A copy whose answer was lost is found, and not made again: whichever call fails.
func TestCopyWithoutAnswer(t *testing.T) {
	copying(t, func(t *testing.T, s *side) {
		h, rule := newHere(t, steady), everything()
		accord(t, h, s, rule)
		a := h.account()
		if _, err := a.Move(t.Context(), h.box(t, "INBOX"), mail.SetOf(2), h.box(t, "Archive")); err != nil {
			t.Fatal(err)
		}
		for n := range 3 {
			copies := len(s.box("Archive").list)
			for call := 1; len(s.box("Archive").list) == copies && call < 40; call++ { // fail right behind the copy
				s.failAt = s.calls + call
				if _, err := oneRound(t, h, s, rule, nil); err == nil {
					break
				}
			}
			s.failAt = 0
			h.flip(t, "INBOX", 1, n)
		}
		accord(t, h, s, rule)
		accord(t, h, s, rule)
		want := map[string][]string{"INBOX": {"text 0 \\Flagged []", "text 2  []"}, "Archive": {"text 1  []"}}
		got, _ := h.content(t)
		delete(got, "Trash")
		same(t, "here", got, want)
		same(t, "there", s.content(), want)
	})
}

// What a person copies there comes as a new message, though the original is moved here meanwhile.
func TestCopyOfAPerson(t *testing.T) {
	copying(t, func(t *testing.T, s *side) {
		h, rule := newHere(t, steady), everything()
		accord(t, h, s, rule)
		if _, err := h.account().Move(t.Context(), h.box(t, "INBOX"), mail.SetOf(2), h.box(t, "Trash")); err != nil {
			t.Fatal(err)
		}
		s.add("Archive", letter(1), 0)
		accord(t, h, s, rule)
		want := map[string][]string{"INBOX": {"text 0  []", "text 2  []"}, "Archive": {"text 1  []"}, "Trash": {"text 1  []"}}
		got, _ := h.content(t)
		same(t, "here", got, want)
		same(t, "there", s.content(), want)
	})
}

// A copy without an answer is known when its message was moved on, or put back, before it was
// seen: whichever call failed.
func TestCopyWithoutAnswerMovedOn(t *testing.T) {
	for _, to := range []string{"INBOX", "Trash"} {
		copying(t, func(t *testing.T, s *side) {
			h, rule := newHere(t, steady), everything()
			accord(t, h, s, rule)
			a := h.account()
			moved, err := a.Move(t.Context(), h.box(t, "INBOX"), mail.SetOf(2), h.box(t, "Archive"))
			if err != nil {
				t.Fatal(err)
			}
			for call := 1; len(s.box("Archive").list) == 0 && call < 40; call++ {
				s.failAt = s.calls + call
				if _, err := oneRound(t, h, s, rule, nil); err == nil {
					t.Fatal("nothing failed")
				}
			}
			s.failAt = 0
			if _, err := a.Move(t.Context(), h.box(t, "Archive"), mail.SetOf(moved[0].To), h.box(t, to)); err != nil {
				t.Fatal(err)
			}
			accord(t, h, s, rule)
			want := map[string][]string{"INBOX": {"text 0  []", "text 2  []"}}
			want[to] = append(want[to], "text 1  []")
			slices.Sort(want[to])
			got, _ := h.content(t)
			same(t, "here", got, want)
			same(t, "there", s.content(), want)
		})
	}
}
