package imap

import (
	"bufio"
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// old makes a parser one for clients before IMAP4rev1.
func old[T any](read func(*Decoder, *T) bool) func(*Decoder, *T) bool {
	return func(d *Decoder, out *T) bool {
		d.Old = true
		return read(d, out)
	}
}

func TestOldFetch(t *testing.T) {
	for in, want := range map[string]string{
		"1 RFC822.PEEK":      "1 (RFC822.PEEK)",
		"1 RFC822.TEXT.PEEK": "1 (RFC822.TEXT.PEEK)",
		"2:4 (FLAGS RFC822.HEADER.LINES (DATE FROM))":            "2:4 (FLAGS RFC822.HEADER.LINES (DATE FROM))",
		"1 rfc822.header.lines.not (received \"a b\")":           "1 (RFC822.HEADER.LINES.NOT (received \"a b\"))",
		"1 (BODY[0] BODY.PEEK[3.0] BODY[4.2.2.1] RFC822.HEADER)": "1 (BODY[0] BODY.PEEK[3.0] BODY[4.2.2.1] RFC822.HEADER)",
	} {
		got, err := parse(in, old((*Decoder).ExpectFetch))
		if err != nil || string(got.AppendText(nil)) != want {
			t.Errorf("%s: %s, %v", in, got.AppendText(nil), err)
		}
		if _, err := parse(in, (*Decoder).ExpectFetch); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: today's clients may say it, too: %v", in, err)
		}
	}
	for in, kind := range map[string]fault.Kind{
		"1 BODY[0]<1.2>": fault.Invalid, "1 BODY[0.1]": fault.Invalid, "1 BODY[0.MIME]": fault.Invalid,
		"1 BINARY[0]": fault.Invalid, "1 RFC822.HEADER.LINES ()": fault.Invalid, "1 RFC822.HEADER.LINES": fault.Invalid,
		"1 RFC822.SIZE.PEEK": fault.Invalid, "42 $SUBJECT": fault.Unsupported,
	} {
		if got, err := parse(in, old((*Decoder).ExpectFetch)); !fault.Is(err, kind) {
			t.Errorf("%s: %s, %v", in, got.AppendText(nil), err)
		}
	}
	got, err := parse("1 RFC822.HEADER.LINES (DATE)", old((*Decoder).ExpectFetch))
	if name := got.Items[0].AppendName(nil); err != nil || string(name) != "RFC822.HEADER" {
		t.Errorf("the answer is called %s, %v", name, err)
	}
}

func TestPartialCommand(t *testing.T) {
	for in, want := range map[string]string{
		"4 RFC822 1 1024": "4 RFC822 1 1024", "4 BODY.PEEK[1.2] 5 0": "4 BODY.PEEK[1.2] 5 0",
		"4 body[0] 4294967295 1": "4 BODY[0] 4294967295 1", "4 RFC822.TEXT.PEEK 10 10": "4 RFC822.TEXT.PEEK 10 10",
		"4 BODY[HEADER] 1 2": "4 BODY[HEADER] 1 2",
	} {
		f, err := parse(in, old((*Decoder).ExpectPartialCommand))
		if err != nil || string(appendPartialCommand(f)) != want || !f.Items[0].Partial {
			t.Errorf("%s: %+v, %v", in, f, err)
		}
	}
	for _, bad := range []string{
		"1:2 RFC822 1 2", "0 RFC822 1 2", "* RFC822 1 2", "1 RFC822 0 2", "1 RFC822 1", "1 (RFC822) 1 2", "1 FLAGS 1 2",
		"1 RFC822.SIZE 1 2", "1 ALL 1 2", "1 BODY 1 2", "1 BODY[]<0.2> 1 2", "1 BINARY[1] 1 2", "1 RFC822 1 99999999999",
	} {
		if f, err := parse(bad, old((*Decoder).ExpectPartialCommand)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %+v, %v", bad, f, err)
		}
	}
}

// appendPartialCommand writes the arguments of PARTIAL as a client does.
func appendPartialCommand(f Fetch) []byte {
	it := f.Items[0]
	b := appendNumber(nil, uint64(f.Set.Ranges[0].From))
	b = it.appendName(append(b, ' '), true)
	b = appendNumber(append(b, ' '), it.Offset+1)
	return appendNumber(append(b, ' '), it.Len)
}

func TestFind(t *testing.T) {
	for in, want := range map[string]Find{
		"MAILBOXES *":            {Pattern: "*"},
		"all.mailboxes foo%bar?": {All: true, Pattern: "foo%bar?"},
		`BBOARDS "a b*"`:         {Boards: true, Pattern: "a b*"},
		"ALL.BBOARDS &AOQ-*":     {All: true, Boards: true, Pattern: "ä*"},
		"MAILBOXES &&&":          {},
	} {
		got, err := parse(in, (*Decoder).ExpectFind)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v", in, got, err)
		}
	}
	for _, bad := range []string{"MAILBOX *", "MAILBOXES", "ALL. *", "*", "ALL.ALL.MAILBOXES *", "MAILBOXES (a)"} {
		if got, err := parse(bad, (*Decoder).ExpectFind); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %+v, %v", bad, got, err)
		}
	}
}

