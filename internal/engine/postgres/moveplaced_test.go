package postgres

import (
	"testing"
	"time"
)

// TestMoveBesidePlacing: an account that another node places elsewhere, while Move is about to
// give it its first place, is moved.
func TestMoveBesidePlacing(t *testing.T) {
	nodes, _ := twoGroups(t, func(o *Options) { o.tend = time.Hour })
	a := nodes[0]
	const id = acct + 10
	moved := make(chan error, 1)
	place := []call{{stAddPlace, []any{int64(id), int64(0)}}}
	err := a.ground(0).tx(t.Context(), place, func(rows) ([]call, error) {
		go func() { moved <- a.Move(t.Context(), id, "second", nil) }()
		time.Sleep(300 * time.Millisecond) // it sees no place, and waits for this one
		return nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-moved; err != nil {
		t.Error(err)
	}
	if at := placeOf(t, a, id); at != 1 {
		t.Errorf("the account is in group %d after its move", at)
	}
}
