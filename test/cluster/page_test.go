package cluster

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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

// The command beside each fault runs that fault and no other, as a shell reads it.
func TestCommands(t *testing.T) {
	all := append(Faults(), Control())
	for _, f := range all {
		which, ok := strings.CutSuffix(f.command(), " make test-cluster")
		if !ok {
			t.Fatal(f.command())
		}
		out, err := exec.Command("sh", "-c", which+" printenv MARTLET_FAULTS").Output()
		if err != nil {
			t.Fatalf("%s: %v", which, err)
		}
		chosen := regexp.MustCompile(strings.TrimSuffix(string(out), "\n"))
		for _, other := range all {
			if chosen.MatchString(other.Name) != (other.Name == f.Name) {
				t.Errorf("%s is wrong about %q", which, other.Name)
			}
		}
	}
}

// The page is as this code writes it, has every fault, and writing a row leaves the others.
func TestPage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root(), pageFile))
	if err != nil {
		t.Fatal(err)
	}
	_, is, _, err := partsOf(string(page))
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(is, "\n")
	rows := rowsOf(is)
	if want := table(head, rows); is != want {
		t.Errorf("the table should be\n%s", want)
	}
	for _, f := range append(Faults(), Control()) {
		if rows[f.Name] == "" {
			t.Errorf("%q has no row", f.Name)
		}
	}
	for name, row := range rows {
		if n := strings.Count(row, " | "); n != 12 || strings.Contains(row, "MARTLET_FAULTS") {
			t.Errorf("%s: %q", name, row)
		}
	}
}
