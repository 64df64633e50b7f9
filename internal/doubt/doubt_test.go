package doubt

import (
	"slices"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

var (
	begin   = time.Unix(1_800_000_000, 0)
	unknown = fault.New(fault.Unknown, "nobody knows")
	first   = Try{Key: "first"}
	second  = Try{"second", 7}
)

// numbered is one of many.
func numbered(i int) What {
	return What{Sent: [32]byte{1, byte(i), byte(i >> 8), byte(i >> 16)}, To: "1"}
}

// alone returns the list of a process alone, and its clock.
func alone() (*List, *time.Time) {
	now := begin
	return New(Options{Now: func() time.Time { return now }}), &now
}

func wants(t *testing.T, l *List, what What, want ...Try) {
	t.Helper()
	if got := l.Earlier(what); !slices.Equal(got, want) {
		t.Errorf("%v is known, not %v", got, want)
	}
}

// What is remembered of doubtful deliveries is bounded, in number and in time, and goes with
// the first certain outcome.
func TestDoubtsAreFew(t *testing.T) {
	l, now := alone()
	for i := range maxDoubts + 100 {
		l.Note(numbered(i), first, unknown)
	}
	if len(l.here) != maxDoubts || l.old.Len() != maxDoubts {
		t.Errorf("%d and %d are remembered", len(l.here), l.old.Len())
	}
	wants(t, l, numbered(0))
	last := numbered(maxDoubts + 99)
	wants(t, l, last, first)
	*now = begin.Add(doubtFor)
	wants(t, l, last)
	*now = begin
	l.Note(last, second, fault.New(fault.Unavailable, "not now"))
	wants(t, l, last, first)
	l.Note(last, second, unknown)
	wants(t, l, last, first, second)
	for range 2 {
		for i := range maxTries + 1 {
			l.Note(last, Try{Part: uint64(i)}, unknown)
		}
	}
	if got := l.Earlier(last); len(got) != maxTries {
		t.Errorf("%d tries of one are remembered", len(got))
	}
	l.Note(last, second, nil)
	wants(t, l, last)
	l.Note(What{}, first, unknown)
	wants(t, l, What{})
	for i := range maxDoubts + 100 {
		l.Note(numbered(i), first, nil)
	}
	if l.some.Load() || len(l.here)+l.old.Len()+len(l.news) != 0 {
		t.Error("nothing is in doubt, and something is remembered")
	}
}

// What is in doubt again and again takes no more room than what is so once: it makes nothing be
// forgotten, least of all itself. What is too old goes.
func TestDoubtAgain(t *testing.T) {
	l, now := alone()
	once, often := numbered(1), numbered(2)
	l.Note(once, first, unknown)
	for range 2 * maxDoubts {
		l.Note(often, first, unknown)
		l.Note(often, first, nil) // he has it, and the client is told to come again
	}
	l.Note(often, first, unknown)
	wants(t, l, once, first)
	wants(t, l, often, first)
	*now = begin.Add(doubtFor)
	l.Note(often, second, unknown)
	wants(t, l, often, second)
	if len(l.here) != 1 || l.old.Len() != 1 {
		t.Errorf("%d and %d are remembered", len(l.here), l.old.Len())
	}
}

// Another place, sender or message is another.
func TestOthersAreNotInDoubt(t *testing.T) {
	l, _ := alone()
	what := numbered(1)
	l.Note(what, first, unknown)
	for _, change := range []func(*What){
		func(w *What) { w.Sent[31] = 1 }, func(w *What) { w.To = "2" }, func(w *What) { w.From.Local = "x" }, func(w *What) { w.From.Domain = "x" },
	} {
		other := what
		change(&other)
		wants(t, l, other)
	}
	wants(t, l, what, first)
}
