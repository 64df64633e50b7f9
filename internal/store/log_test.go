package store

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
)

// What a long log names, in whatever order and however often, comes out as one set.
func TestGathering(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var g gathering
	want := [3]map[mail.UID]bool{{}, {}, {}}
	for range 30_000 {
		var sets [3]mail.UIDSet
		for i := range sets {
			for range rng.IntN(3) {
				uid := mail.UID(1 + rng.IntN(60_000))
				sets[i].Add(uid)
				want[i][uid] = true
			}
		}
		c := Changes{Arrived: sets[0], Changed: sets[1], Expunged: sets[2]}
		if err := g.add(c.encode(1)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range g.sets {
		if len(g.sets[i]) > 3*60_000 {
			t.Errorf("%d ranges are held for 60,000 messages", len(g.sets[i]))
		}
		got := ordered(g.sets[i])
		if got.Len() != len(want[i]) {
			t.Errorf("%d UIDs, want %d", got.Len(), len(want[i]))
		}
		for uid := range want[i] {
			if !got.Contains(uid) {
				t.Fatalf("UID %d is lost", uid)
			}
		}
		if !slices.IsSortedFunc(got, func(a, b mail.Range) int { return int(int64(a.To) + 1 - int64(b.From)) }) {
			t.Error("ranges touch or are out of order")
		}
	}
	if err := g.add([]byte("no record")); err == nil {
		t.Error("nonsense is taken for a record")
	}
}