func TestOldPattern(t *testing.T) {
	for _, c := range []struct {
		pattern, names string // those that match
	}{
		{"*", "FOOBAR FOOD.ON.THE.BAR FOO.BAR INBOX a/b"},
		{"FOO*BAR", "FOOBAR FOOD.ON.THE.BAR FOO.BAR"},
		{"FOO%BAR", "FOO.BAR"}, {"FOO?BAR", "FOO.BAR"}, {"inbox", "INBOX"}, {"I*B*X", "INBOX"},
		{"?/?", "a/b"}, {"", ""}, {"%%%%%%", "FOOBAR"}, {"**.**", "FOOD.ON.THE.BAR FOO.BAR"},
		{"*B?R*", "FOOBAR FOOD.ON.THE.BAR FOO.BAR"}, {"f*", ""},
	} {
		var got []string
		for _, name := range []string{"FOOBAR", "FOOD.ON.THE.BAR", "FOO.BAR", "INBOX", "a/b"} {
			if NewOldPattern(c.pattern).Match(name) {
				got = append(got, name)
			}
		}
		if strings.Join(got, " ") != c.names {
			t.Errorf("%s matches %s, want %s", c.pattern, got, c.names)
		}
	}
	if !NewOldPattern("?%").Match("äö") || NewOldPattern("??").Match("ä") {
		t.Error("one character may be several bytes")
	}
	if NewOldPattern(strings.Repeat("*a", 2000) + "b").Match(strings.Repeat("a", 4000)) {
		t.Error("a pattern with many stars matches")
	}
}

