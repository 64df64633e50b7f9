package main

import (
	"os"
	"slices"
	"testing"
)

// The page is what the kept figures and the tests in the tree make of it.
func TestPage(t *testing.T) {
	t.Chdir("../..")
	text, err := os.ReadFile(pageFile)
	if err != nil {
		t.Fatal(err)
	}
	known, err := readRecords(figuresFile)
	if err != nil {
		t.Fatal(err)
	}
	tests, err := attackTests(".")
	if err != nil {
		t.Fatal(err)
	}
	want, err := render(string(text), known, tests)
	if err != nil {
		t.Fatal(err)
	}
	if want != string(text) {
		t.Errorf("%s is not what the figures say: `go run ./test/reliability -page` writes it", pageFile)
	}
}

// Each promise has tests and figures.
func TestPromises(t *testing.T) {
	t.Chdir("../..")
	known, err := readRecords(figuresFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range promises {
		if len(p.runs) == 0 {
			t.Errorf("%s: no test shows it", p.id)
		}
		if !slices.ContainsFunc(known, func(r record) bool { return r.Promise == p.id }) {
			t.Errorf("%s: there is no figure", p.id)
		}
	}
}

// Each attack on what there is has a test, and no test has a row that is not there.
func TestAttacks(t *testing.T) {
	t.Chdir("../..")
	tests, err := attackTests(".")
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range attacks {
		if a.row != i+1 {
			t.Errorf("row %d is in the place of row %d", a.row, i+1)
		}
		if a.pending == "" && len(tests[a.row]) == 0 {
			t.Errorf("row %d (%s): no test", a.row, a.what)
		}
		delete(tests, a.row)
	}
	for row, names := range tests {
		t.Errorf("%v: there is no row %d", names, row)
	}
}
