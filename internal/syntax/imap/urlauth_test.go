package imap

import (
	"fmt"
	"strings"
	"testing"
)

// resetKey reads RESETKEY's arguments without the space before them.
func resetKey(d *Decoder, out *ResetKey) bool { return d.ExpectResetKey(out) }

func TestURLAuthCommands(t *testing.T) {
	for in, want := range map[string]string{
		"": "{true  []}", " INBOX": "{false INBOX []}", ` "a b" internal XSAMPLE`: "{false a b [INTERNAL XSAMPLE]}",
	} {
		if got, err := parse(in, resetKey); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%q: %v %v", in, got, err)
		}
	}
	gen, err := parse(`"imap://joe@example.com/INBOX/;uid=20" INTERNAL imap://x internal`, (*Decoder).ExpectGenURLAuth)
	if err != nil || fmt.Sprint(gen) != "[{imap://joe@example.com/INBOX/;uid=20 INTERNAL} {imap://x INTERNAL}]" {
		t.Error(gen, err)
	}
	fetch, err := parse(`"imap://a" ("imap://b" binary BODYPARTSTRUCTURE) (c) (d BODY)`, (*Decoder).ExpectURLFetch)
	if err != nil || fmt.Sprint(fetch) != "[{imap://a false false false} {imap://b false true true} {c false false false} {d true false false}]" {
		t.Error(fetch, err)
	}
	for in, why := range map[string]string{
		"": "a URL", "(a": "')'", "(a BODY BINARY)": "one of", "(a BODY BODY)": "once", "(a NONSENSE)": "cannot give", `""`: "empty string", "()": "a URL",
		many("a", 3000): "more than",
	} {
		_, err := parse(in, (*Decoder).ExpectURLFetch)
		says(t, err, why)
	}
	for in, why := range map[string]string{"": "a URL", "a": "a space", "a ": "a mechanism", "a INTERNAL b": "a space"} {
		_, err := parse(in, (*Decoder).ExpectGenURLAuth)
		says(t, err, why)
	}
	_, err = parse(" INBOX (", resetKey)
	says(t, err, "a mechanism")
}

func FuzzURLAuthCommands(f *testing.F) {
	f.Add(` INBOX INTERNAL XSAMPLE`)
	f.Add(`"imap://joe@example.com/INBOX/;uid=20" INTERNAL {1+}` + "\r\nx internal")
	f.Add(`"imap://a" ("imap://b" binary BODYPARTSTRUCTURE) (c)`)
	f.Fuzz(func(t *testing.T, in string) {
		if len(in) > 8192 {
			return
		}
		stable(t, in, resetKey, nil)
		stable(t, in, (*Decoder).ExpectGenURLAuth, func(list []URLRump) []byte {
			var b []byte
			for i, r := range list {
				if i > 0 {
					b = append(b, ' ')
				}
				b = append(append(AppendString(b, r.URL, true, true), ' '), r.Mechanism...)
			}
			return b
		})
		stable(t, in, (*Decoder).ExpectURLFetch, nil)
		if u, err := parse(in, (*Decoder).ExpectURLFetch); err == nil {
			for _, one := range u {
				if one.URL == "" || one.Body && one.Binary || one.Extended() && !strings.Contains(in, "(") {
					t.Fatalf("%q was read as %v", in, u)
				}
			}
		}
	})
}
