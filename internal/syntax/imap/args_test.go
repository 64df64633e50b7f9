package imap

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

func TestSeqSet(t *testing.T) {
	for in, want := range map[string]string{ // of 10 messages
		"1": "1", "*": "10", "1:*": "1:10", "*:4,5:7": "4:10", "2,4:7,9,12:*": "2,4:7,9:12",
		"3291:*": "10:3291", "4:2": "2:4", "7,1,3,2,1": "1:3,7", "4294967295": "4294967295",
	} {
		got, err := parse(in, (*Decoder).ExpectSeqSet)
		if err != nil || got.String() != in || got.Resolve(10).String() != want {
			t.Errorf("%s: %s = %s, %v; want %s", in, got, got.Resolve(10), err, want)
		}
	}
	if s, err := parse("$", (*Decoder).ExpectSeqSet); err != nil || !s.Saved {
		t.Errorf("$: %v %v", s, err)
	}
	for _, bad := range []string{"", "0", "1:0", "1,", ",1", "1:", "a", "4294967296", "1:2:3", "$,1", "-1", "**"} {
		if s, err := parse(bad, (*Decoder).ExpectSeqSet); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q was read as %v, %v", bad, s, err)
		}
	}
	if s, _ := parse("1:*,*", (*Decoder).ExpectSeqSet); s.Resolve(0).String() != "1" || !s.HasStar() {
		t.Errorf("of an empty mailbox: %s", s.Resolve(0))
	}
}

func TestFetch(t *testing.T) {
	for in, want := range map[string]string{
		"1 FLAGS":          "1 (FLAGS)",
		"1:* fast":         "1:* (FLAGS INTERNALDATE RFC822.SIZE)",
		"1 FULL":           "1 (FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODY)",
		"2,4:7 (UID BODY)": "2,4:7 (UID BODY)",
		"1 BODY[]":         "1 (BODY[])",
		"1 BODY.PEEK[1.2.HEADER.FIELDS.NOT (From \"a b\")]<0.5>": "1 (BODY.PEEK[1.2.HEADER.FIELDS.NOT (From \"a b\")]<0.5>)",
		"1 (body[3.mime] Body[TEXT] rfc822.text RFC822)":         "1 (BODY[3.MIME] BODY[TEXT] RFC822.TEXT RFC822)",
		"1 (BINARY.PEEK[1]<2.3> BINARY[] BINARY.SIZE[4.2])":      "1 (BINARY.PEEK[1]<2.3> BINARY[] BINARY.SIZE[4.2])",
		"1 (MODSEQ ENVELOPE) (CHANGEDSINCE 0)":                   "1 (MODSEQ ENVELOPE) (CHANGEDSINCE 0)",
		"$ UID (CHANGEDSINCE 9223372036854775807 VANISHED)":      "$ (UID) (CHANGEDSINCE 9223372036854775807 VANISHED)",
		"1 (FLAGS )": "1 (FLAGS)",
		"1 (preview (lazy) emailid PREVIEW (LAZY LAZY) ThreadID PREVIEW)": "1 (PREVIEW EMAILID PREVIEW THREADID PREVIEW)",
		"1 preview (Lazy) (CHANGEDSINCE 3)":                               "1 (PREVIEW) (CHANGEDSINCE 3)",
		"1 preview (CHANGEDSINCE 3)":                                      "1 (PREVIEW) (CHANGEDSINCE 3)",
	} {
		got, err := parse(in, (*Decoder).ExpectFetch)
		if err != nil || string(got.AppendText(nil)) != want {
			t.Errorf("%s: %s, %v", in, got.AppendText(nil), err)
		}
	}
	for in, why := range map[string]string{
		"1 ()":                        "asks for nothing",
		"1":                           "a space",
		"1 NONSENSE":                  "no fetch item NONSENSE",
		"1 PREVIEW (LAZIER)":          "no modifier LAZIER",
		"1 PREVIEW (":                 "a fetch modifier",
		"1 BODY[":                     "the command ends where a section name",
		"1 BODY[1.]":                  "a section name",
		"1 BODY[0]":                   "begin at 1",
		"1 BODY[MIME]":                "part number",
		"1 BODY[X]":                   "no section X",
		"1 BODY[HEADER.FIELDS ()]":    "is empty",
		"1 BODY[]<0.0>":               "no bytes",
		"1 BODY[]<-1.5>":              "a number",
		"1 BODY[]<1>":                 "'.'",
		"1 BODY.PEEK":                 "'['",
		"1 FLAGS (VANISHED)":          "needs CHANGEDSINCE",
		"1 FLAGS (X)":                 "no fetch modifier",
		"1 BINARY[TEXT]":              "']'",
		"1 (" + many("BODY[]", 101):   "too many items",
		"1 BODY[1" + many(".1", 2000): "too many part numbers",
	} {
		_, err := parse(in, (*Decoder).ExpectFetch)
		says(t, err, why)
	}
}

