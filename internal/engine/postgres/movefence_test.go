package postgres

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// atHomeIn gives an account a record and its place in the home group.
func atHomeIn(t *testing.T, e *Engine, id engine.Shard, pairs ...string) {
	t.Helper()
	if _, err := e.placing(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if len(pairs) > 0 {
		putAll(t, e, id, pairs...)
	}
	if placeOf(t, e, id) != 0 {
		if err := e.Move(t.Context(), id, HomeGroup, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMoverThatWakes: a mover that stood still within its first transaction on the target,
// where there is no row of the account yet, does not undo the move that another has finished
// meanwhile.
func TestMoverThatWakes(t *testing.T) {
	never := func(o *Options) { o.tend, o.Patience = time.Hour, 2*time.Second }
	nodes, _ := twoGroups(t, never, never)
	a, b := nodes[0], nodes[1]
	const id = acct + 1
	atHomeIn(t, a, id, "k", "v")
	m, err := a.mover(t.Context(), id, "second")
	if err != nil || m == nil {
		t.Fatal(m, err)
	}
	if err := a.findSides(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	runs, others := 0, make(chan error, 1)
	err = m.atRow(t.Context(), "incoming", m.to, func(r shardRow) ([]call, error) {
		if runs++; runs == 1 {
			go func() { others <- b.Move(context.Background(), id, "second", nil) }()
			select {
			case err := <-others: // nothing held it up: it is done
				others <- err
			case <-time.After(time.Second):
			}
		}
		if r.there && r.state == stateIncoming {
			return nil, nil
		}
		r.state, r.home = stateIncoming, m.to.id
		return m.set(r), nil
	})
	t.Log("the sleeper's transaction: ", err)
	if err := <-others; err != nil {
		t.Fatal("the other mover: ", err)
	}
	if got := content(t, b, id); fmt.Sprint(got) != "[k=v]" {
		t.Errorf("%v", got)
	}
	if at := placeOf(t, b, id); at != 1 {
		t.Errorf("it is in group %d", at)
	}
}

// TestRowMadeBesideMover: where an account has a place and no row yet, a node that makes the
// row is not overwritten by a mover that has just seen none: another node that knows the
// account is empty would believe that nothing has changed since.
func TestRowMadeBesideMover(t *testing.T) {
	never := func(o *Options) { o.tend, o.Patience = time.Hour, 5*time.Second }
	nodes, _ := twoGroups(t, never, never, never)
	a, b, c := nodes[0], nodes[1], nodes[2]
	const id = acct + 1
	atHomeIn(t, a, id)
	if got := content(t, c, id); len(got) > 0 {
		t.Fatal(got)
	}
	m, err := a.mover(t.Context(), id, "second")
	if err != nil || m == nil {
		t.Fatal(m, err)
	}
	if err := a.findSides(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	runs := 0
	err = m.atRow(t.Context(), "journal", m.from, func(r shardRow) ([]call, error) {
		if runs++; runs == 1 {
			// The mover holds the place's row, which b need not lock.
			putAll(t, b, id, "k", "v")
		}
		if !r.there {
			r.epoch, r.home = 1, m.from.id
		}
		r.state = stateJournal
		return m.set(r), nil
	})
	if err != nil || runs != 2 {
		t.Fatalf("%d runs, %v", runs, err)
	}
	if got := content(t, c, id); fmt.Sprint(got) != "[k=v]" {
		t.Errorf("a node that knew the account empty sees %v", got)
	}
	if err := a.AbortMove(t.Context(), id); err != nil && !fault.Is(err, fault.Busy) {
		t.Error(err)
	}
	if got := content(t, c, id); fmt.Sprint(got) != "[k=v]" {
		t.Errorf("after the abort: %v", got)
	}
}
