package imapd

import (
	"slices"
	"strings"
	"testing"
)

// A legacy server has every row of today, with its capabilities, and those of the past
// besides.
func TestLegacyTable(t *testing.T) {
	today, past := commands(), withLegacy(commands())
	for i, r := range today {
		if p := past[i]; p.name != r.name || p.caps != r.caps || p.in != r.in || p.writes != r.writes || p.after != r.after {
			t.Errorf("%s is %s, %s", r.name, p.name, p.caps)
		}
	}
	for _, p := range past[len(today):] {
		if p.caps != "" || slices.ContainsFunc(today, func(r row) bool { return r.name == p.name }) {
			t.Errorf("%s is there twice, or is a capability", p.name)
		}
	}
	for _, name := range imap2Commands {
		if !slices.ContainsFunc(today, func(r row) bool { return r.name == name }) {
			t.Errorf("there is no %s", name)
		}
	}
}

// Nobody who has not asked is told of capabilities, and who has is told of all.
func TestLegacyCapabilities(t *testing.T) {
	w := newWorld(t)
	w.service.Handle = w.legacy().Handle
	c := w.connect("A")
	if line, _ := c.read(t); strings.Contains(line, "[") {
		t.Errorf("greeting %q", line)
	}
	_, tagged := c.command(t, `LOGIN alice@example.org "`+password+`"`)
	if strings.Contains(tagged, "[") {
		t.Errorf("LOGIN %q", tagged)
	}
	lines, _ := c.command(t, "CAPABILITY")
	if want := "* CAPABILITY IMAP4 IMAP4rev1 IMAP4rev2 LITERAL+ " + w.imap.caps; !strings.HasPrefix(lines[0], want) {
		t.Errorf("%s, want %s", lines[0], want)
	}
}
