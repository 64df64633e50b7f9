package imapd

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// docs/imap.md has a row for every capability that is announced, and none of them says
// "not yet".
func TestDocumented(t *testing.T) {
	rows := readPage(t, "imap.md")
	lines, _ := newWorld(t).login("A", "").command(t, "CAPABILITY")
	for _, word := range strings.Fields(lines[0])[2:] {
		if name, _, valued := strings.Cut(word, "="); valued && rows[word] == "" {
			word = name + "="
		}
		if row, ok := rows[word]; !ok || row == "" || strings.HasPrefix(row, "not yet") {
			t.Errorf("docs/imap.md has no row for %s, or says of it %q", word, row)
		}
	}
	readPage(t, "quirks.md")
}

// Every Go test that the pages on protocols and clients name is there, in the package
// that stands before it.
func TestDocumentedTests(t *testing.T) {
	packages := map[string][]string{} // of each test
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	const root = "../../../"
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, name := range declared.FindAllStringSubmatch(string(b), -1) {
			packages[name[1]] = append(packages[name[1]], filepath.ToSlash(filepath.Dir(path)))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`(?:([a-z0-9/]+)\\.)?((?:Test|Fuzz)\\w+)`")
	for _, page := range []string{"imap.md", "pop3.md", "quirks.md", "smtp.md"} {
		b, err := os.ReadFile(root + "docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		all := named.FindAllStringSubmatch(string(b), -1)
		if len(all) == 0 {
			t.Errorf("docs/%s names no test", page)
		}
		for _, m := range all {
			if !slices.ContainsFunc(packages[m[2]], func(dir string) bool { return strings.HasSuffix("/"+dir, "/"+m[1]) || m[1] == "" }) {
				t.Errorf("docs/%s names %s, which is not there", page, m[0])
			}
		}
	}
}

// readPage reads the tables of a page and returns, by capability, what those with a
// column of capabilities say. Every transcript that they name must be there.
func readPage(t *testing.T, page string) map[string]string {
	t.Helper()
	b, err := os.ReadFile("../../../docs/" + page)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	transcript := regexp.MustCompile("`([a-z][a-z0-9_]*)`")
	shown, words := 0, 0 // columns
	for line := range strings.Lines(string(b)) {
		cells := strings.Split(line, "|")
		if len(cells) < 5 {
			continue
		}
		if i := slices.Index(cells, " shown by "); i >= 0 {
			shown, words = i, slices.Index(cells, " capability ")
		}
		if words > 0 {
			for word := range strings.SplitSeq(cells[words], ",") {
				rows[strings.TrimSpace(word)] = strings.TrimSpace(cells[words+1])
			}
		}
		if shown >= len(cells) {
			continue
		}
		for _, name := range transcript.FindAllStringSubmatch(cells[shown], -1) {
			if _, err := os.Stat("testdata/" + name[1] + ".txt"); err != nil {
				t.Errorf("docs/%s names the transcript %s: %v", page, name[1], err)
			}
		}
	}
	return rows
}
