package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// attack is one row of the table of attacks.
type attack struct {
	row     int
	what    string
	answer  string
	pending string // what must be built before there can be a test; "" if it is there
}

// attackName is how the test of a row is named: TestAttack01EndOfData.
var attackName = regexp.MustCompile(`^TestAttack(\d+)`)

// attackTests finds the tests of the rows in the sources under a folder.
func attackTests(root string) (map[int][]string, error) {
	found := map[int][]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != root:
			return fs.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if m := attackName.FindStringSubmatch(fn.Name.Name); m != nil {
				row, _ := strconv.Atoi(m[1])
				dir, err := filepath.Rel(root, filepath.Dir(path))
				if err != nil {
					return err
				}
				found[row] = append(found[row], filepath.ToSlash(dir)+" "+fn.Name.Name)
			}
		}
		return nil
	})
	for _, tests := range found {
		slices.Sort(tests)
	}
	return found, err
}

// attackTable is the table of the attacks.
func attackTable(tests map[int][]string) string {
	var b strings.Builder
	b.WriteString("| | Attack | What Martlet does | Test |\n|---|---|---|---|\n")
	for _, a := range attacks {
		var names []string
		for _, t := range tests[a.row] {
			names = append(names, "`"+t+"`")
		}
		shown := strings.Join(names, ", ")
		if a.pending != "" {
			shown = strings.TrimPrefix(shown+"; waits for "+a.pending, "; ")
		}
		fmt.Fprintf(&b, "| %d | %s | %s | %s |\n", a.row, a.what, a.answer, shown)
	}
	return b.String()
}