func many(s string, n int) string {
	if strings.HasPrefix(s, ".") {
		return strings.Repeat(s, n) + "]"
	}
	return strings.Repeat(s+" ", n-1) + s + ")"
}

func TestFetchResponseName(t *testing.T) {
	f, err := parse("1 (BODY.PEEK[1.HEADER.FIELDS (To)]<3.9> RFC822.HEADER BINARY.SIZE[1])", (*Decoder).ExpectFetch)
	if err != nil {
		t.Fatal(err)
	}
	var got []byte
	for i := range f.Items {
		got = append(f.Items[i].AppendName(got), '|')
	}
	if string(got) != "BODY[1.HEADER.FIELDS (To)]<3>|RFC822.HEADER|BINARY.SIZE[1]|" {
		t.Errorf("%s", got)
	}
}

func TestStore(t *testing.T) {
	for in, want := range map[string]string{
		`2:4 +FLAGS (\Deleted)`:                       `2:4 +FLAGS (\Deleted)`,
		`1 flags.silent \seen $Forwarded \recent`:     `1 FLAGS.SILENT (\Seen $Forwarded)`,
		`* (UNCHANGEDSINCE 0) -FLAGS ()`:              `* (UNCHANGEDSINCE 0) -FLAGS ()`,
		`1 (unchangedsince 12) FLAGS (a A b \Draft)`:  `1 (UNCHANGEDSINCE 12) FLAGS (\Draft a b)`,
		`$ +FLAGS.SILENT (\Answered \Flagged $Junk )`: `$ +FLAGS.SILENT (\Answered \Flagged $Junk)`,
	} {
		got, err := parse(in, (*Decoder).ExpectStore)
		if err != nil || string(got.AppendText(nil)) != want {
			t.Errorf("%s: %s, %v", in, got.AppendText(nil), err)
		}
	}
	for in, why := range map[string]string{
		`1 FLAG (\Seen)`:                       "not FLAG",
		`1 FLAGS (\Nonsense)`:                  `no flag \Nonsense`,
		`1 FLAGS`:                              "a space",
		`1 FLAGS (\Seen`:                       "a space or ')'",
		`1 FLAGS (\*)`:                         "a flag",
		`1 (UNCHANGEDSINCE -1) FLAGS ()`:       "a number",
		`1 (X 1) FLAGS ()`:                     "one modifier",
		`0 FLAGS ()`:                           "begin at 1",
		`1 FLAGS (` + strings.Repeat("k", 200): "too long",
	} {
		_, err := parse(in, (*Decoder).ExpectStore)
		says(t, err, why)
	}
}

