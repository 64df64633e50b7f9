package imap

import (
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"

	"github.com/martlet-mail/martlet/internal/fault"
)

func TestSort(t *testing.T) {
	for in, want := range map[string]string{
		"(SUBJECT) UTF-8 SINCE 1-Feb-1994":                        "(SUBJECT) UTF-8 SINCE 1-Feb-1994",
		"(SUBJECT REVERSE DATE) utf-8 ALL":                        "(SUBJECT REVERSE DATE) UTF-8 ALL",
		`(subject) US-ASCII TEXT "not in mailbox"`:                `(SUBJECT) UTF-8 TEXT "not in mailbox"`,
		"(SUBJECT REVERSE SUBJECT CC) UTF-8 1":                    "(SUBJECT CC) UTF-8 1",
		"RETURN () (REVERSE DATE) UTF-8 UNDELETED UNSEEN":         "RETURN (ALL) (REVERSE DATE) UTF-8 (NOT DELETED NOT SEEN)",
		"RETURN (PARTIAL 4:2) (RELEVANCY) UTF-8 FUZZY TEXT World": `RETURN (PARTIAL 2:4) (RELEVANCY) UTF-8 FUZZY TEXT "World"`,
		"RETURN (MIN PARTIAL -1:-5) (DISPLAYTO) \"UTF-8\" 1":      "RETURN (MIN PARTIAL -1:-5) (DISPLAYTO) UTF-8 1",
		"(TO) KOI8-R SUBJECT {2+}\r\n\xf0\xd2":                    `(TO) UTF-8 HEADER "SUBJECT" "Пр"`,
	} {
		got, err := parse(in, (*Decoder).ExpectSort)
		if s := string(got.AppendText(nil)); err != nil || s != want {
			t.Errorf("%s: %s, %v; want %s", in, s, err, want)
		}
	}
	for in, why := range map[string]string{
		"() UTF-8 ALL":                                          "needs a criterion",
		"(SUBJECT) UTF-8":                                       "a space",
		"(REVERSE) UTF-8 ALL":                                   "a space",
		"(REVERSE REVERSE DATE) UTF-8 ALL":                      "no sort criterion REVERSE",
		"(WEIGHT) UTF-8 ALL":                                    "no sort criterion WEIGHT",
		"SUBJECT UTF-8 ALL":                                     "expected RETURN",
		"RETURN (ALL PARTIAL 1:2) (DATE) UTF-8 ALL":             "exclude each other",
		"RETURN (PARTIAL 1) (DATE) UTF-8 ALL":                   "':'",
		"RETURN (PARTIAL 1:*) (DATE) UTF-8 ALL":                 "a number",
		"RETURN (PARTIAL 0:1) (DATE) UTF-8 ALL":                 "counted from 1",
		"RETURN (PARTIAL -1:-2 PARTIAL 1:2) (DATE) UTF-8 ALL":   "one PARTIAL",
		"(" + strings.Repeat("DATE ", 3000) + "DATE) UTF-8 ALL": "more than 2000",
	} {
		_, err := parse(in, (*Decoder).ExpectSort)
		says(t, err, why)
	}
}

func TestThread(t *testing.T) {
	for in, want := range map[string]string{
		"ORDEREDSUBJECT UTF-8 SINCE 5-MAR-2000": "ORDEREDSUBJECT UTF-8 SINCE 5-Mar-2000",
		`references US-ASCII TEXT "gewp"`:       `REFERENCES UTF-8 TEXT "gewp"`,
		"REFS UTF-8 ALL":                        "REFS UTF-8 ALL",
	} {
		got, err := parse(in, (*Decoder).ExpectThread)
		if s := string(got.AppendText(nil)); err != nil || s != want {
			t.Errorf("%s: %s, %v; want %s", in, s, err, want)
		}
	}
	_, err := parse("JWZ UTF-8 ALL", (*Decoder).ExpectThread)
	says(t, err, "no threading algorithm JWZ")
	if _, err := parse("REFS X-NONE ALL", (*Decoder).ExpectThread); !fault.Is(err, fault.Unsupported) {
		t.Error(err)
	}
}

