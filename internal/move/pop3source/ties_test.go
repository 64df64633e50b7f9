package pop3source

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
)

// ledger is an account: what was brought, by key.
type ledger struct {
	ties map[string]*move.Looked
	last int
}

func (l *ledger) Look(_ context.Context, _ move.Box, keys []string) ([]move.Looked, error) {
	out := make([]move.Looked, len(keys))
	for i, k := range keys {
		if t := l.ties[k]; t != nil {
			out[i] = *t
		}
	}
	return out, nil
}

func (l *ledger) Change(_ context.Context, _ move.Box, list []move.Change) error {
	for _, c := range list {
		if t := l.ties[c.Key]; t != nil && l.ties[c.NewKey] == nil {
			delete(l.ties, c.Key)
			l.ties[c.NewKey] = t
		}
	}
	return nil
}

func (l *ledger) tie(key, text string) {
	var sum move.Summer
	_, _ = io.WriteString(&sum, strings.ReplaceAll(text, "\n", "\r\n"))
	l.last++
	l.ties[key] = &move.Looked{Tie: &move.Tie{Key: key, Message: mail.MessageID(l.last), Size: sum.Size(), Content: sum.Content()}, Now: &move.Now{}}
}

// bringer brings what is not tied.
type bringer struct {
	move.Visitor
	*ledger
	got []string
}

func (b *bringer) Want(_ context.Context, items []move.Item) ([]bool, error) {
	want := make([]bool, len(items))
	for i := range items {
		want[i] = b.ties[items[i].Key] == nil
	}
	return want, nil
}

func (b *bringer) Put(_ context.Context, item move.Item, r io.Reader) error {
	text, err := io.ReadAll(r)
	b.tie(item.Key, strings.ReplaceAll(string(text), "\r\n", "\n"))
	b.got = append(b.got, strings.SplitN(string(text), "\r\n", 2)[0])
	return err
}

