package imap

import (
	"bufio"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

func TestUTF7(t *testing.T) {
	for name, wire := range map[string]string{
		"~peter/mail/台北/日本語": "~peter/mail/&U,BTFw-/&ZeVnLIqe-",
		"Entwürfe":           "Entw&APw-rfe",
		"A&B":                "A&-B",
		"&&":                 "&-&-",
		"😀":                  "&2D3eAA-",
		"":                   "",
	} {
		if got := EncodeUTF7(name); got != wire {
			t.Errorf("%s is encoded as %s, want %s", name, got, wire)
		}
		if got, err := DecodeUTF7(wire); err != nil || got != name {
			t.Errorf("%s is decoded as %s %v", wire, got, err)
		}
	}
	for _, bad := range []string{
		"&", "a&", "&U,BTFw", "&AC8-", "INB&AE8-X", "&2D0-", "&3gA-", "&2D0AYQ-", "&A-", "&AOk=-", "&U/BT-", "é", "a\x00",
		"&U,BTFw-&ZeVnLIqe-", "&AOl-", "&AOk", "&A\nOk-",
	} {
		if got, err := DecodeUTF7(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q was decoded as %q", bad, got)
		}
	}
}

func TestParseMailbox(t *testing.T) {
	for _, c := range []struct {
		in   string
		utf8 bool
		want string
	}{
		{"inBox", false, "INBOX"}, {"inbox/sub", false, "INBOX/sub"}, {"inboxes", false, "inboxes"},
		{"e\u0301", true, "é"}, {"&ZQMB-", false, "攃\u0001"}, {"A&B", true, "A&B"}, {"A&B", false, ""}, {"Größe&B", false, "Größe&B"}, {"\xff", false, ""}, {"&AGU-", false, ""},
		{"\xff", true, ""}, {"a\tb", true, ""}, {"a\u2028b", true, ""}, {strings.Repeat("a", MaxMailboxName+1), true, ""},
	} {
		got, err := ParseMailbox(c.in, c.utf8)
		if c.want == "攃\u0001" {
			c.want = "" // a control character, encoded
		}
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q: %q %v, want %q", c.in, got, err, c.want)
		}
	}
}

func TestPattern(t *testing.T) {
	for _, c := range []struct {
		pat, name string
		want      bool
	}{
		{"*", "a/b", true}, {"%", "a/b", false}, {"%", "ab", true}, {"%/%", "a/b", true}, {"a*", "a/b/c", true}, {"a%", "a/b", false},
		{"*b", "a/b", true}, {"inbox", "INBOX", true}, {"Inbox*", "INBOX/x", true}, {"inboxes", "INBOXES", false}, {"", "", true},
		{"%a%b", "xaxxb", true}, {"%a%b", "xa/b", false}, {"*%*%*", "anything/at/all", true}, {"%b", "ab/b", false}, {"*x%", "ax/bx", true},
	} {
		if got := NewPattern(c.pat).Match(c.name); got != c.want {
			t.Errorf("%q on %q: %v", c.pat, c.name, got)
		}
	}
}

// The matcher agrees with the same pattern as a regular expression.
func FuzzPattern(f *testing.F) {
	f.Add("a*%b", "a/xb")
	f.Add("%a%/*b%", "xa/b/c")
	f.Add("*a*a*a*b", strings.Repeat("a", 30))
	f.Fuzz(func(t *testing.T, pat, name string) {
		if len(pat) > 100 || len(name) > 200 || strings.ContainsRune(name, '\n') || !utf8.ValidString(pat) || !utf8.ValidString(name) {
			return
		}
		if len(pat) >= 5 && strings.EqualFold(pat[:5], "INBOX") {
			return
		}
		re := "^" + strings.NewReplacer(`\*`, ".*", "%", "[^/]*").Replace(regexp.QuoteMeta(pat)) + "$"
		want := regexp.MustCompile("(?s)" + re).MatchString(name)
		if got := NewPattern(pat).Match(name); got != want {
			t.Fatalf("%q on %q: %v, want %v", pat, name, got, want)
		}
	})
}

