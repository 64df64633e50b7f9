// Package fuzz holds what docs/fuzzing.md says of the fuzz targets to the code.
package fuzz

import (
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const root = "../.."

var (
	function = regexp.MustCompile(`(?ms)^func (Fuzz\w+)\(f \*testing\.F\) \{$(.*?)^\}$`)
	row      = regexp.MustCompile("(?m)^\\| `([^`]+)` (Fuzz\\w+) \\| [^|]{10,} \\| [^|]{2,} \\|$")
)

// targets returns the body of each fuzz target, by "folder name".
func targets(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, top := range []string{"internal", "cmd", "test"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			b, err := os.ReadFile(path)
			dir, _ := filepath.Rel(root, filepath.Dir(path))
			for _, m := range function.FindAllSubmatch(b, -1) {
				all[filepath.ToSlash(dir)+" "+string(m[1])] = string(m[2])
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(all) < 60 {
		t.Fatalf("only %d targets found: the test looks in the wrong place", len(all))
	}
	return all
}

// Every fuzz target has a row in docs/fuzzing.md that says what must hold, and every row a
// target.
func TestTargetsAreWrittenDown(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "fuzzing.md"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, m := range row.FindAllSubmatch(text, -1) {
		rows = append(rows, string(m[1])+" "+string(m[2]))
	}
	slices.Sort(rows)
	want := slices.Sorted(maps.Keys(targets(t)))
	for _, name := range want {
		if !slices.Contains(rows, name) {
			t.Errorf("%s is not in docs/fuzzing.md", name)
		}
	}
	for i, name := range rows {
		if !slices.Contains(want, name) || i > 0 && rows[i-1] == name {
			t.Errorf("docs/fuzzing.md has a row too many for %s", name)
		}
	}
}

// Every target has seeds.
func TestTargetsHaveSeeds(t *testing.T) {
	for name, body := range targets(t) {
		if !strings.Contains(body, "f.Add(") {
			t.Errorf("%s has no seeds", name)
		}
		if strings.Count(body, "t.Fatal")+strings.Count(body, "t.Error") == 0 && !strings.Contains(body, "(t, ") {
			t.Errorf("%s looks for nothing but a panic", name)
		}
	}
}

// The targets of as many days as it takes are all that there are.
func TestEveryTargetHasItsTurn(t *testing.T) {
	all := targets(t)
	for _, n := range []int{5, 7, 20} {
		left := maps.Clone(all)
		for day := range (len(all) + n - 1) / n {
			out, err := exec.Command("sh", root+"/test/fuzz.sh", "turn", strconv.Itoa(n), strconv.Itoa(20_000+day)).Output()
			if err != nil {
				t.Fatal(err)
			}
			list := strings.Split(strings.TrimSpace(string(out)), "\n")
			for _, name := range list {
				if _, known := all[name]; !known {
					t.Fatalf("%q is no target", name)
				}
				delete(left, name)
			}
			if len(list) != n {
				t.Fatalf("%d of %d: %q", len(list), n, list)
			}
		}
		if len(left) > 0 {
			t.Errorf("%d a day: %v have no turn", n, slices.Sorted(maps.Keys(left)))
		}
	}
}
