package imap

import (
	"strings"
	"testing"
)

func readSet(d *Decoder, out *SetMetadata) bool { return d.ExpectSetMetadata(out, 100) }

func TestGetMetadata(t *testing.T) {
	for in, want := range map[string]string{
		`"" /shared/comment`:         `"" ("/shared/comment")`,
		`INBOX (/shared/a /b)`:       `"INBOX" ("/shared/a" "/b")`,
		`inbox /shared/a /private/b`: `"INBOX" ("/shared/a" "/private/b")`,
		`"INBOX" (MAXSIZE 1024) (/shared/comment /private/comment)`: `(MAXSIZE 1024) "INBOX" ("/shared/comment" "/private/comment")`,
		`(depth infinity MAXSIZE 0) "INBOX" "/private"`:             `(MAXSIZE 0 DEPTH infinity) "INBOX" ("/private")`,
		`INBOX (DEPTH 1) (/private/filters/values)`:                 `(DEPTH 1) "INBOX" ("/private/filters/values")`,
		`INBOX (DEPTH 0) /a`:                                        `"INBOX" ("/a")`,
	} {
		got, err := parse(in, (*Decoder).ExpectGetMetadata)
		if err != nil || string(got.AppendText(nil)) != want {
			t.Errorf("%s: %s %v", in, got.AppendText(nil), err)
		}
	}
	for in, why := range map[string]string{
		`INBOX`:                     "a space",
		`INBOX ()`:                  "asks for nothing",
		`INBOX ""`:                  "an empty string",
		`INBOX (MAXSIZE 1)`:         "a space",
		`INBOX (MAXSIZE x) /a`:      "a number",
		`INBOX (DEPTH 2) /a`:        "0, 1 or infinity",
		`INBOX (NONSENSE 1) /a`:     "no option",
		`(DEPTH 1)`:                 "a space",
		`INBOX (/a DEPTH 1) /b`:     "the end of the command",
		`INBOX ` + many("/a", 3000): "more than",
	} {
		_, err := parse(in, (*Decoder).ExpectGetMetadata)
		says(t, err, why)
	}
}

func TestSetMetadata(t *testing.T) {
	for in, want := range map[string]string{
		"INBOX (/private/comment {33}\r\nMy new comment across\r\ntwo lines.)": "\"INBOX\" (\"/private/comment\" {33+}\r\nMy new comment across\r\ntwo lines.)",
		`INBOX (/private/comment NIL)`:                                         `"INBOX" ("/private/comment" NIL)`,
		`"" (/private/comment "a" /shared/comment "")`:                         `"" ("/private/comment" "a" "/shared/comment" "")`,
		"INBOX (/private/x ~{3+}\r\na\x00b /private/y {0}\r\n nil)":            "",
		"INBOX (/private/x ~{3+}\r\na\x00b /private/y {0}\r\n)":                "\"INBOX\" (\"/private/x\" ~{3+}\r\na\x00b \"/private/y\" \"\")",
	} {
		got, err := parse(in, readSet)
		if want == "" {
			says(t, err, "a space")
		} else if err != nil || string(got.AppendText(nil)) != want {
			t.Errorf("%q: %q %v", in, got.AppendText(nil), err)
		}
	}
	for in, why := range map[string]string{
		`INBOX`: "a space", `INBOX ()`: "name of an annotation", `INBOX (/a)`: "a space", `INBOX (/a b)`: "", `INBOX /a NIL`: "'('", `INBOX (/a NIL`: "ends where",
	} {
		_, err := parse(in, readSet)
		says(t, err, why)
	}
}

// TestHugeValue: a value that is too large is no mistake of syntax, and is not asked
// for.
func TestHugeValue(t *testing.T) {
	for _, in := range []string{"x (/a {101}\r\n", "x (/a ~{101}\r\n", `x (/a "` + strings.Repeat("v", 101) + `")`} {
		d := dec(in)
		d.Continue = func() error { t.Error("the literal was asked for"); return nil }
		var got SetMetadata
		if readSet(d, &got) || d.Err() != nil || got.Huge != 101 {
			t.Errorf("%q: %+v %v", in, got, d.Err())
		}
	}
}

func FuzzMetadata(f *testing.F) {
	for _, s := range []string{
		`"" (/shared/comment)`, `INBOX (MAXSIZE 1024 DEPTH 1) (/shared/comment /private/b)`, `(DEPTH infinity) a {2+}` + "\r\n/a",
		"INBOX (/private/comment {2+}\r\nab /shared/x NIL \"/y\" \"v\\\"\" /z ~{3}\r\na\x00b)",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		if len(in) > 8192 {
			return
		}
		stable(t, in, (*Decoder).ExpectGetMetadata, func(g GetMetadata) []byte { return g.AppendText(nil) })
		d := dec(in + "\r\n")
		var s SetMetadata
		if readSet(d, &s); d.Err() == nil && s.Huge == 0 {
			stable(t, in, readSet, func(s SetMetadata) []byte { return s.AppendText(nil) })
		}
		for _, v := range s.Values {
			if len(v.Value) > 100 {
				t.Fatalf("a value of %d bytes was taken", len(v.Value))
			}
		}
	})
}

func TestListMetadata(t *testing.T) {
	got, err := parse(`"" % RETURN (METADATA ("/shared/a" /private/b) STATUS (SIZE))`, (*Decoder).ExpectListCommand)
	if err != nil || strings.Join(got.Metadata, " ") != "/shared/a /private/b" || got.Status != StatusSize {
		t.Errorf("%+v %v", got, err)
	}
	for in, why := range map[string]string{
		"METADATA": "a space", "METADATA ()": "asks for nothing", `METADATA ("")`: "empty string", "METADATA (" + many("/a", MaxListEntries+1) + ")": "more than",
	} {
		_, err := parse(`"" * RETURN (`+in+`)`, (*Decoder).ExpectListCommand)
		says(t, err, why)
	}
}
