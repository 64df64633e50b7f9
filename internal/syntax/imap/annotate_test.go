package imap

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/fault"
)

func TestStoreAnnotation(t *testing.T) {
	// RFC 5257, 4.5
	for in, want := range map[string]string{
		`1 ANNOTATION (/comment (value.priv "My new comment"))`:                                                                   `1 ANNOTATION ("/comment" (value.priv "My new comment"))`,
		`1 annotation (/comment (value.shared NIL))`:                                                                              `1 ANNOTATION ("/comment" (value.shared NIL))`,
		`1 ANNOTATION (/comment (value.priv "Get tix Tuesday") /altsubject (value.priv "Wots On"))`:                               `1 ANNOTATION ("/comment" (value.priv "Get tix Tuesday") "/altsubject" (value.priv "Wots On"))`,
		`1 ANNOTATION (/comment (value.priv "My new comment" value.shared "foo's bar"))`:                                          `1 ANNOTATION ("/comment" (value.priv "My new comment") "/comment" (value.shared "foo's bar"))`,
		`1:* (UNCHANGEDSINCE 5) ANNOTATION ("/1.2/flags/seen" ("value.priv" "1") /vendor/a/b (value.shared ~{2+}` + "\r\n\x00a))": `1:* (UNCHANGEDSINCE 5) ANNOTATION ("/1.2/flags/seen" (value.priv "1") "/vendor/a/b" (value.shared ~{2+}` + "\r\n\x00a))",
	} {
		s, err := parse(in, (*Decoder).ExpectStore)
		if got := string(s.AppendText(nil)); err != nil || got != want {
			t.Errorf("%s: %s %v", in, got, err)
		}
	}
	for in, why := range map[string]string{
		`1 +ANNOTATION (/comment (value.priv "x"))`: "STORE knows", `1 ANNOTATION ()`: "an entry", `1 ANNOTATION (/comment ())`: "an attribute",
		`1 ANNOTATION (/comment (value "x"))`: "can be set", `1 ANNOTATION (/comment (size.priv "x"))`: "can be set", `1 ANNOTATION (/comment (value.priv x))`: "a value or NIL",
		`1 ANNOTATION (comment (value.priv "x"))`: "begins with /", `1 ANNOTATION (//comment (value.priv "x"))`: "empty level", `1 ANNOTATION (/comment/ (value.priv "x"))`: "empty level",
		`1 ANNOTATION ("/*" (value.priv "x"))`: "without *", `1 ANNOTATION (/0/comment (value.priv "x"))`: "a part", `1 ANNOTATION (/1..2/comment (value.priv "x"))`: "a part",
		`1 ANNOTATION (/01/comment (value.priv "x"))`: "a part", `1 ANNOTATION ("/ü" (value.priv "x"))`: "printable", `1 ANNOTATION (/comment (value.priv "x")`: "a space",
		`1 ANNOTATION (/` + strings.Repeat("a", 600) + ` (value.priv "x"))`: "512 bytes",
	} {
		_, err := parse(in, (*Decoder).ExpectStore)
		says(t, err, why)
	}
	// Well formed, and not to be had: NO.
	for _, in := range []string{`/flags/seen (value.priv "1")`, `/other (value.priv "x")`, `/vendor (value.priv "x")`, `/1 (value.priv "x")`, `/1/flags/seen (value.priv "yes")`} {
		if _, err := parse("1 ANNOTATION ("+in+")", (*Decoder).ExpectStore); !fault.Is(err, fault.Unsupported) || errors.Is(err, ErrNoteSize) {
			t.Errorf("%s: %v", in, err)
		}
	}
	for _, value := range []string{fmt.Sprintf("%q", strings.Repeat("x", MaxNoteValue+1)), fmt.Sprintf("{%d+}", MaxNoteValue+1)} {
		if _, err := parse("1 ANNOTATION (/comment (value.priv "+value, (*Decoder).ExpectStore); !errors.Is(err, ErrNoteSize) {
			t.Error(err)
		}
	}
}

func TestFetchAnnotation(t *testing.T) {
	// RFC 5257, 4.3 and 4.4
	for in, want := range map[string]string{
		`1 (ANNOTATION (/comment value))`:                             `1 (ANNOTATION (("/comment") (value.priv value.shared)))`,
		`1123 (UID ANNOTATION (/* (value.priv size.priv)))`:           `1123 (UID ANNOTATION (("/*") (value.priv size.priv)))`,
		`1 (ANNOTATION (/% value.shared))`:                            `1 (ANNOTATION (("/%") (value.shared)))`,
		`1 (ANNOTATION ((/comment /altsubject) value.priv))`:          `1 (ANNOTATION (("/comment" "/altsubject") (value.priv)))`,
		`1 ANNOTATION (* (size value size))`:                          `1 (ANNOTATION (("*") (size.priv size.shared value.priv value.shared)))`,
		`1 (ANNOTATION ("/1*/comment" value) FLAGS) (CHANGEDSINCE 1)`: `1 (ANNOTATION (("/1*/comment") (value.priv value.shared)) FLAGS) (CHANGEDSINCE 1)`,
	} {
		f, err := parse(in, (*Decoder).ExpectFetch)
		if got := string(f.AppendText(nil)); err != nil || got != want {
			t.Errorf("%s: %s %v", in, got, err)
		}
	}
	for in, why := range map[string]string{
		`1 ANNOTATION`: "a space", `1 (ANNOTATION (/comment))`: "a space", `1 ANNOTATION (() value)`: "empty list", `1 ANNOTATION (/comment ())`: "empty list",
		`1 ANNOTATION (/comment content-type)`: "no attribute", `1 ANNOTATION (/comment "")`: "no attribute", `1 ANNOTATION (comment value)`: "begins with /",
		`1 ANNOTATION ((` + many("/comment", 101) + `) value)`: "too many entries",
	} {
		_, err := parse(in, (*Decoder).ExpectFetch)
		says(t, err, why)
	}
}

