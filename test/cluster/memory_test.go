package cluster

import (
	"strings"
	"testing"
)

// say tells a memory some lines; one that begins with SELECT begins one, OK ends it.
func say(m *memory, lines ...string) {
	selecting, again := false, false
	for _, l := range lines {
		switch {
		case strings.HasPrefix(l, "SELECT"):
			selecting, again = true, strings.Contains(l, "QRESYNC")
			m.selecting(again)
		case l == "OK":
			m.selected(again)
			selecting = false
		default:
			m.told(l, []string{tokenField + "t\r\n\r\n"}, selecting)
		}
	}
}

var three = []string{"SELECT", "* 3 EXISTS", "* OK [UIDVALIDITY 7]", "* OK [UIDNEXT 10]", "* OK [HIGHESTMODSEQ 50]", "OK",
	"* 1 FETCH (UID 2 FLAGS () MODSEQ (5))", "* 2 FETCH (UID 4 FLAGS (\\Seen) MODSEQ (6))", "* 3 FETCH (UID 9 FLAGS () MODSEQ (50))"}

// What cannot be true is noticed, and nothing else.
func TestMemoryNotices(t *testing.T) {
	for _, c := range []struct {
		name   string
		resync bool
		lines  []string
		wrong  string // "": nothing is
	}{
		{"nothing", true, nil, ""},
		{"one more", true, []string{"* 4 EXISTS", "* 4 FETCH (UID 10 FLAGS () MODSEQ (51))"}, ""},
		{"one gone", true, []string{"* VANISHED 4", "* 2 FETCH (UID 9 FLAGS (\\Seen) MODSEQ (52))"}, ""},
		{"one gone by number", false, []string{"* 2 EXPUNGE", "* 2 FETCH (UID 9 FLAGS (\\Seen) MODSEQ (52))"}, ""},
		{"a new one gone before it was asked for", true, []string{"* 5 EXISTS", "* 5 FETCH (UID 12 FLAGS () MODSEQ (53))", "* VANISHED 11", "* 4 FETCH (UID 12 FLAGS () MODSEQ (53))"}, ""},
		{"an old one gone that was not asked for, new ones there", true, []string{"SELECT", "* 3 EXISTS", "OK", "* 2 FETCH (UID 4 FLAGS (\\Seen) MODSEQ (6))", "* 5 EXISTS", "* VANISHED 2", "* 1 FETCH (UID 4 FLAGS (\\Seen) MODSEQ (6))"}, ""},
		{"resync", true, []string{"SELECT QRESYNC", "* 3 EXISTS", "* OK [HIGHESTMODSEQ 60]", "* VANISHED (EARLIER) 1:3", "* 2 FETCH (UID 9 FLAGS (\\Seen) MODSEQ (55))", "* 3 FETCH (UID 11 FLAGS () MODSEQ (60))", "OK"}, ""},

		{"fewer", true, []string{"* 2 EXISTS"}, "no expunge"},
		{"number of another", true, []string{"* 2 FETCH (UID 9 FLAGS () MODSEQ (51))"}, "and was"},
		{"number too high", true, []string{"* 4 FETCH (UID 11 FLAGS () MODSEQ (51))"}, "FETCH of 4 of 3"},
		{"out of order", true, []string{"* 4 EXISTS", "* 4 FETCH (UID 8 FLAGS () MODSEQ (51))"}, "out of order"},
		{"back", true, []string{"* VANISHED 9", "* 3 EXISTS", "* 3 FETCH (UID 9 FLAGS () MODSEQ (51))"}, "back from the dead"},
		{"modseq back", true, []string{"* 3 FETCH (UID 9 FLAGS () MODSEQ (49))"}, "goes from"},
		{"flags without modseq", true, []string{"* 3 FETCH (UID 9 FLAGS (\\Seen) MODSEQ (50))"}, "same MODSEQ"},
		{"gone that was never there", true, []string{"* VANISHED 3"}, "not there"},
		{"expunge by number", true, []string{"* 1 EXPUNGE"}, "QRESYNC on"},
		{"expunge too high", false, []string{"* 4 EXPUNGE"}, "4 EXPUNGE of 3"},
		{"another mailbox", true, []string{"SELECT QRESYNC", "* 3 EXISTS", "* OK [UIDVALIDITY 8]", "OK"}, "UIDVALIDITY"},
		{"highest back", true, []string{"SELECT QRESYNC", "* 3 EXISTS", "* OK [HIGHESTMODSEQ 40]", "OK"}, "HIGHESTMODSEQ"},
		{"next back", true, []string{"SELECT QRESYNC", "* 3 EXISTS", "* OK [UIDNEXT 9]", "OK"}, "UIDNEXT"},
		{"resync forgets one that is gone", true, []string{"SELECT QRESYNC", "* 2 EXISTS", "OK"}, "changes it tells make 3"},
		{"resync forgets a new one", true, []string{"SELECT QRESYNC", "* 4 EXISTS", "OK"}, "changes it tells make 3"},
		{"resync with the wrong number", true, []string{"SELECT QRESYNC", "* 2 EXISTS", "* VANISHED (EARLIER) 2", "* 3 FETCH (UID 9 FLAGS () MODSEQ (51))", "OK"}, "FETCH of 3 of 2"},
		{"resync with another's number", true, []string{"SELECT QRESYNC", "* 2 EXISTS", "* VANISHED (EARLIER) 2", "* 1 FETCH (UID 9 FLAGS () MODSEQ (51))", "OK"}, "which is that of UID 4"},
	} {
		m := newMemory(c.resync)
		say(m, three...)
		say(m, c.lines...)
		got := strings.Join(m.wrong, "; ")
		if c.wrong == "" && got != "" || !strings.Contains(got, c.wrong) {
			t.Errorf("%s: noticed %q, want %q", c.name, got, c.wrong)
		}
	}
}

func TestMemoryDiffers(t *testing.T) {
	is := func(lines ...string) *memory {
		m := newMemory(true)
		say(m, three...)
		say(m, lines...)
		return m
	}
	truth := is()
	for _, c := range []struct {
		name  string
		lines []string
		same  bool
	}{
		{"the same", nil, true},
		{"one too few", []string{"* VANISHED 4"}, false},
		{"one too many", []string{"* 4 EXISTS"}, false},
		{"other flags", []string{"* 3 FETCH (UID 9 FLAGS (\\Seen) MODSEQ (51))"}, false},
	} {
		if d := is(c.lines...).differs(truth); (d == "") != c.same {
			t.Errorf("%s: %q", c.name, d)
		}
	}
}
