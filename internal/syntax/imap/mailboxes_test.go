package imap

import (
	"fmt"
	"testing"
)

func TestMultiSearch(t *testing.T) {
	for in, want := range map[string]string{
		`IN (mailboxes "folder1" subtree "folder2") unseen`:                     "[{8 [folder1]} {6 [folder2]}] NOT SEEN",
		`IN (mailboxes folder1 subtree-one folder2) subject "chad"`:             "[{8 [folder1]} {7 [folder2]}] HEADER \"SUBJECT\" \"chad\"",
		`in (selected personal mailboxes (inbox "a b")) return (count) inkey`:   "",
		`IN (mailboxes (inbox "a b") inboxes) RETURN (COUNT) CHARSET UTF-8 1:3`: "[{8 [INBOX a b]} {3 []}] RETURN (COUNT) 1:3",
		"RETURN (SAVE) ALL": "[] RETURN (SAVE) ALL",
		"1:100 TO frobozz":  "[] (1:100 TO \"frobozz\")",
	} {
		got, err := parse(in, (*Decoder).ExpectMultiSearch)
		if want == "" {
			says(t, err, "no search key inkey")
			continue
		}
		text := fmt.Sprint(got.Sources) + " " + string(got.Key.AppendText(got.appendReturn(nil)))
		if err != nil || text != want {
			t.Errorf("%s: %s, %v; want %s", in, text, err, want)
		}
	}
	for in, why := range map[string]string{
		"IN () ALL":                      "an empty choice",
		"IN (mailboxes ()) ALL":          "an empty list",
		"IN (selected-delayed) ALL":      "cannot be searched",
		"IN (everything) ALL":            "no choice of mailboxes called EVERYTHING",
		"IN (personal (maxdepth 3)) ALL": "a choice of mailboxes",
		"IN (subtree) ALL":               "a space",
		"IN (personal)":                  "a space",
	} {
		_, err := parse(in, (*Decoder).ExpectMultiSearch)
		says(t, err, why)
	}
}

func TestParseFilter(t *testing.T) {
	key, err := ParseFilter(`OR SMALLER 5000 FROM "boss@example.com"`)
	if err != nil || key.Op != SearchOr || key.CountKeys() != 3 {
		t.Errorf("%+v %v", key, err)
	}
	if key, err = ParseFilter(`SUBJECT "grün" FILTER other UNSEEN`); err != nil || key.CountKeys() != 5 {
		t.Errorf("%+v %v", key, err)
	}
	for in, why := range map[string]string{
		"":              "a search key",
		"OR SMALLER":    "a space",
		"ALL)":          "the end of the command",
		"ALL\r\nALL":    "one line",
		"FILTER a/b":    "a /",
		"CHARSET x ALL": "no search key CHARSET",
	} {
		_, err := ParseFilter(in)
		says(t, err, why)
	}
}

func FuzzMultiSearch(f *testing.F) {
	f.Add(`IN (mailboxes ("folder1" x) subtree "folder2" selected) RETURN (PARTIAL 1:5) unseen`)
	f.Add("RETURN (SAVE) FILTER on-the-road SINCE \"3-Dec-2002\"")
	f.Fuzz(func(t *testing.T, in string) {
		if len(in) > 8192 {
			return
		}
		stable(t, in, (*Decoder).ExpectMultiSearch, nil)
		if key, err := ParseFilter(in); err == nil {
			again, err := ParseFilter(string(key.AppendText(nil)))
			if err != nil || again.CountKeys() > key.CountKeys() {
				t.Fatalf("%q: %s %v", in, key.AppendText(nil), err)
			}
		}
	})
}