func TestPartialRange(t *testing.T) {
	for _, c := range []struct {
		in          string
		n, from, to int
	}{
		{"1:3", 10, 0, 3}, {"9:12", 10, 8, 10}, {"11:12", 10, 10, 10}, {"1:1", 0, 0, 0}, {"5:10", 2, 2, 2},
		{"-1:-3", 10, 7, 10}, {"-9:-12", 10, 0, 2}, {"-11:-12", 10, 0, 0},
		{"4294967295:1", 5, 0, 5}, {"-4294967295:-4294967295", 5, 0, 0},
	} {
		r, err := parse(c.in, func(d *Decoder, r *PartialRange) bool { return d.expectPartial(r) })
		if err != nil {
			t.Fatal(c.in, err)
		}
		if from, to := r.Of(c.n); to-from != c.to-c.from || to > from && from != c.from || from < 0 || to > c.n {
			t.Errorf("%s of %d: %d to %d", c.in, c.n, from, to)
		}
	}
}

func TestFold(t *testing.T) {
	for _, c := range [][2]string{
		{"abc_Z", "ABC_Z"},
		{"Grüße", "GRU\u0308ßE"}, // sharp s has no title case of one character
		{"σς", "ΣΣ"},
		{"\u01c4", "Dz\u030c"}, // the example of RFC 5051, 2
		{"ﬁ", "fi"},            // taken apart after the change of case, as the RFC has it
		{"é", "E\u0301"}, {"e\u0301", "E\u0301"},
	} {
		if got := Fold(c[0]); got != c[1] {
			t.Errorf("%q: %q, want %q", c[0], got, c[1])
		}
	}
	for _, c := range []string{"plain ascii", "mixed Ünicode and more", "e\u0323\u0307", "\u0307\u0323"} {
		if got := string(AppendFold([]byte("x\u0307"), []byte(c))); got != "x\u0307"+Fold(c) {
			t.Errorf("%q: %q", c, got)
		}
	}
}

func FuzzFold(f *testing.F) {
	f.Add("straße Σς ǆ e\u0301 \u0307\u0323")
	f.Add("@ABYZ[\\`abyz{|\x7f\x00 and more than eight bytes of it`{az")
	f.Fuzz(func(t *testing.T, s string) {
		folded := Fold(s)
		if s == strings.ToValidUTF8(s, "") && !norm.NFKD.IsNormalString(folded) {
			t.Errorf("%q: %q is not taken apart", s, folded)
		}
		if plain := string(appendFoldRunes(nil, []byte(s))); folded != plain {
			t.Errorf("%q: %q, rune by rune %q", s, folded, plain)
		}
		if len(folded) > 64*len(s) {
			t.Errorf("%q grows to %d bytes", s, len(folded))
		}
	})
}

func FuzzSortThread(f *testing.F) {
	f.Add(true, "RETURN (PARTIAL -1:-5 COUNT) (REVERSE DISPLAYFROM DATE) UTF-8 FUZZY (TEXT a YOUNGER 5)")
	f.Add(true, "(ARRIVAL SIZE CC) KOI8-R SUBJECT {2+}\r\n\xf0\xd2")
	f.Add(false, "REFERENCES UTF-8 OR SAVEDON 1-Jan-2020 NOT SAVEDATESUPPORTED")
	f.Fuzz(func(t *testing.T, sort bool, in string) {
		if len(in) > 8192 {
			return
		}
		if sort {
			stable(t, in, (*Decoder).ExpectSort, func(s Sort) []byte { return s.AppendText(nil) })
		} else {
			stable(t, in, (*Decoder).ExpectThread, func(s Thread) []byte { return s.AppendText(nil) })
		}
	})
}
