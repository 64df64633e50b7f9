package cluster

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// A row is not as was promised for each thing that was promised, and says so.
func TestRows(t *testing.T) {
	good := func() Row {
		return Row{Name: "x", Held: time.Second, Figures: Figures{Acked: 30, Later: 2, Gap: 3 * time.Second}, Sessions: 9, Result: Result{Drops: []drop{{"node1", "a", "EOF"}, {"node1", "a", "EOF"}}}, Ended: 2}
	}
	if r := good(); !r.OK() || r.line() != "| x | 1.0 s | 3.0 s | 30 | 2 | 0 | 0 | 8 | 2 (2 with their node) | 0 | 0 | 0 | 0.0 s |\n" {
		t.Errorf("%v %q", r.OK(), r.line())
	}
	for name, spoil := range map[string]func(*Row){
		"lost": func(r *Row) { r.Lost = []string{"a"} }, "doubled": func(r *Row) { r.Doubled = []string{"a"} }, "strange": func(r *Row) { r.Strange = []string{"a"} },
		"untrue": func(r *Row) { r.Untrue = []string{"a"} }, "late": func(r *Row) { r.Late = []string{"a"} }, "5xx": func(r *Row) { r.Refused = []string{"a"} },
		"not whole": func(r *Row) { r.Err = errors.New("no primary") }, "noticed": func(r *Row) { r.Smooth = true },
	} {
		r := good()
		was := r.line()
		if spoil(&r); r.OK() || r.line() == was && name != "noticed" {
			t.Errorf("%s: %q", name, r.line())
		}
	}
	seen := map[string]bool{}
	for _, f := range append(Faults(), Control()) {
		if seen[f.Name] || strings.Contains(f.Name, "|") {
			t.Errorf("%q is there twice, or breaks the table", f.Name)
		}
		seen[f.Name] = true
	}
}
