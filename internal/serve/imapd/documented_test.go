package imapd

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// docs/imap.md has a row for every capability that is announced, none of them says
// "not yet", and every transcript it names is there.
func TestDocumented(t *testing.T) {
	b, err := os.ReadFile("../../../docs/imap.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{} // what is said of a capability
	transcript := regexp.MustCompile("`([a-z][a-z0-9_]*)`")
	var shown int // the column of a table that names transcripts
	for line := range strings.Lines(string(b)) {
		cells := strings.Split(line, "|")
		if i := slices.Index(cells, " shown by "); i >= 0 {
			shown = i
		}
		if len(cells) < 5 || shown >= len(cells) {
			continue
		}
		if shown == 4 {
			for word := range strings.SplitSeq(cells[2], ",") {
				rows[strings.TrimSpace(word)] = strings.TrimSpace(cells[3])
			}
		}
		for _, name := range transcript.FindAllStringSubmatch(cells[shown], -1) {
			if _, err := os.Stat("testdata/" + name[1] + ".txt"); err != nil {
				t.Errorf("docs/imap.md names the transcript %s: %v", name[1], err)
			}
		}
	}
	w := newWorld(t)
	lines, _ := w.login("A", "").command(t, "CAPABILITY")
	for _, word := range strings.Fields(lines[0])[2:] {
		if name, _, valued := strings.Cut(word, "="); valued && rows[word] == "" {
			word = name + "="
		}
		if row, ok := rows[word]; !ok || row == "" || strings.HasPrefix(row, "not yet") {
			t.Errorf("docs/imap.md has no row for %s, or says of it %q", word, row)
		}
	}
}