func TestOldMailbox(t *testing.T) {
	for in, want := range map[string]string{
		"MAILBOX #news.comp.mail.mime": "#news.comp.mail.mime", "mailbox": "mailbox", "MAILBOX MAILBOX": "MAILBOX",
		"BBOARD inbox": "INBOX", "BBOARD": "BBOARD", `"a b"`: "a b", "inbox": "INBOX",
	} {
		if got, err := parse(in, (*Decoder).ExpectOldMailbox); err != nil || got != want {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
	for _, bad := range []string{"", "a b", "MAILBOX ", "MAILBOX a b"} {
		if got, err := parse(bad, (*Decoder).ExpectOldMailbox); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %q, %v", bad, got, err)
		}
	}
}

func TestOldLogin(t *testing.T) {
	for in, want := range map[string]OldLogin{
		"SMITH SESAME": {"SMITH", "SESAME"}, `a(b)*% p\w]"`: {"a(b)*%", `p\w]"`}, `"a b" "c \" d"`: {"a b", `c " d`},
		`x "back\slash\\"`: {"x", `back\slash\`}, `x ""`: {"x", ""},
	} {
		if got, err := parse(in, old((*Decoder).ExpectOldLogin)); err != nil || got != want {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
	if _, err := parse(`x "back\slash"`, (*Decoder).ExpectOldLogin); !fault.Is(err, fault.Invalid) {
		t.Errorf("a backslash before a letter: %v", err)
	}
}

func TestOldDates(t *testing.T) {
	for in, want := range map[string]string{
		`" 9-Jun-88 12:55:44 PDT"`: "1988-06-09T19:55:44Z", `"09-jun-88 12:55:44-PDT"`: "1988-06-09T19:55:44Z",
		`"17-Jul-26 02:44:25-GMT"`: "2026-07-17T02:44:25Z", `"17-Jul-1996 02:44:25 -0700"`: "1996-07-17T09:44:25Z",
		`"17-Jul-96 02:44:25 +0130"`: "1996-07-17T01:14:25Z", `"17-Jul-96 02:44:25-0700"`: "1996-07-17T09:44:25Z",
		`"1-Jan-69 00:00:00-Z"`: "1969-01-01T00:00:00Z", `"1-Jan-68 00:00:00-M"`: "2067-12-31T12:00:00Z",
		`"1-Jan-70 00:00:00-y"`: "1970-01-01T12:00:00Z", `"1-Jan-1970 00:00:00-BST"`: "1970-01-01T11:00:00Z",
	} {
		read := func(d *Decoder, out *time.Time) bool { return d.DateTime(out) || d.expected("a date") }
		got, err := parse(in, old(read))
		if err != nil || got.UTC().Format(time.RFC3339) != want {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	for in, want := range map[string]string{
		"1-OCT-87": "1987-10-01", `"1-Oct-1987"`: "1987-10-01", `" 1-Oct-87 23:59:59-PDT"`: "1987-10-01", "01-Oct-00": "2000-10-01",
	} {
		if got, err := parse(in, old((*Decoder).ExpectDate)); err != nil || got.Format(time.RFC3339) != want+"T00:00:00Z" {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	for _, bad := range []string{
		`"1-Oct-87 23:59:59-J"`, `"1-Oct-87 23:59:59 Mars"`, `"1-Oct-87 23:59:59"`, `"1-Oct-87 23:59:59-"`, "1-Oct-876", "1-Okt-87",
		`"1-Oct-87 25:59:59-Z"`, `"1-Oct-0000 05:59:59-Z"`, `"1-Oct-87 05:59:59-99999"`, `"1-Oct-87 05:59:59 +2500"`, "1-1-87",
	} {
		if got, err := parse(bad, old((*Decoder).ExpectDate)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v, %v", bad, got, err)
		}
	}
	if _, err := parse("1-OCT-87", (*Decoder).ExpectDate); !fault.Is(err, fault.Invalid) {
		t.Errorf("today's clients may say it, too: %v", err)
	}
	at := time.Date(1988, 6, 9, 12, 55, 44, 0, time.FixedZone("", -7*3600))
	if got := AppendOldDateTime(nil, at); string(got) != `" 9-Jun-88 19:55:44-GMT"` {
		t.Errorf("%s", got)
	}
}

func TestAppendUnescaped(t *testing.T) {
	for in, want := range map[string]string{
		`("a" NIL "b c")`:                   `("a" NIL "b c")`,
		`("a \"q\" b" "\\" "x")`:            "({7}\r\na \"q\" b {1}\r\n\\ \"x\")",
		"({3}\r\n\"\\\" \"50%\" \"{5}\" 7)": "({3}\r\n\"\\\" {3}\r\n50% {3}\r\n{5} 7)",
		`("open`:                            `("open`,
		"{99}\r\nabc":                       "{99}\r\nabc",
		"{x}":                               "{x}",
	} {
		if got := string(AppendUnescaped(nil, []byte(in))); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestIMAP3(t *testing.T) {
	if _, err := parse("~FROM crispin", old((*Decoder).ExpectSearch)); !fault.Is(err, fault.Unsupported) {
		t.Error(err)
	}
}

// The grammar of old: it reads the same however it comes, and as it is written again.
func FuzzLegacy(f *testing.F) {
	f.Add(uint8(0), "1 (BODY[3.0] RFC822.HEADER.LINES.NOT (a) RFC822.TEXT.PEEK)")
	f.Add(uint8(1), "4 BODY.PEEK[0] 1 1024")
	f.Add(uint8(2), "ALL.MAILBOXES &AOQ-*%")
	f.Add(uint8(3), "MAILBOX MAILBOX")
	f.Add(uint8(4), `SMITH "back\slash"`)
	f.Add(uint8(5), `SINCE "1-OCT-87 12:00:00-PDT" ON 1-Jan-05`)
	f.Fuzz(func(t *testing.T, which uint8, in string) {
		if len(in) > 8192 {
			return
		}
		switch which {
		case 0:
			stable(t, in, old((*Decoder).ExpectFetch), func(v Fetch) []byte { return v.AppendText(nil) })
		case 1:
			stable(t, in, old((*Decoder).ExpectPartialCommand), appendPartialCommand)
		case 2:
			stable(t, in, old((*Decoder).ExpectFind), nil)
		case 3:
			stable(t, in, old((*Decoder).ExpectOldMailbox), func(s string) []byte {
				return AppendString([]byte("MAILBOX "), EncodeUTF7(s), false, true)
			})
		case 4:
			stable(t, in, old((*Decoder).ExpectOldLogin), nil)
		case 5:
			stable(t, in, old((*Decoder).ExpectSearch), func(v Search) []byte { return v.AppendText(nil) })
		}
	})
}

// What is written without escapes has none, and is as long as it says.
func FuzzUnescaped(f *testing.F) {
	f.Add("a \"b\" \\ {3} 100%", "plain")
	f.Add("line\r\nend", "\x80")
	f.Fuzz(func(t *testing.T, a, b string) {
		a, b = strings.ReplaceAll(a, "\x00", ""), strings.ReplaceAll(b, "\x00", "")
		wire := AppendString([]byte("("), a, false, false)
		wire = AppendString(append(wire, ' '), b, false, false)
		out := AppendUnescaped(nil, append(wire, " NIL)"...))
		var got [2]*string
		d, rest := NewDecoder(bufio.NewReader(strings.NewReader(string(out)+"\r\n")), DefaultLimits), ""
		d.Continue = func() error { return nil }
		ok := d.ExpectSpecial('(') && d.ExpectNString(&got[0]) && d.ExpectSP() && d.ExpectNString(&got[1]) && d.ExpectSP() && d.ExpectWord(&rest, "NIL")
		if len(a)+len(b) > 32<<10 {
			return
		}
		if !ok || *got[0] != a || *got[1] != b {
			t.Fatalf("%q %q: %q, %v", a, b, out, d.Err())
		}
		if short := len(a) < 100 && !strings.ContainsAny(a, "\r\n") && isASCII(a); short && bytes.Contains(out[:bytes.IndexByte(out, ' ')+1], []byte(`\"`)) && out[1] == '"' {
			t.Fatalf("%q: escaped in %q", a, out)
		}
	})
}