func TestSearch(t *testing.T) {
	for in, want := range map[string]string{
		"ALL":       "ALL",
		"1:3,5":     "1:3,5",
		"2 *":       "(2 *)",
		"$ UID 1:*": "($ UID 1:*)",
		"unseen":    "NOT SEEN",
		"NEW":       "(RECENT NOT SEEN)",
		"OLD":       "NOT RECENT",
		`FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith"`: `(FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith")`,
		`BEFORE "01-feb-2020"`:                      "BEFORE 1-Feb-2020",
		`OR (DELETED) (SEEN DRAFT)`:                 `OR DELETED (SEEN DRAFT)`,
		`NOT NOT 7`:                                 `NOT NOT 7`,
		`HEADER Message-ID <a@b>`:                   `HEADER "Message-ID" "<a@b>"`,
		`HEADER X-TUID ""`:                          `HEADER "X-TUID" ""`,
		`KEYWORD $Junk UNKEYWORD x`:                 `(KEYWORD $Junk NOT KEYWORD x)`,
		`LARGER 5 SMALLER 9223372036854775807`:      `(LARGER 5 SMALLER 9223372036854775807)`,
		`MODSEQ "/flags/\\draft" all 620162338`:     `MODSEQ 620162338`,
		`MODSEQ 0`:                                  `MODSEQ 0`,
		"CHARSET UTF-8 TEXT {3}\r\n\xe2\x82\xac":    `TEXT "€"`,
		"CHARSET ISO-8859-1 BODY {1+}\r\n\xe9":      `BODY "é"`,
		"CHARSET KOI8-R SUBJECT {2+}\r\n\xf0\xd2":   `HEADER "SUBJECT" "Пр"`,
	} {
		got, err := parse(in, (*Decoder).ExpectSearch)
		if err != nil || string(got.Key.AppendText(nil)) != want {
			t.Errorf("%s: %s, %v; want %s", in, got.Key.AppendText(nil), err, want)
		}
	}
	for in, why := range map[string]string{
		"":                                   "a search key",
		"()":                                 "empty list",
		"NONSENSE":                           "no search key NONSENSE",
		"OR ALL":                             "a space",
		"NOT":                                "a space",
		"SINCE 31-Feb-2020":                  "not a date",
		"SINCE yesterday":                    "not a date",
		"TEXT {2+}\r\n\xff\xff":              "UTF-8",
		"RETURN (X) ALL":                     "cannot return X",
		"ALL ":                               "a search key",
		"HEADER \"\" x":                      "an empty string",
		"KEYWORD \\Seen":                     "a keyword",
		strings.Repeat("NOT ", 200) + "ALL":  "nested more than",
		strings.Repeat("(", 200) + "ALL":     "nested more than",
		strings.Repeat("ALL ", 3000) + "ALL": "more than 2000",
	} {
		_, err := parse(in, (*Decoder).ExpectSearch)
		says(t, err, why)
	}
}

func TestSearchReturn(t *testing.T) {
	s, err := parse("RETURN (MIN COUNT SAVE) CHARSET US-ASCII ANSWERED", (*Decoder).ExpectSearch)
	if err != nil || !s.Extended || s.Return != ReturnMin|ReturnCount|ReturnSave || s.Key.Flag != mail.Answered {
		t.Errorf("%+v %v", s, err)
	}
	if s, err = parse("RETURN () 1", (*Decoder).ExpectSearch); err != nil || s.Return != ReturnAll || s.Key.Op != SearchSeq {
		t.Errorf("%+v %v", s, err)
	}
	if _, err = parse("CHARSET KLINGON ALL", (*Decoder).ExpectSearch); !fault.Is(err, fault.Unsupported) {
		t.Error(err)
	}
}

