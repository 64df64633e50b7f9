package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
)

// most is how many round trips to the database one operation may take. Nodes ask a little by
// themselves meanwhile (signs of life, what several share): slack leaves room for that.
var most = map[string]float64{
	"delivery":                               2, // what is foreseen, and the commit
	"STORE of one flag":                      1, // the commit
	"SELECT of an open mailbox":              1, // is it still true?
	"NOOP":                                   1,
	"LOGIN":                                  2, // the login, and whether it failed too often
	"FETCH of the newest 10, FLAGS ENVELOPE": 1,
	"FETCH of a whole message":               1,
	"delivery, first after a start":          20,
	"SELECT, first after a start":            14,
}

const slack = 0.4

// TestTrips: operations ask the database as often as they may, and no more; and they ask, or
// nothing was counted.
func TestTrips(t *testing.T) {
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS=1 runs it")
	}
	if !pgtest.Installed() {
		t.Skip("postgresql is not installed")
	}
	binary, err := filepath.Abs("../../../bin/martlet")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(binary); err != nil {
		t.Skip("make build makes what is tested here: ", err)
	}
	p := plan{binary: binary}
	s, err := p.begin("two")
	if err != nil {
		t.Fatal(err)
	}
	defer s.end()
	seen := map[string]bool{}
	c := &course{plan: p, round: 1, put: func(got sample) {
		if got.Error != "" {
			t.Error(got.Case, got.Error)
			return
		}
		seen[got.Case] = true
		limit, ok := most[got.Case]
		if got.Operations > 1 {
			limit += slack
		}
		t.Logf("%-45s %.2f %v", got.Case, got.Value, got.Cores)
		if ok && got.Value > limit {
			t.Errorf("%s takes %.2f round trips, not %.0f: %v", got.Case, got.Value, most[got.Case], got.Cores)
		}
		if ok && got.Value < 0.9 {
			t.Errorf("%s takes %.2f round trips: that cannot be", got.Case, got.Value)
		}
	}}
	c.trips(context.Background(), s)
	for name := range most {
		if !seen[name] {
			t.Errorf("%s was not counted", name)
		}
	}
}
