package imapsource

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/imapc"
	"github.com/martlet-mail/martlet/test/provider"
	"github.com/martlet-mail/martlet/test/provider/ledger"
)

// read returns the keys of a mailbox.
func read(t *testing.T, s *Source, m move.Mailbox) []string {
	t.Helper()
	l := ledger.New()
	must(t, s.Read(t.Context(), m, move.Reading{}, l))
	return l.Order
}

// plain has a mailbox Plain with 10 messages, the first of them marked \Deleted, and an empty one
// Empty, at a server without MOVE.
func plain(t *testing.T, hide string, command func(conn int, line string) string) (s *Source, archive, work move.Mailbox, keys []string) {
	t.Helper()
	p := provider.New(t, provider.Options{Hide: hide + " MOVE X-GM-EXT-1 IMAP4REV2", Command: command})
	user := p.Gmail(t, "carol", 10)
	s, _ = open(t, p, user, nil)
	for _, name := range []string{"Plain", "Empty"} {
		_, err := s.CreateMailbox(t.Context(), name, "", true)
		must(t, err)
	}
	archive, work = named(t, s, "Plain"), named(t, s, "Empty")
	for range 10 {
		_, err := s.Append(t.Context(), archive.Source, []imapc.Appending{{Size: int64(len(provider.Message(1))), Body: strings.NewReader(provider.Message(1))}}, nil)
		must(t, err)
	}
	keys = read(t, s, archive)
	must(t, s.SetFlags(t.Context(), archive.Source, keys[:1], imapc.AddFlags, mail.Deleted, nil))
	return s, archive, work, keys
}

// Without UIDPLUS what others have marked \Deleted stays, and it is told that what was moved is
// where it was, too.
func TestMoveThatCanOnlyMark(t *testing.T) {
	s, archive, work, keys := plain(t, "UIDPLUS", nil)
	moved, err := s.Move(t.Context(), archive.Source, keys[3:5], work.Source)
	must(t, err)
	for _, k := range keys[3:5] {
		if m, ok := moved[k]; !ok || !m.Left {
			t.Errorf("%s: %+v, told of: %v", k, m, ok)
		}
	}
	if n := len(read(t, s, work)); n != 2 {
		t.Errorf("%d copies", n)
	}
	if got := read(t, s, archive); !slices.Equal(got, keys) {
		t.Errorf("left are %v", got)
	}
	removed, err := s.Remove(t.Context(), archive.Source, keys[3:5])
	if err != nil || !removed[keys[3]].Left || len(read(t, s, archive)) != 10 {
		t.Errorf("removed %+v, %v", removed, err)
	}
}

// With it they are removed, and it is told what they are called now.
func TestMoveWithoutMove(t *testing.T) {
	s, archive, work, keys := plain(t, "", nil)
	moved, err := s.Move(t.Context(), archive.Source, keys[3:5], work.Source)
	must(t, err)
	there := read(t, s, work)
	if len(there) != 2 || moved[keys[3]] != (Moved{Key: there[0]}) || moved[keys[4]] != (Moved{Key: there[1]}) {
		t.Errorf("moved %+v, there %v", moved, there)
	}
	if got := read(t, s, archive); len(got) != 8 {
		t.Errorf("left are %v", got)
	}
}

// A connection that breaks in COPY ends the move: the copy may be there. One that breaks behind
// it has the rest done, and the move is told.
func TestMoveIsNotSentAgain(t *testing.T) {
	for _, at := range []string{"UID COPY", "UID STORE"} {
		var armed atomic.Bool
		var copies atomic.Int32
		s, archive, work, keys := plain(t, "", func(_ int, line string) string {
			if strings.HasPrefix(line, "UID COPY") {
				copies.Add(1)
			}
			if strings.HasPrefix(line, at) && armed.Swap(false) {
				return "cut"
			}
			return ""
		})
		armed.Store(true)
		moved, err := s.Move(t.Context(), archive.Source, keys[3:5], work.Source)
		if imapc.ProblemOf(err) != imapc.Lost || copies.Load() != 1 {
			t.Errorf("%s: %d times COPY, %v", at, copies.Load(), err)
		}
		want := 0
		if at == "UID STORE" {
			want = 2
		}
		if len(moved) != want || len(read(t, s, archive)) != 10-want {
			t.Errorf("%s: moved %+v, left %v", at, moved, read(t, s, archive))
		}
		for k, m := range moved {
			if m.Left || m.Key == "" {
				t.Errorf("%s: %s: %+v", at, k, m)
			}
		}
	}
}

// Where there is no Trash, one is made, and if that is refused nothing is deleted.
func TestTrashIsMade(t *testing.T) {
	for _, refused := range []bool{false, true} {
		s, archive, _, keys := plain(t, "SPECIAL-USE CREATE-SPECIAL-USE", func(_ int, line string) string {
			if refused && strings.HasPrefix(line, "CREATE") && strings.Contains(line, "Trash") {
				return "NO not here"
			}
			return ""
		})
		for source, m := range s.boxes { // as if the account had none
			if m.Role == mail.RoleTrash {
				m.Role, m.Wire = "", "Bin"
				s.boxes[source] = m
			}
		}
		moved, err := s.Trash(t.Context(), archive.Source, keys[3:5])
		if refused {
			if err == nil || !strings.Contains(err.Error(), "no Trash") || len(read(t, s, archive)) != 10 {
				t.Errorf("not made: %+v, %v", moved, err)
			}
			continue
		}
		must(t, err)
		if n := len(read(t, s, archive)); n != 8 || len(moved) != 2 || !strings.Contains(moved[keys[3]].Key, ".") {
			t.Errorf("%d left, moved %+v", n, moved)
		}
		if got := read(t, s, named(t, s, "Trash")); len(got) != 2 || got[0] != moved[keys[3]].Key {
			t.Errorf("in Trash: %v", got)
		}
	}
}
