package postgres

import (
	"fmt"
	"testing"

	"github.com/martlet-mail/martlet/internal/engine"
)

// TestWhoIsListenedTo: what is looked at from time to time is a list of those that somebody listens
// to, whatever else is in memory.
func TestWhoIsListenedTo(t *testing.T) {
	_, b, _ := beside(t)
	g := b.member(0).group
	for id := range engine.Shard(5) {
		used(t, b, id)
	}
	holds := func(what string, want string) {
		t.Helper()
		if got := fmt.Sprint(g.awaited()); got != want || len(g.heard) > 1 {
			t.Errorf("%s: %s, not %s; the list has %d", what, got, want, len(g.heard))
		}
	}
	holds("nobody listens", "[0]")
	_, one := b.Watch(3)
	other := b.Foreign(3, func() {})
	holds("two listen", "[3]")
	one()
	holds("one listens", "[3]")
	other()
	other()
	holds("nobody listens any more", "[0]")
}
