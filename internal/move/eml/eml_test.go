package eml

import (
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move/rfc822/rfc822test"
)

func holding(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

func TestFolders(t *testing.T) {
	fsys := fstest.MapFS{
		"10.eml": holding("Subject: ten\r\n\r\nx\r\n"), "2.eml": holding("Subject: two\n\nx\n"),
		"Sent/a.eml":          holding("\xef\xbb\xbfSubject: a\n\nx\n"),
		"Sent/same.eml":       holding("Subject: a\n\nx\n"),
		"Work/2025/From.eml":  holding("From x@y Mon Jan  5 10:00:00 2026\nSubject: f\nX-Mozilla-Status: 0005\nX-Mozilla-Keys: work\n\nx\n"),
		"Work/2025/draft.EML": holding("X-Unsent: 1\nSubject: d\n\nx"),
		"Work/note.txt":       holding("no message"),
		"Work/.hidden.eml":    holding("Subject: h\n\n"),
		"Work/link.eml":       {Data: []byte("/etc/passwd"), Mode: fs.ModeSymlink},
		"mh/1":                holding("Subject: 1\n\n"), "mh/2": holding("Subject: 2\n\n"), "mh/11": holding("Subject: 11\n\n"), "mh/03": holding("no"),
		"mh/.mh_sequences":  holding("cur: 1\nunseen: 2-5\nflagged: 11 x 9-3\nreplied: 1\n"),
		"empty/nothing.eml": holding(""),
	}
	list, got, err := rfc822test.ReadAll(t.Context(), New(fsys, ".", "Imported", "eml:test"), rfc822test.Reading{})
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, m := range list {
		have = append(have, fmt.Sprintf("%s %s %d", m.Name, m.Role, m.Messages))
	}
	slices.Sort(have)
	want := []string{"Imported  2", "Sent Sent 2", "Work/2025  2", "empty  1", "mh  3"}
	if !reflect.DeepEqual(have, want) {
		t.Errorf("%q", have)
	}
	texts := func(box string) (s []string) {
		for _, m := range got[box].Got {
			s = append(s, fmt.Sprintf("%q %v %q", m.Text, m.Flags, m.Keywords))
		}
		return s
	}
	none := mail.Flags(0)
	for box, want := range map[string][]string{
		"Imported":  {fmt.Sprintf(`"Subject: two\r\n\r\nx\r\n" %v []`, none), fmt.Sprintf(`"Subject: ten\r\n\r\nx\r\n" %v []`, none)},
		"Sent":      {fmt.Sprintf(`"Subject: a\r\n\r\nx\r\n" %v []`, none), fmt.Sprintf(`"Subject: a\r\n\r\nx\r\n" %v []`, none)},
		"Work/2025": {fmt.Sprintf(`"Subject: f\r\nX-Mozilla-Status: 0005\r\nX-Mozilla-Keys: work\r\n\r\nx\r\n" %v ["work"]`, mail.Seen|mail.Flagged), fmt.Sprintf(`"X-Unsent: 1\r\nSubject: d\r\n\r\nx" %v []`, mail.Draft)},
		"mh":        {fmt.Sprintf(`"Subject: 1\r\n\r\n" %v []`, mail.Seen|mail.Answered), fmt.Sprintf(`"Subject: 2\r\n\r\n" %v []`, none), fmt.Sprintf(`"Subject: 11\r\n\r\n" %v []`, mail.Seen|mail.Flagged)},
	} {
		if have := texts(box); !reflect.DeepEqual(have, want) && box != "Work/2025" || box == "Work/2025" && len(have) != 2 {
			t.Errorf("%s: %s\nwant %s", box, strings.Join(have, "\n"), strings.Join(want, "\n"))
		}
	}
	if got["empty"].Got[0].Broken == "" {
		t.Error("an empty file is not told of")
	}
	if a, b := got["Sent"].Got[0].Key, got["Sent"].Got[1].Key; a == b || a[:32] != b[:32] {
		t.Error(a, b)
	}
	one := New(fsys, "2.eml", "Imported", "eml:test")
	if _, got, err := rfc822test.ReadAll(t.Context(), one, rfc822test.Reading{}); err != nil || len(got["Imported"].Got) != 1 {
		t.Error(err)
	}
	if _, err := New(fstest.MapFS{"x.txt": holding("x")}, ".", "", "").Mailboxes(t.Context()); err == nil {
		t.Error("a folder without mail")
	}
}

// FuzzMessage: a file is one message, whatever is in it, of the size that was told.
func FuzzMessage(f *testing.F) {
	for _, s := range []string{"Subject: x\n\ny\n", "\xef\xbb\xbfA: 1\r\n\r\n", "From x Mon Jan  5 10:00:00 2026\nA: 1\n\n", "", "X-Mozilla-Keys: a b\n"} {
		f.Add([]byte(s), "unseen: 1-3\n", "1")
	}
	f.Fuzz(func(t *testing.T, b []byte, sequences, name string) {
		fsys := fstest.MapFS{"d/1": {Data: b}, "d/.mh_sequences": holding(sequences)}
		if byNumber(name, name) != 0 || byNumber(name, "1") != -byNumber("1", name) {
			t.Fatalf("%q has no place", name)
		}
		_, got, err := rfc822test.ReadAll(t.Context(), New(fsys, ".", "x", "y"), rfc822test.Reading{})
		if err != nil || len(got["d"].Got) != 1 {
			t.Fatal(err)
		}
	})
}
