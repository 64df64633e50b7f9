package postgres

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// docs/schema.md has every table with its columns, and every key of meta that there is once a
// group was added; and no others.
func TestSchemaIsWrittenDown(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "schema.md"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	columns := regexp.MustCompile(`[(,] *([a-z]+) (?:bigint|bytea|text|int)`)
	for _, made := range slices.Concat(tables, groupTables, blobTables) {
		name := strings.Fields(strings.TrimPrefix(made, "CREATE TABLE IF NOT EXISTS "))[0]
		_, row, _ := strings.Cut(text, "\n| `"+name+"` | ")
		row, _, _ = strings.Cut(row, "\n")
		found := columns.FindAllStringSubmatch(strings.ReplaceAll(made, "\n", " "), -1)
		if len(found) < 2 {
			t.Errorf("the columns of %s cannot be read", name)
		}
		for _, column := range found {
			if !strings.Contains(row, "`"+column[1]+"`") {
				t.Errorf("docs/schema.md does not have the column %s of %s", column[1], name)
			}
		}
	}

	nodes, _ := twoGroups(t, func(o *Options) { o.Run = "a" })
	putAll(t, nodes[0], 1, "a", "value")
	if err := nodes[0].Shut(t.Context(), "its keys are looked at"); err != nil {
		t.Fatal(err)
	}
	is := map[string]bool{}
	number := regexp.MustCompile(` -?[0-9]+$`)
	for id := range int64(2) {
		read, err := nodes[0].ground(id).read(t.Context(), call{&statement{"t_meta", "SELECT key FROM meta"}, nil})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range read {
			key := number.ReplaceAllString(string(r[0]), " N")
			if strings.HasPrefix(key, "fence ") {
				key = "fence N"
			}
			is[key] = true
		}
	}
	_, section, _ := strings.Cut(text, "\n| key in `meta` |")
	section, _, _ = strings.Cut(section, "\n\n")
	said := map[string]bool{}
	for _, row := range regexp.MustCompile("\n\\| `([a-z ]+)`(, [^|]*)?").FindAllStringSubmatch(section, -1) {
		key := row[1]
		if row[2] != "" {
			key += " N"
		}
		said[key] = true
	}
	if !maps.Equal(is, said) {
		t.Errorf("meta has the keys %q, docs/schema.md %q", slices.Sorted(maps.Keys(is)), slices.Sorted(maps.Keys(said)))
	}
}
