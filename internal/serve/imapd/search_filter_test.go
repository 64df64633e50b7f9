package imapd

import (
	"fmt"
	"strings"
	"testing"
)

// Filters that multiply each other, and searches for more than can be looked for, are
// refused before anything is searched.
func TestSearchBombs(t *testing.T) {
	w := newWorld(t)
	w.deliver("INBOX", message("one"), 0)
	c := w.login("A", "")
	c.command(t, "SELECT INBOX")
	for i := range 4 {
		value := strings.Repeat(fmt.Sprintf("FILTER p%d ", i+1), 40) + "ALL"
		if i == 3 {
			value = "TEXT " + strings.Repeat("x", 1000)
		}
		if _, tagged := c.command(t, fmt.Sprintf(`SETMETADATA "" ("/private/filters/values/p%d" "%s")`, i, value)); !strings.HasPrefix(tagged, "zz OK") {
			t.Fatal(tagged)
		}
	}
	for command, want := range map[string]string{
		"SEARCH FILTER p3":                                             "zz OK",
		"SEARCH FILTER p2":                                             "zz OK",
		"SEARCH FILTER p1":                                             "zz NO [LIMIT]",
		"SEARCH FILTER p0":                                             "zz NO [LIMIT]",
		"SORT (DATE) UTF-8 " + texts("", 101):                          "zz NO [LIMIT]",
		"THREAD REFS UTF-8 " + texts("FUZZY ", 60):                     "zz NO [LIMIT]", // each is a text and a word
		"ESEARCH IN (personal) " + texts("", 101):                      "zz NO [LIMIT]",
		"SEARCH FUZZY TEXT \"" + strings.Repeat("a b ", 10_000) + "\"": "zz OK",
	} {
		if lines, tagged := c.command(t, command); !strings.HasPrefix(tagged, want) {
			t.Errorf("%.40s: %q %s, want %s", command, lines, tagged, want)
		}
	}
}

// texts returns search keys for n different texts.
func texts(before string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `%sBODY "t-%d" `, before, i)
	}
	return strings.TrimSuffix(b.String(), " ")
}