// bring has one session read, and remove what it was told to; all: what is tied, too.
func bring(t *testing.T, srv *server, l *ledger, all bool) (got []string, removed int) {
	t.Helper()
	s := srv.source(func(o *Options) { o.Ties = l })
	defer s.Close()
	b := &bringer{ledger: l}
	list, err := s.Mailboxes(t.Context())
	if err == nil {
		err = s.Read(t.Context(), list[0], move.Reading{}, b)
	}
	var keys []string
	for k := range l.ties {
		keys = append(keys, k)
	}
	if err == nil && all {
		removed, err = s.Remove(t.Context(), "INBOX", keys)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.got, removed
}

// A server gives the name of a message that is gone to another one (RFC 1939, 7). That one is
// brought, and is not removed before it is.
func TestNamesAreGivenAgain(t *testing.T) {
	first, longer, other := "Subject: first\n\na\n", "Subject: longer\n\nanother message\n", "Subject: longer\n\nANOTHER message\n"
	for name, c := range map[string]struct {
		second string
		looks  int // until it is here
	}{
		"of another size":             {longer, 1},
		"of the same size":            {"Subject: fIRST\n\na\n", 2},
		"removed by us, as the first": {other, 1},
	} {
		srv := (&server{capas: []string{"UIDL", "USER", "TOP", "PIPELINING"}, mail: []string{first}}).start(t)
		l := &ledger{ties: map[string]*move.Looked{}}
		ours := strings.Contains(name, "by us")
		if got, removed := bring(t, srv, l, ours); len(got) != 1 || removed != map[bool]int{true: 1}[ours] {
			t.Errorf("%s: %q, %d removed", name, got, removed)
		}
		if n := strings.Count(srv.commands(), "RETR"); n != 1 {
			t.Errorf("%s: what was read in the session is read %d times", name, n)
		}
		srv.mu.Lock()
		srv.mail, srv.removed = []string{c.second}, nil
		srv.mu.Unlock()
		for look := 1; look <= c.looks; look++ {
			got, removed := bring(t, srv, l, true)
			if here := look == c.looks; here != (len(got) == 1 && removed == 1) || !here && (len(got) > 0 || removed > 0 || srv.gone() != "[]") {
				t.Errorf("%s: look %d brought %q and removed %s", name, look, got, srv.gone())
			}
		}
		if got, removed := bring(t, srv, l, false); len(got) != 1 || removed != 0 { // the control: the name is free again
			t.Errorf("%s: after that %q, %d removed", name, got, removed)
		}
	}
}

// Only what is in the account is removed; what its owner has deleted here stays there, and so
// does what nobody knows. What an earlier session has brought is read again before.
func TestRemovedIfHere(t *testing.T) {
	srv := (&server{capas: []string{"UIDL", "USER"}, mail: some}).start(t)
	l := &ledger{ties: map[string]*move.Looked{}}
	l.tie("u1", some[0])
	l.tie("u2", some[1])
	l.ties["u2"].Now = nil
	s := srv.source(func(o *Options) { o.Ties = l })
	n, err := s.Remove(t.Context(), "INBOX", []string{"u1", "u2", "u3", "u99"})
	if err != nil || n != 1 || srv.gone() != "[1]" || l.ties["u1"] != nil || l.ties["u2"] == nil {
		t.Errorf("%d, %v, %s", n, err, srv.gone())
	}
	if said := srv.commands(); !strings.Contains(said, "RETR 1") || strings.Contains(said, "RETR 2") {
		t.Errorf("said %q", said)
	}
	if _, err := srv.source(nil).Remove(t.Context(), "INBOX", []string{"u3"}); err == nil || srv.gone() != "[1]" {
		t.Errorf("without ties: %v, %s", err, srv.gone())
	}
}

// A server whose sizes are guesses is not read again and again, and nothing comes twice.
func TestSizesThatAreGuesses(t *testing.T) {
	srv := (&server{capas: []string{"UIDL", "USER"}}).start(t)
	list := "+OK\r\n"
	l := &ledger{ties: map[string]*move.Looked{}}
	for i := range 40 {
		srv.mail = append(srv.mail, fmt.Sprintf("Subject: %d\n\ntext\n", i))
		list += fmt.Sprintf("%d %d\r\n", i+1, 1000+i)
	}
	srv.answer = map[string]string{"LIST": list + ".\r\n"}
	if got, _ := bring(t, srv, l, false); len(got) != 40 {
		t.Fatalf("%d", len(got))
	}
	before := strings.Count(srv.commands(), "RETR")
	if got, _ := bring(t, srv, l, false); len(got) != 0 || strings.Count(srv.commands(), "RETR") != before+mostDoubts {
		t.Errorf("brought %q, said %q", got, srv.commands())
	}
	if _, removed := bring(t, srv, l, true); removed != 40 {
		t.Errorf("%d removed", removed)
	}
}

// Nor is one whose messages read otherwise each time, such as with the hour in their header.
func TestSizesThatAreGuessesOfTextsThatChange(t *testing.T) {
	for _, guess := range []int64{1000, 0} { // 0: the control, sizes that are right
		l := &ledger{ties: map[string]*move.Looked{}}
		for hour := range 4 {
			srv, list := &server{capas: []string{"UIDL", "USER", "PIPELINING"}}, "+OK\r\n"
			for i := range 40 {
				text := fmt.Sprintf("X-Hour:%s\nSubject: %d\n\ntext\n", strings.Repeat(" x", hour), i)
				srv.mail = append(srv.mail, text)
				list += fmt.Sprintf("%d %d\r\n", i+1, cmp.Or(guess, int64(len(text)+strings.Count(text, "\n"))))
			}
			srv.answer = map[string]string{"LIST": list + ".\r\n"}
			got, _ := bring(t, srv.start(t), l, false)
			n := strings.Count(srv.commands(), "RETR")
			if again := hour > 0 && guess > 0; again && (len(got) != 0 || n != mostDoubts) || !again && len(got) != 40 {
				t.Errorf("sizes of %d: hour %d brought %d, and read %d", guess, hour, len(got), n)
			}
		}
	}
}

// What many sessions have brought is not all read again for one removal: the rest goes the next time.
func TestRemovedByAndBy(t *testing.T) {
	const more = 7
	srv := &server{capas: []string{"UIDL", "USER", "PIPELINING"}}
	l := &ledger{ties: map[string]*move.Looked{}}
	var keys []string
	for i := range mostReread + more {
		srv.mail = append(srv.mail, fmt.Sprintf("Subject: %d\n\n", i))
		keys = append(keys, fmt.Sprintf("u%d", i+1))
		l.tie(keys[i], srv.mail[i])
	}
	srv.start(t)
	for _, want := range []int{mostReread, more} {
		s := srv.source(func(o *Options) { o.Ties = l })
		if n, err := s.Remove(t.Context(), "INBOX", keys); err != nil || n != want || len(srv.removed) != want {
			t.Errorf("%d of %d removed, %v", n, want, err)
		}
		srv.mu.Lock()
		if len(srv.removed) == mostReread { // the test server keeps all: their names mean nothing any more
			srv.removed = nil
		}
		srv.mu.Unlock()
	}
}