func TestSearchAndSortAnnotation(t *testing.T) {
	for in, want := range map[string]string{
		`ANNOTATION /comment value "IMAP4"`:                `ANNOTATION "/comment" value "IMAP4"`, // RFC 5257, 4.8
		`ANNOTATION * value.priv "IMAP4"`:                  `ANNOTATION "*" value.priv "IMAP4"`,
		`ANNOTATION /% value.shared NIL`:                   `NOT ANNOTATION "/%" value.shared ""`,
		`NOT ANNOTATION "/1/comment" value {1+}` + "\r\na": `NOT ANNOTATION "/1/comment" value "a"`,
	} {
		s, err := parse(in, (*Decoder).ExpectSearch)
		if got := string(s.Key.AppendText(nil)); err != nil || got != want {
			t.Errorf("%s: %s %v", in, got, err)
		}
	}
	for in, why := range map[string]string{
		`ANNOTATION /comment size "1"`: "can be searched", `ANNOTATION comment value "1"`: "begins with /", `ANNOTATION /comment value ~{1+}` + "\r\n\x00": "not valid UTF-8",
	} {
		_, err := parse(in, (*Decoder).ExpectSearch)
		says(t, err, why)
	}
	in := `(ANNOTATION /altsubject value.shared REVERSE ANNOTATION /altsubject value.priv ANNOTATION /altsubject value.shared) UTF-8 ALL`
	s, err := parse(in, (*Decoder).ExpectSort)
	if got := string(s.AppendText(nil)); err != nil || got != `(ANNOTATION "/altsubject" value.shared REVERSE ANNOTATION "/altsubject" value.priv) UTF-8 ALL` {
		t.Errorf("%s %v", got, err)
	}
	for in, why := range map[string]string{
		`(ANNOTATION "/%" value.shared) UTF-8 ALL`: "without *", `(ANNOTATION /comment value) UTF-8 ALL`: "SORT orders by", `(ANNOTATION) UTF-8 ALL`: "a space",
	} {
		_, err := parse(in, (*Decoder).ExpectSort)
		says(t, err, why)
	}
	sel, err := parse("INBOX (ANNOTATE CONDSTORE)", (*Decoder).ExpectSelect)
	if err != nil || !sel.Annotate || !sel.CondStore {
		t.Error(sel, err)
	}
	got, err := parse("drafts ANNOTATION (/comment (value.priv \"Don't send until I say so\")) {3}\r\nabc (\\Seen) ANNOTATION (/comment (value.shared NIL)) UTF8 (~{1+}\r\nx)", readAppend)
	if err != nil || len(got) != 2 {
		t.Errorf("%q %v", got, err)
	}
}

func TestNotePart(t *testing.T) {
	for in, want := range map[string][]int{
		"/comment": nil, "/1/comment": {1}, "/1.2.3/flags/seen": {1, 2, 3}, "/1./x": nil, "/4294967296/x": nil, "": nil,
	} {
		if got := NotePart(in); !slices.Equal(got, want) {
			t.Errorf("%s: %v", in, got)
		}
	}
}

func FuzzAnnotation(f *testing.F) {
	for _, s := range []string{
		`(/comment (value.priv "x" value.shared NIL) /1.2/flags/seen (value.priv "1"))`, `((/comment "/%") (value size.priv))`,
		`/* value.priv "IMAP4"`, `/altsubject value.shared`, "(/vendor/x (value.priv ~{2+}\r\n\x00a))",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		if len(in) > 8192 {
			return
		}
		stable(t, "1 ANNOTATION "+in, (*Decoder).ExpectStore, func(s Store) []byte { return s.AppendText(nil) })
		stable(t, "1 ANNOTATION "+in, (*Decoder).ExpectFetch, func(f Fetch) []byte { return f.AppendText(nil) })
		stable(t, "ANNOTATION "+in, (*Decoder).ExpectSearch, func(s Search) []byte { return s.AppendText(nil) })
		stable(t, "(ANNOTATION "+in+") UTF-8 ALL", (*Decoder).ExpectSort, func(s Sort) []byte { return s.AppendText(nil) })
	})
}
