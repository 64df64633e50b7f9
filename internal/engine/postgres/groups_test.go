package postgres

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
)

// quick has movers and those who look after them work at the pace of tests.
func quick(url string) Options {
	o := options(url)
	o.beat, o.tend, o.poll = 20*time.Millisecond, 50*time.Millisecond, 100*time.Millisecond
	return o
}

// twoGroups opens nodes on a cluster of a home group and one that is called "second".
func twoGroups(t testing.TB, nodes ...func(*Options)) (list []*Engine, urls [2]string) {
	t.Helper()
	urls = [2]string{pgtest.Shared(t), pgtest.Shared(t)}
	for _, with := range nodes {
		o := quick(urls[0])
		with(&o)
		list = append(list, open(t, o))
	}
	if _, err := list[0].AddGroup(t.Context(), "second", urls[1]); err != nil {
		t.Fatal(err)
	}
	return list, urls
}

func plain(*Options) {}

const acct = accountShards

func putAll(t testing.TB, e *Engine, id engine.Shard, pairs ...string) {
	t.Helper()
	err := e.Update(context.Background(), id, func(w engine.Writer) error {
		for i := 0; i < len(pairs); i += 2 {
			if err := w.Put([]byte(pairs[i]), []byte(pairs[i+1])); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func content(t testing.TB, e *Engine, id engine.Shard) (lines []string) {
	t.Helper()
	err := e.View(context.Background(), id, func(r engine.Reader) error {
		lines = nil
		return r.Scan(nil, nil, false, func(k, v []byte) bool {
			lines = append(lines, string(k)+"="+string(v))
			return true
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// placeOf returns the group of an account, as the home group has it.
func placeOf(t testing.TB, e *Engine, id engine.Shard) int64 {
	t.Helper()
	place, placed, err := e.lookUp(t.Context(), id)
	if err != nil || !placed {
		t.Fatalf("shard %d has no place: %v", id, err)
	}
	return place
}

func TestMove(t *testing.T) {
	nodes, _ := twoGroups(t, plain, plain)
	a, b := nodes[0], nodes[1]
	putAll(t, a, acct+1, "k", "v", "l", "w")
	from := placeOf(t, a, acct+1)
	names := []string{HomeGroup, "second"}
	ticks, stop := b.Watch(acct + 1)
	defer stop()
	var foreign atomic.Int64
	defer b.Foreign(acct+1, func() { foreign.Add(1) })()
	for round := range 4 {
		to := names[1-from]
		plan, err := a.PlanMove(t.Context(), acct+1, to)
		if err != nil || plan.Source != names[from] || plan.Target != to || plan.KeysTotal != int64(2+round) {
			t.Fatalf("%+v, %v", plan, err)
		}
		var steps []string
		err = nodes[round%2].Move(t.Context(), acct+1, to, func(p MoveProgress) {
			if len(steps) == 0 || steps[len(steps)-1] != p.Step {
				steps = append(steps, p.Step)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(steps, " "); got != "copy verify freeze flip clean done" {
			t.Error(got)
		}
		from = 1 - from
		if at := placeOf(t, b, acct+1); at != from {
			t.Errorf("it is in group %d", at)
		}
		for i, e := range nodes {
			if got := content(t, e, acct+1); len(got) != 2+round {
				t.Errorf("round %d, node %d: %q", round, i, got)
			}
		}
		putAll(t, a, acct+1, fmt.Sprint("round", round), "x")
		<-ticks // of the move, or of this
		if got := content(t, b, acct+1); len(got) != 3+round {
			t.Errorf("round %d: %q", round, got)
		}
	}
	if foreign.Load() == 0 {
		t.Error("nobody heard of anything")
	}
	if list, err := a.Moves(t.Context()); len(list) > 0 || err != nil {
		t.Errorf("%v, %v", list, err)
	}
	for i := range int64(2) { // and it lies in one group only
		keys, _, err := a.ground(i).weigh(t.Context(), acct+1)
		if err != nil || keys != 6*b2i(i == from) {
			t.Errorf("%d keys in group %d, %v", keys, i, err)
		}
	}
}

func b2i(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
