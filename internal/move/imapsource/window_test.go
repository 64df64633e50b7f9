package imapsource

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
)

// Windows hold each UID once, at most so many, and in a command of at most so many ranges.
func TestWindows(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		var set mail.UIDSet
		uid := mail.UID(1 + rnd.IntN(50))
		for range rnd.IntN(1500) {
			to := uid + mail.UID(rnd.IntN(1+rnd.IntN(1500)))
			set.AddRange(uid, to)
			uid = to + 2 + mail.UID(rnd.IntN(5))
		}
		for _, newest := range []bool{false, true} {
			for _, dense := range []bool{false, true} {
				walk(t, set, newest, dense)
			}
		}
	}
}

func walk(t *testing.T, set mail.UIDSet, newest, dense bool) {
	t.Helper()
	w := windows{left: append(mail.UIDSet(nil), set...), newest: newest, dense: dense}
	var got mail.UIDSet
	total := 0
	for {
		next := w.next()
		if next == nil {
			break
		}
		n := next.all.Len()
		if n == 0 || n > move.MaxItems || len(next.uids) > mostRanges {
			t.Fatalf("a window of %d messages in %d ranges", n, len(next.uids))
		}
		if total += n; len(minus(next.all, next.uids)) > 0 {
			t.Fatalf("not all of %v is asked for by %v", next.all, next.uids)
		}
		for _, r := range next.all {
			got.AddRange(r.From, r.To)
		}
	}
	if got.String() != set.String() || total != set.Len() {
		t.Fatalf("%v became %v (%d of %d)", set, got, total, set.Len())
	}
}

func TestMinus(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	some := func() (set mail.UIDSet) {
		for range rnd.IntN(20) {
			from := mail.UID(1 + rnd.IntN(60))
			set.AddRange(from, from+mail.UID(rnd.IntN(6)))
		}
		return set
	}
	for range 5000 {
		a, b := some(), some()
		var want mail.UIDSet
		for u := range a.All() {
			if !b.Contains(u) {
				want.Add(u)
			}
		}
		if got := minus(a, b); got.String() != want.String() {
			t.Fatalf("%v without %v is %v, not %v", a, b, got, want)
		}
	}
	top := mail.UIDSet{{From: 5, To: 1<<32 - 1}}
	if got := minus(top, mail.UIDSet{{From: 7, To: 1<<32 - 1}}); got.String() != "5:6" {
		t.Errorf("got %v", got)
	}
}