func TestStatusListCreate(t *testing.T) {
	st, err := parse("blurdybloop (UIDNEXT MESSAGES size)", (*Decoder).ExpectStatus)
	if err != nil || st.Mailbox != "blurdybloop" || fmt.Sprint(st.Items.Names()) != "[MESSAGES UIDNEXT SIZE]" {
		t.Errorf("%+v %v", st, err)
	}
	l, err := parse(`(SUBSCRIBED RECURSIVEMATCH) "" ("INBOX" Drafts "Sent/%") RETURN (CHILDREN STATUS (MESSAGES UNSEEN))`, (*Decoder).ExpectListCommand)
	if err != nil || l.Select != ListSubscribed|ListRecursiveMatch || len(l.Patterns) != 3 || l.Return != ListChildren || l.Status != StatusMessages|StatusUnseen {
		t.Errorf("%+v %v", l, err)
	}
	if l, err = parse(`"" ""`, (*Decoder).ExpectListCommand); err != nil || !l.Root || l.Extended || len(l.Patterns) != 0 {
		t.Errorf("%+v %v", l, err)
	}
	if l, err = parse(`"" %`, (*Decoder).ExpectLSub); err != nil || len(l.Patterns) != 1 {
		t.Errorf("%+v %v", l, err)
	}
	c, err := parse(`MySpecial (USE (\Drafts \Sent))`, (*Decoder).ExpectCreate)
	if err != nil || c.Mailbox != "MySpecial" || len(c.Use) != 2 || c.Use[1] != mail.RoleSent {
		t.Errorf("%+v %v", c, err)
	}
	if _, err = parse(`x (USE (\Nothing))`, (*Decoder).ExpectCreate); !fault.Is(err, fault.Unsupported) {
		t.Error(err)
	}
	for in, why := range map[string]string{"x ()": "asks for nothing", "x (Y)": "no status item Y", "": "a mailbox name"} {
		_, err := parse(in, (*Decoder).ExpectStatus)
		says(t, err, why)
	}
	for in, why := range map[string]string{
		`(RECURSIVEMATCH) "" *`: "needs another", `"" * RETURN (X)`: "cannot return", `"" * WITH ()`: "expected RETURN",
		`(X) "" *`: "cannot select", `""`: "a space",
	} {
		_, err := parse(in, (*Decoder).ExpectListCommand)
		says(t, err, why)
	}
}

func TestSelect(t *testing.T) {
	s, err := parse("inbox (QRESYNC (67890007 20050715194045000 41,43:211,214:541 (1,3 41,43)) CONDSTORE)", (*Decoder).ExpectSelect)
	if err != nil || s.Mailbox != "INBOX" || !s.CondStore || s.Resync.UIDValidity != 67890007 ||
		s.Resync.Known.String() != "41,43:211,214:541" || s.Resync.UIDs.String() != "41,43" {
		t.Errorf("%+v %v", s, err)
	}
	for _, ok := range []string{"x", "x (CONDSTORE)", "x (QRESYNC (1 2))", "x (QRESYNC (1 2 3))", "x (QRESYNC (1 2 (1 2)))"} {
		if _, err := parse(ok, (*Decoder).ExpectSelect); err != nil {
			t.Errorf("%s: %v", ok, err)
		}
	}
	for _, bad := range []string{"x (QRESYNC)", "x (QRESYNC (1))", "x (QRESYNC (1 2 1:*))", "x (FOO)", "x y"} {
		if s, err := parse(bad, (*Decoder).ExpectSelect); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %+v %v", bad, s, err)
		}
	}
}

func TestIDAndEnable(t *testing.T) {
	id, err := parse(`("name" "Martlet" "os" NIL)`, (*Decoder).ExpectID)
	if err != nil || len(id) != 2 || *id[0].Value != "Martlet" || id[1].Value != nil {
		t.Errorf("%v %v", id, err)
	}
	for _, ok := range []string{"nil", "()"} {
		if id, err := parse(ok, (*Decoder).ExpectID); err != nil || len(id) != 0 {
			t.Errorf("%s: %v %v", ok, id, err)
		}
	}
	_, err = parse("("+many(`"a" "b"`, 31), (*Decoder).ExpectID)
	says(t, err, "too many")
	words, err := parse("CONDSTORE x-good-idea imap4rev2", (*Decoder).ExpectEnable)
	if err != nil || strings.Join(words, " ") != "CONDSTORE X-GOOD-IDEA IMAP4REV2" {
		t.Errorf("%v %v", words, err)
	}
}

func readAppend(d *Decoder, out *[]string) bool {
	var box string
	if !d.ExpectMailbox(&box) || !d.ExpectSP() {
		return false
	}
	for more := true; more; {
		var m AppendMessage
		if !d.ExpectAppendMessage(&m) {
			return false
		}
		if m.Parts {
			var parts []string
			if !readParts(d, &parts) || !d.ExpectAppendEnd(m, &more) {
				return false
			}
			*out = append(*out, fmt.Sprintf("%s %q", m.Flags.AppendText(nil), parts))
			continue
		}
		b, err := io.ReadAll(m.Data)
		if err != nil || !d.ExpectAppendEnd(m, &more) {
			return false
		}
		*out = append(*out, fmt.Sprintf("%s %s %v %q %v %v", m.Flags.AppendText(nil), m.Date.UTC().Format(time.RFC3339), m.UTF8, b, m.Data.Binary, m.Data.NonSync))
	}
	return true
}

