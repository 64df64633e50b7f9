package postgres

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
)

// TestShardsDuringMove: an account that has records all the time is among the shards, though
// it moves from a group that has not been listed yet to one that has: a move that begins and
// ends meanwhile, and one that was under way before.
func TestShardsDuringMove(t *testing.T) {
	never := func(o *Options) { o.tend = time.Hour }
	nodes, _ := twoGroups(t, never, never)
	a, b := nodes[0], nodes[1]
	const id = acct + 1
	atHomeIn(t, a, id, "k", "v")
	if err := a.loadGroups(t.Context()); err != nil {
		t.Fatal(err)
	}
	content(t, b, id)
	if err := b.loadGroups(t.Context()); err != nil {
		t.Fatal(err)
	}
	short := b.member(1).pool.short // the second group is slow to answer
	for _, begun := range []bool{false, true} {
		if err := a.Move(t.Context(), id, "second", nil); err != nil {
			t.Fatal(err)
		}
		move := func() error { return a.Move(t.Context(), id, HomeGroup, nil) }
		if begun {
			m, err := a.mover(t.Context(), id, HomeGroup)
			if err != nil {
				t.Fatal(err)
			}
			move = func() error { return a.moving(t.Context(), m) }
		}
		var slots []int
		for range cap(short) {
			slots = append(slots, <-short)
		}
		got := make(chan []engine.Shard, 1)
		go func() {
			list, err := b.Shards(t.Context())
			if err != nil {
				t.Error(err)
			}
			got <- list
		}()
		time.Sleep(300 * time.Millisecond) // home is listed
		if err := move(); err != nil {
			t.Fatal(err)
		}
		for _, s := range slots {
			short <- s
		}
		if list := <-got; !slices.Contains(list, id) || !slices.IsSorted(list) {
			t.Errorf("begun %v: the account is not among %v", begun, list)
		}
	}
}

// TestShardsOfNewGroup: a node that has not looked at the list of groups since does not leave
// out the accounts of a new one.
func TestShardsOfNewGroup(t *testing.T) {
	never := func(o *Options) { o.tend = time.Hour }
	nodes, _ := twoGroups(t, never, never) // the second node does not know of the second group
	a, b := nodes[0], nodes[1]
	putAll(t, a, acct+1, "k", "v")
	if err := a.Move(t.Context(), acct+1, "second", nil); err != nil {
		t.Fatal(err)
	}
	list, err := b.Shards(t.Context())
	if err != nil || fmt.Sprint(list) != fmt.Sprint([]engine.Shard{acct + 1}) {
		t.Errorf("%v, %v", list, err)
	}
}