// Decoding accepts only what encoding would have written.
func FuzzUTF7(f *testing.F) {
	for _, s := range []string{"&U,BTFw-/&ZeVnLIqe-", "A&-B", "&2D3eAA-", "&AC8-", "Entwürfe", "a\u0301\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if name, err := DecodeUTF7(s); err == nil {
			if back := EncodeUTF7(name); back != s {
				t.Fatalf("%q is read as %q, which is written as %q", s, name, back)
			}
		}
		if utf8.ValidString(s) {
			if back, err := DecodeUTF7(EncodeUTF7(s)); err != nil || back != s {
				t.Fatalf("%q is written as %q and read as %q, %v", s, EncodeUTF7(s), back, err)
			}
		}
		for _, enabled := range []bool{true, false} {
			name, err := ParseMailbox(s, enabled)
			if err != nil {
				continue
			}
			if !norm.NFC.IsNormalString(name) || len(name) > MaxMailboxName || strings.ContainsAny(name, "\x00\r\n") {
				t.Fatalf("%q: %q", s, name)
			}
			// What the encoder writes is read as the same name.
			e := Encoder{UTF8: enabled, Client: true}
			wire := string(e.Mailbox(name).Bytes())
			d := dec(wire + "\r\n")
			d.UTF8 = enabled
			var again string
			if !d.ExpectMailbox(&again) || !d.ExpectCRLF() || again != name {
				t.Fatalf("%q is written as %q and read as %q, %v", name, wire, again, d.Err())
			}
		}
	})
}

func TestEncoder(t *testing.T) {
	e := NewEncoder()
	defer e.Release()
	e.Raw("* ").AString("a b").SP().AString("ab").SP().String("é").SP().NString(nil).SP().String("a\r\nb").SP().String("a\x00b").CRLF()
	if want := "* \"a b\" ab {2}\r\né NIL {4}\r\na\r\nb \"ab\"\r\n"; string(e.Bytes()) != want {
		t.Errorf("%q, want %q", e.Bytes(), want)
	}
	e.Reset()
	e.UTF8 = true
	e.String("é").SP().String("\xff").SP().Mailbox("é").SP().LiteralHeader(5, true)
	if want := "\"é\" {1}\r\n\xff \"é\" ~{5}\r\n"; string(e.Bytes()) != want {
		t.Errorf("%q, want %q", e.Bytes(), want)
	}
	e.Reset()
	e.String(strings.Repeat("a", 5000)) // some clients read quoted strings into small buffers
	if !strings.HasPrefix(string(e.Bytes()), "{5000}\r\naaa") {
		t.Errorf("%.20q", e.Bytes())
	}
	e.Reset()
	e.UTF8 = false
	at := time.Date(1996, 7, 1, 2, 44, 25, 0, time.FixedZone("", -7*3600))
	e.Mailbox("é").SP().Mailbox("A b").SP().Mailbox("NIL").SP().DateTime(at).SP().UIDs(mail.SetOf(1, 2, 5)).SP().Number(7)
	if want := `&AOk- "A b" "NIL" " 1-Jul-1996 02:44:25 -0700" 1:2,5 7`; string(e.Bytes()) != want {
		t.Errorf("%q, want %q", e.Bytes(), want)
	}
}

// A name that is not in its normal form is known in both (RFC 9051, 6.3.9.7).
func TestOldName(t *testing.T) {
	for _, test := range []struct {
		in, name, old string
		utf8          bool
	}{
		{"abc", "abc", "", true}, {"\"Gr\u00fcn\"", "Gr\u00fcn", "", true}, {"\"Gru\u0308n\"", "Gr\u00fcn", "Gru\u0308n", true},
		{"inbox/X", "INBOX/X", "inbox/X", true}, {"inbox", "INBOX", "", false}, {"Gr&APw-n", "Gr\u00fcn", "", false},
	} {
		d := NewDecoder(bufio.NewReader(strings.NewReader(test.in+"\r\n")), DefaultLimits)
		d.UTF8, d.OldName = test.utf8, "of another command"
		d.Begin()
		var name string
		if !d.ExpectMailbox(&name) || name != test.name || d.OldName != test.old {
			t.Errorf("%s: %q %q %v", test.in, name, d.OldName, d.Err())
		}
	}
}
