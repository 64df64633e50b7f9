package link

import (
	"fmt"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
)

// following is a rule of which nothing goes to the source.
func following() *Rule {
	r := everything()
	r.BothWays, r.DeleteAtSource = false, false
	return r
}

// The first run is killed before it keeps how far it came. What is moved there meanwhile is
// moved here, what is deleted goes into Trash.
func TestFirstRunCutShort(t *testing.T) {
	for at := 1; ; at++ {
		h, s := newHere(t, steady), newSide("INBOX", "Work", "Trash")
		for i := range 4 {
			s.add("INBOX", letter(i), mail.Seen)
		}
		calls := 0
		_, err := oneRound(t, h, s, following(), func(to move.Target) move.Target { return cutTarget{to.(*move.Local), &calls, at} })
		if err == nil {
			if at < 3 {
				t.Errorf("%d calls only", at)
			}
			return
		}
		got, _ := h.content(t)
		came := len(got["INBOX"]) > 0
		s.Lock()
		s.transfer(s.box("INBOX"), 0, s.box("Work"))
		s.remove(s.box("INBOX"), 0)
		s.Unlock()
		accord(t, h, s, following())
		got, _ = h.content(t)
		if came {
			if len(got["Trash"]) != 1 {
				t.Errorf("cut at call %d: in Trash %q", at, got["Trash"])
			}
			delete(got, "Trash")
		}
		same(t, fmt.Sprint("cut at call ", at), got, s.content())
	}
}

// A mailbox with a message that can never be read has no state. It is kept in step all the same.
func TestBrokenMessageForEver(t *testing.T) {
	h, s := newHere(t, steady), newSide("INBOX", "Work", "Trash")
	for i := range 5 {
		s.add("INBOX", letter(i), mail.Seen)
	}
	s.broken = s.box("INBOX").key(2)
	accord(t, h, s, following())
	s.Lock()
	s.transfer(s.box("INBOX"), 0, s.box("Work")) // text 0
	s.remove(s.box("INBOX"), 2)                  // text 3
	s.Unlock()
	for range 3 {
		accord(t, h, s, following())
	}
	got, _ := h.content(t)
	if len(got["INBOX"]) != 2 || len(got["Work"]) != 1 || len(got["Trash"]) != 1 {
		t.Errorf("here %q, there %q", got, s.content())
	}
}

// What a server leaves out of its lists is not taken for gone, and nothing of it comes twice
// when it lists all again.
func TestListsLess(t *testing.T) {
	for _, hides := range []bool{true, false} { // false: the control
		h, s := newHere(t, steady), newSide("INBOX", "Work", "Trash")
		for i := range 4 {
			s.add("INBOX", letter(i), mail.Seen)
		}
		b := s.box("INBOX")
		s.broken = b.key(2) // so that there is no state
		accord(t, h, s, following())
		left := *b.list[0]
		if s.hidden = b.key(1); !hides {
			s.remove(b, 0)
		}
		accord(t, h, s, following())
		got, _ := h.content(t)
		if want := map[bool]int{true: 0, false: 1}[hides]; len(got["Trash"]) != want {
			t.Errorf("hides %v: in Trash %q", hides, got["Trash"])
		}
		if s.hidden = ""; !hides {
			s.Lock()
			s.insert(b, &left)
			s.Unlock()
		}
		s.broken = ""
		accord(t, h, s, following())
		got, _ = h.content(t)
		same(t, "all is listed again", got, s.content())
	}
}

// What is left out of a list of what is new comes when it is listed.
func TestNewAndNotListed(t *testing.T) {
	h, s := newHere(t, steady), newSide("INBOX", "Work", "Trash")
	s.add("INBOX", letter(1), 0)
	accord(t, h, s, following())
	s.add("INBOX", letter(2), 0)
	s.add("INBOX", letter(3), 0)
	s.hidden = s.box("INBOX").key(2)
	accord(t, h, s, following())
	got, _ := h.content(t)
	if len(got["INBOX"]) != 2 { // the control
		t.Errorf("%q", got)
	}
	s.hidden = ""
	accord(t, h, s, following())
	got, _ = h.content(t)
	same(t, "all is listed", got, s.content())
}

// A mailbox made anew is known again although not all of it is listed.
func TestRenewedListsLess(t *testing.T) {
	h, s := newHere(t, steady), newSide("INBOX", "Work", "Trash")
	for i := range 8 {
		s.add("INBOX", letter(i), mail.Seen)
	}
	accord(t, h, s, following())
	s.renew("INBOX")
	s.hidden = s.box("INBOX").key(3)
	if r := accord(t, h, s, following()); r.Brought != 0 || r.Thrown != 0 {
		t.Errorf("%+v", r)
	}
}