func TestAppend(t *testing.T) {
	got, err := parse("saved (\\Seen $x) \" 7-Feb-1994 21:52:25 -0800\" {3}\r\nabc \"17-Jul-1996 02:44:25 -0700\" ~{2+}\r\n\x00\x01 UTF8 (~{1}\r\nz)", readAppend)
	want := []string{
		`(\Seen $x) 1994-02-08T05:52:25Z false "abc" false false`,
		`() 1996-07-17T09:44:25Z false "\x00\x01" true true`,
		`() 0001-01-01T00:00:00Z true "z" true false`,
	}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v %v", got, err)
	}
	for in, why := range map[string]string{
		"x":                     "a space",
		"x abc":                 "no data of the form",
		"x (\\Seen)":            "a space",
		"x \"7-Feb-94\" {1}":    "not a date and time",
		"x {1}\r\na {":          "size of a literal",
		"x UTF8 (~{1+}\r\na":    "')'",
		"x {1+}\r\na NONSENSE ": "no data of the form",
	} {
		_, err := parse(in, readAppend)
		says(t, err, why)
	}
}

func FuzzArguments(f *testing.F) {
	for i, s := range []string{
		"1:*,2,*:7", "1:* (FLAGS BODY.PEEK[1.2.HEADER.FIELDS (a {1+}\r\nb)]<1.2>) (CHANGEDSINCE 3)",
		`1,2 (UNCHANGEDSINCE 5) +FLAGS.SILENT (\Seen a)`, `RETURN (MIN SAVE) CHARSET KOI8-R OR NOT NEW (TEXT {2+}` + "\r\n\xf0\xd2" + ` 1:2) SENTON 1-Jan-2020`,
		"x (MESSAGES SIZE MAILBOXID)", `(SUBSCRIBED SPECIAL-USE) "" (a% &AOk-) RETURN (STATUS (UIDNEXT))`, `x (USE (\Sent))`,
		"x (CONDSTORE QRESYNC (1 2 3:4 (1 2)))", `("a" NIL "b" "c")`, "CONDSTORE X", "x (\\Seen) {1+}\r\na ~{1}\r\nb CATENATE (URL x TEXT {1}\r\na UTF8 (~{1}\r\nb))", `"a\"b"`,
	} {
		f.Add(uint8(i), s)
	}
	f.Add(uint8(1), "1 (PREVIEW (LAZY) EMAILID)")
	f.Add(uint8(3), "OR EMAILID m1 THREADID t-1_")
	f.Fuzz(func(t *testing.T, which uint8, in string) {
		if len(in) > 8192 {
			return
		}
		switch which % 12 {
		case 0:
			stable(t, in, (*Decoder).ExpectSeqSet, func(s SeqSet) []byte { return s.AppendText(nil) })
		case 1:
			stable(t, in, (*Decoder).ExpectFetch, func(f Fetch) []byte { return f.AppendText(nil) })
		case 2:
			stable(t, in, (*Decoder).ExpectStore, func(s Store) []byte { return s.AppendText(nil) })
		case 3:
			stable(t, in, (*Decoder).ExpectSearch, func(s Search) []byte { return s.AppendText(nil) })
		case 4:
			stable(t, in, (*Decoder).ExpectStatus, nil)
		case 5:
			stable(t, in, (*Decoder).ExpectListCommand, nil)
		case 6:
			stable(t, in, (*Decoder).ExpectCreate, nil)
		case 7:
			stable(t, in, (*Decoder).ExpectSelect, nil)
		case 8:
			stable(t, in, (*Decoder).ExpectID, nil)
		case 9:
			stable(t, in, (*Decoder).ExpectEnable, func(w []string) []byte { return []byte(strings.Join(w, " ")) })
		case 10:
			stable(t, in, readAppend, nil)
		case 11:
			stable(t, in, (*Decoder).ExpectAString, func(s string) []byte { return AppendString(nil, s, true, true) })
		}
	})
}
