package imap

import (
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/fault"
)

func TestStoreLabels(t *testing.T) {
	for in, want := range map[string]string{
		`1:3 +X-GM-LABELS (foo)`:                          `1:3 +X-GM-LABELS ("foo")`,
		`1 -X-GM-LABELS.SILENT (\inbox "\\Trash" \\sent)`: `1 -X-GM-LABELS.SILENT (\Inbox \Trash \Sent)`,
		`1 X-GM-LABELS ()`:                                `1 X-GM-LABELS ()`,
		`1 +X-GM-LABELS \Drafts`:                          `1 +X-GM-LABELS (\Draft)`,
		`1 +X-GM-LABELS a "b c" a`:                        `1 +X-GM-LABELS ("a" "b c")`,
		`1 +X-GM-LABELS (&ZeVnLIqe- inbox)`:               `1 +X-GM-LABELS ("&ZeVnLIqe-" "INBOX")`,
		`1 (UNCHANGEDSINCE 7) +X-GM-LABELS (\Junk)`:       `1 (UNCHANGEDSINCE 7) +X-GM-LABELS (\Spam)`,
	} {
		s, err := parse(in, (*Decoder).ExpectStore)
		if got := string(s.AppendText(nil)); err != nil || got != want {
			t.Errorf("%s: %s %v", in, got, err)
		}
	}
	for in, why := range map[string]string{
		`1 +X-GM-LABELS`: "a space", `1 +X-GM-LABELS (foo`: "a space or ')'", `1 +X-GM-LABELS (\)`: "a label",
		`1 +X-GM-LABELS.LOUD (a)`: "STORE knows", "1 X-GM-LABELS (" + numbered(MaxLabels+1) + ")": "too many labels",
	} {
		_, err := parse(in, (*Decoder).ExpectStore)
		says(t, err, why)
	}
	// Well formed, and no labels: the answer is NO.
	for _, in := range []string{`1 +X-GM-LABELS (\Nothing)`, `1 +X-GM-LABELS ("")`, `1 +X-GM-LABELS (&x)`, `1 +X-GM-LABELS ("a` + "\x7f" + `")`} {
		if _, err := parse(in, (*Decoder).ExpectStore); !fault.Is(err, fault.Unsupported) {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func numbered(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.Write(appendNumber(nil, uint64(i)))
	}
	return b.String()
}

func TestGmailKeys(t *testing.T) {
	for in, want := range map[string]string{
		`X-GM-MSGID 18446744073709551615`:  `X-GM-MSGID 18446744073709551615`,
		`x-gm-thrid 1266894439832287888`:   `X-GM-THRID 1266894439832287888`,
		`X-GM-LABELS \starred`:             `X-GM-LABELS \Starred`,
		`NOT X-GM-LABELS "Muy Importante"`: `NOT X-GM-LABELS "Muy Importante"`,
	} {
		s, err := parse(in, (*Decoder).ExpectSearch)
		if got := string(s.Key.AppendText(nil)); err != nil || got != want {
			t.Errorf("%s: %s %v", in, got, err)
		}
	}
	for in, why := range map[string]string{
		`X-GM-MSGID 18446744073709551616`: "too large", `X-GM-THRID x`: "a number", `X-GM-RAW`: "a space",
	} {
		_, err := parse(in, (*Decoder).ExpectSearch)
		says(t, err, why)
	}
	f, err := parse("1:4 (X-GM-MSGID X-GM-THRID X-GM-LABELS)", (*Decoder).ExpectFetch)
	if got := string(f.AppendText(nil)); err != nil || got != "1:4 (X-GM-MSGID X-GM-THRID X-GM-LABELS)" {
		t.Errorf("%s %v", got, err)
	}
}

func TestGmailQuery(t *testing.T) {
	for in, want := range map[string]string{
		``:                            `ALL`,
		`has:attachment in:unread`:    `(X-GM-RAW "has:attachment" NOT SEEN)`, // Gmail's own example
		`dinner movie`:                `(TEXT "dinner" TEXT "movie")`,
		`"dinner and movie"`:          `TEXT "dinner and movie"`,
		`from:amy OR from:bob`:        `OR FROM "amy" FROM "bob"`,
		`a OR b c`:                    `(OR TEXT "a" TEXT "b" TEXT "c")`,
		`a | b|c`:                     `OR TEXT "a" OR TEXT "b" TEXT "c"`,
		`{from:amy from:bob}`:         `OR FROM "amy" FROM "bob"`,
		`subject:(dinner movie)`:      `(SUBJECT "dinner" SUBJECT "movie")`,
		`subject:"dinner movie"`:      `HEADER "SUBJECT" "dinner movie"`,
		`subject:{a b} -c`:            `(OR HEADER "SUBJECT" "a" HEADER "SUBJECT" "b" NOT TEXT "c")`,
		`-from:(bob OR amy)`:          `NOT OR FROM "bob" FROM "amy"`,
		`--a +b - c`:                  `(TEXT "a" TEXT "b" ALL TEXT "c")`,
		`to:me`:                       `OR CC "me" OR BCC "me" TO "me"`,
		`cc:a bcc:b`:                  `(CC "a" BCC "b")`,
		`label:my-friends l:x`:        `(X-GM-RAW "label:\"my-friends\"" X-GM-RAW "label:\"x\"")`,
		`label:"my friends"`:          `X-GM-RAW "label:\"my friends\""`,
		`in:Work in:sent in:anywhere`: `(X-GM-RAW "label:\"work\"" X-GM-LABELS \Sent ALL)`,
		`is:starred is:unread is:read is:important`: `(X-GM-LABELS \Starred NOT SEEN SEEN X-GM-LABELS \Important)`,
		`has:yellow-star`:                          `X-GM-LABELS \Starred`,
		`after:2004/04/16 before:2004/4/18`:        `(SINCE 16-Apr-2004 BEFORE 18-Apr-2004)`,
		`newer:04/16/2004 older:2004-04-18`:        `(SINCE 16-Apr-2004 BEFORE 18-Apr-2004)`,
		`after:1388552400`:                         `X-GM-RAW "after:1388552400"`,
		`before:1388552400`:                        `X-GM-RAW "before:1388552400"`,
		`older_than:1y newer_than:2d`:              `(OLDER 31536000 YOUNGER 172800)`,
		`larger:10M smaller:2k size:1000000`:       `(LARGER 10485760 SMALLER 2048 LARGER 1000000)`,
		`filename:pdf`:                             `X-GM-RAW "filename:\"pdf\""`,
		`rfc822msgid:<200503292@example.com>`:      `HEADER "Message-ID" "<200503292@example.com>"`,
		`list:info@example.com deliveredto:x@y`:    `(HEADER "List-ID" "info@example.com" HEADER "Delivered-To" "x@y")`,
		`category:primary http://x.y/z 10:30`:      `(TEXT "category:primary" TEXT "http://x.y/z" TEXT "10:30")`,
		`larger:huge before:noon is:odd has:drive`: `(TEXT "larger:huge" TEXT "before:noon" TEXT "is:odd" TEXT "has:drive")`,
		`from: x`:        `(TEXT "from:" TEXT "x")`,
		`a AND b`:        `(TEXT "a" ALL TEXT "b")`,
		`ORDER OR`:       `TEXT "ORDER"`,
		`((a) b`:         `(TEXT "a" TEXT "b")`,
		`a) b} "c`:       `(TEXT "a" TEXT "b" TEXT "c")`,
		`()`:             `ALL`,
		`Größe größer:1`: `(TEXT "Größe" TEXT "größer:1")`,
	} {
		s, err := parse("X-GM-RAW "+string(AppendString(nil, in, true, true)), (*Decoder).ExpectSearch)
		want = strings.ReplaceAll(want, `SUBJECT "dinner"`, `HEADER "SUBJECT" "dinner"`)
		want = strings.ReplaceAll(want, `SUBJECT "movie"`, `HEADER "SUBJECT" "movie"`)
		if got := string(s.Key.AppendText(nil)); err != nil || got != want {
			t.Errorf("%s\n got %s %v\nwant %s", in, got, err, want)
		}
	}
	for in, why := range map[string]string{
		strings.Repeat("(", 60):        "too many brackets",
		strings.Repeat("-{a b c ", 49): "nested too deep",
		strings.Repeat("a ", 1100):     "too many terms",
		strings.Repeat("{a b} ", 2000): "more than 2000 items",
	} {
		_, err := parse("X-GM-RAW "+string(AppendString(nil, in, true, true)), (*Decoder).ExpectSearch)
		says(t, err, why)
	}
}

// FuzzGmail: a query is never refused but for its size; what it means can be written
// and read again; labels keep their form.
func FuzzGmail(f *testing.F) {
	for _, s := range []string{
		`has:attachment in:unread`, `{a b} -(c OR "d e") subject:(x y) to:me`, `larger:1M older_than:2w after:2020/1/2 after:5`,
		`label:a-b filename:"x y"`, `((-{`, `a|b OR c`, `from:"" is:`, `--`, "a\xa0b", `in:anywhere -in:inbox`, "larger:\x8aK",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		if len(in) > 8192 {
			return
		}
		stable(t, "X-GM-RAW "+string(AppendString(nil, in, true, true)), (*Decoder).ExpectSearch, func(s Search) []byte { return s.AppendText(nil) })
		stable(t, "1 +X-GM-LABELS ("+in+")", (*Decoder).ExpectStore, func(s Store) []byte { return s.AppendText(nil) })
		d := NewDecoder(nil, DefaultLimits)
		var key SearchKey
		if !d.gmailQuery(in, &key) && len(in) < 50 {
			t.Fatalf("%q: %v", in, d.Err())
		}
	})
}
