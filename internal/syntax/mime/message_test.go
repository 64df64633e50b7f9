package mime

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestEnvelope(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"empty", "", `(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)`},
		// RFC 9051, 7.5.2 (the example, as a message).
		{"example", "Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\nSubject: IMAP4rev2 WG mtg summary and minutes\n" +
			"From: Terry Gray <gray@cac.washington.edu>\nTo: imap@cac.washington.edu\n" +
			"Cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>\nMessage-Id: <B27397-0100000@cac.washington.ed>\n",
			`("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)" "IMAP4rev2 WG mtg summary and minutes"` +
				` (("Terry Gray" NIL "gray" "cac.washington.edu")) (("Terry Gray" NIL "gray" "cac.washington.edu"))` +
				` (("Terry Gray" NIL "gray" "cac.washington.edu")) ((NIL NIL "imap" "cac.washington.edu"))` +
				` ((NIL NIL "minutes" "CNRI.Reston.VA.US")("John Klensin" NIL "KLENSIN" "MIT.EDU")) NIL NIL` +
				` "<B27397-0100000@cac.washington.ed>")`},
		{"group", "To: A Group:Ed <c@a.test>,joe@b.test;, x@y\n",
			`(NIL NIL NIL NIL NIL ((NIL NIL "A Group" NIL)("Ed" NIL "c" "a.test")(NIL NIL "joe" "b.test")(NIL NIL NIL NIL)(NIL NIL "x" "y")) NIL NIL NIL NIL)`},
		{"empty group", "To: undisclosed-recipients:;\n",
			`(NIL NIL NIL NIL NIL ((NIL NIL "undisclosed-recipients" NIL)(NIL NIL NIL NIL)) NIL NIL NIL NIL)`},
		{"open group", "To: a:b@c\n",
			`(NIL NIL NIL NIL NIL ((NIL NIL "a" NIL)(NIL NIL "b" "c")(NIL NIL NIL NIL)) NIL NIL NIL NIL)`},
		{"no domain is not a group", "To: root\n", `(NIL NIL NIL NIL NIL ((NIL NIL "root" "")) NIL NIL NIL NIL)`},
		{"sender and reply-to", "From: a@b\nSender: c@d\nReply-To: e@f\n",
			`(NIL NIL ((NIL NIL "a" "b")) ((NIL NIL "c" "d")) ((NIL NIL "e" "f")) NIL NIL NIL NIL NIL)`},
		{"empty sender", "From: a@b\nSender:\n",
			`(NIL NIL ((NIL NIL "a" "b")) ((NIL NIL "a" "b")) ((NIL NIL "a" "b")) NIL NIL NIL NIL NIL)`},
		{"fields that add up", "To: a@b\nTo: c@d\nSubject: 1\nSubject: 2\n",
			`(NIL "1" NIL NIL NIL ((NIL NIL "a" "b")(NIL NIL "c" "d")) NIL NIL NIL NIL)`},
		{"encoded words stay", "Subject: =?utf-8?q?=C3=A9?=\nFrom: =?utf-8?q?=C3=A9?= <a@b>\n",
			`(NIL "=?utf-8?q?=C3=A9?=" (("=?utf-8?q?=C3=A9?=" NIL "a" "b")) (("=?utf-8?q?=C3=A9?=" NIL "a" "b")) (("=?utf-8?q?=C3=A9?=" NIL "a" "b")) NIL NIL NIL NIL NIL)`},
		{"unfolded and quoted", "Subject: a\n \"b\" \\\n\tc\n", `(NIL "a \"b\" \\` + "\t" + `c" NIL NIL NIL NIL NIL NIL NIL NIL)`},
		{"empty subject", "Subject:\n", `(NIL "" NIL NIL NIL NIL NIL NIL NIL NIL)`},
		{"8-bit", "Subject: \xc3\xa9\n", "(NIL {2}\r\n\xc3\xa9 NIL NIL NIL NIL NIL NIL NIL NIL)"},
		{"NUL and bare CR", "Subject: a\x00b\rc\n", "(NIL {4}\r\nab\rc NIL NIL NIL NIL NIL NIL NIL NIL)"},
		{"route", "From: <@x,@y:a@b>\n",
			`(NIL NIL ((NIL "@x,@y" "a" "b")) ((NIL "@x,@y" "a" "b")) ((NIL "@x,@y" "a" "b")) NIL NIL NIL NIL NIL)`},
	} {
		in := strings.ReplaceAll(c.in, "\n", "\r\n")
		m := parse(in, Limits{})
		check(t, []byte(in), m)
		if got := string(m.Envelope); got != c.want {
			t.Errorf("%s: got  %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestBodyStructure(t *testing.T) {
	for _, c := range []struct{ name, in, want, basic string }{
		{"plain", "\nab\ncd",
			`("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 6 1 NIL NIL NIL NIL)`,
			`("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 6 1)`},
		{"all fields", "Content-Type: text/HTML; charset=UTF-8; x=\"a\\\"b\"\nContent-ID: <i@d>\nContent-Description: d\n e\n" +
			"Content-Transfer-Encoding: Base64 (c)\nContent-MD5: Q2hlY2s=\nContent-Disposition: Inline; filename=f; size=3\n" +
			"Content-Language: en, de-AT (c)\nContent-Location: http://x/y\n\nYQ==",
			`("text" "html" ("charset" "UTF-8" "x" "a\"b") "<i@d>" "d e" "base64" 4 0 "Q2hlY2s=" ("inline" ("filename" "f" "size" "3")) ("en" "de-AT") "http://x/y")`,
			`("text" "html" ("charset" "UTF-8" "x" "a\"b") "<i@d>" "d e" "base64" 4 0)`},
		{"image", "Content-Type: image/png\n\n",
			`("image" "png" NIL NIL NIL "7bit" 0 NIL NIL NIL NIL)`, `("image" "png" NIL NIL NIL "7bit" 0)`},
		{"multipart", "Content-Type: multipart/mixed; boundary=b\nContent-Disposition: x\nContent-Language: fr\nContent-Location: l\n\n--b\n\n1\n--b\nContent-Type: a/b\n\n--b--",
			`(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0 NIL NIL NIL NIL)("a" "b" NIL NIL NIL "7bit" 0 NIL NIL NIL NIL) "mixed" ("boundary" "b") ("x" NIL) ("fr") "l")`,
			`(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0)("a" "b" NIL NIL NIL "7bit" 0) "mixed")`},
		{"message", "Content-Type: message/rfc822\n\nSubject: s\n\nx\n",
			`("message" "rfc822" NIL NIL NIL "7bit" 17 (NIL "s" NIL NIL NIL NIL NIL NIL NIL NIL) ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 1 NIL NIL NIL NIL) 3 NIL NIL NIL NIL)`,
			`("message" "rfc822" NIL NIL NIL "7bit" 17 (NIL "s" NIL NIL NIL NIL NIL NIL NIL NIL) ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 1) 3)`},
		{"8-bit name", "Content-Type: a/b; name=\"\xe9\"\n\n",
			"(\"a\" \"b\" (\"name\" {1}\r\n\xe9) NIL NIL \"7bit\" 0 NIL NIL NIL NIL)",
			"(\"a\" \"b\" (\"name\" {1}\r\n\xe9) NIL NIL \"7bit\" 0)"},
	} {
		in := crlf(c.in)
		m := parse(in, Limits{})
		check(t, []byte(in), m)
		if got := string(m.BodyStructure); got != c.want {
			t.Errorf("%s: got  %s\nwant %s", c.name, got, c.want)
		}
		if got := string(BasicStructure(m.BodyStructure)); got != c.basic {
			t.Errorf("%s: got  %s\nwant %s", c.name, got, c.basic)
		}
	}
}

func TestBasicStructureRefuses(t *testing.T) {
	ok := `("a" "b" NIL NIL NIL "7bit" 0 NIL)`
	if BasicStructure([]byte(ok)) == nil {
		t.Fatal("a good structure is refused")
	}
	for _, in := range []string{"", "(", ")", "()", "(())", `("a" "b")`, ok + "x", ok[:len(ok)-1], `("a" "b" NIL NIL NIL "7bit" {9}` + "\r\nx)",
		`("text" "plain" NIL NIL NIL "7bit" 0)`, "(\"a\" \"b\" NIL NIL NIL {}\r\n 0)", strings.Repeat("(", 5000), strings.Repeat("(", 5000) + strings.Repeat(")", 5000)} {
		if out := BasicStructure([]byte(in)); out != nil {
			t.Errorf("%.40q became %.40q", in, out)
		}
	}
}

func TestMessageFields(t *testing.T) {
	in := crlf("Date: Fri, 21 Nov 1997 09:55:06 -0600\nSubject: Re: [list] =?utf-8?q?caf=C3=A9?=\nFrom: =?utf-8?q?J=C3=BCrgen?= <j@x.test>\n" +
		"Sender: s@x.test\nReply-To: r@x.test\nTo: G: a@x.test, b@x.test;\nCc: c@x.test\nBcc: d@x.test\n" +
		"Message-ID: <1@x>\nIn-Reply-To: <2@x>\nReferences: <3@x>\n <2@x>\n\nbody\n")
	m := parse(in, Limits{})
	check(t, []byte(in), m)
	want := Message{
		Subject: "Re: [list] café", BaseSubject: "café", IsReply: true,
		From: []Address{{"Jürgen", "j", "x.test"}}, Sender: []Address{{"", "s", "x.test"}}, ReplyTo: []Address{{"", "r", "x.test"}},
		To: []Address{{"", "a", "x.test"}, {"", "b", "x.test"}}, Cc: []Address{{"", "c", "x.test"}}, Bcc: []Address{{"", "d", "x.test"}},
		FirstFrom: Address{"Jürgen", "j", "x.test"}, FirstTo: Address{"", "G", ""}, FirstCc: Address{"", "c", "x.test"},
		Date:      time.Date(1997, 11, 21, 9, 55, 6, 0, zone(-6, 0)),
		MessageID: "1@x", InReplyTo: []string{"2@x"}, References: []string{"3@x", "2@x"},
		Preview: "body", LongestLine: 46,
		Size: int64(len(in)), HeaderSize: int64(len(in) - 6), Root: m.Root, Envelope: m.Envelope, BodyStructure: m.BodyStructure,
	}
	if want.LongestLine = m.LongestLine; !reflect.DeepEqual(*m, want) {
		t.Errorf("got  %+v\nwant %+v", *m, want)
	}
}

func TestHeader8Bit(t *testing.T) {
	for _, c := range []struct {
		in        string
		any, head bool
	}{
		{"Subject: x\n\ny", false, false},
		{"Subject: \xc3\xa9\n\ny", true, true},
		{"Subject: x\n\n\xc3\xa9", true, false},
		{"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Description: \xc3\xa9\n\n--b--", true, true},
		{"Content-Type: multipart/mixed; boundary=b\n\n--b\n\n\xc3\xa9\n--b--", true, false},
	} {
		if m := parse(c.in, Limits{}); m.Has8Bit != c.any || m.HeaderHas8Bit != c.head {
			t.Errorf("%q: %v, %v", c.in, m.Has8Bit, m.HeaderHas8Bit)
		}
	}
}

func TestPreview(t *testing.T) {
	multi := func(parts ...string) string {
		return "Content-Type: multipart/alternative; boundary=b\n\n--b\n" + strings.Join(parts, "\n--b\n") + "\n--b--\n"
	}
	for _, c := range []struct{ name, in, want string }{
		{"none", "Content-Type: image/png\n\nx", ""},
		{"white space", "\n  a \t\n\n b\u00a0 c \n", "a b c"},
		{"200 characters", "\n" + strings.Repeat("é", 300), strings.Repeat("é", 200)},
		{"not a space at the end", "\n" + strings.Repeat("é", 199) + " x", strings.Repeat("é", 199)},
		{"base64", "Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: base64\n\nY2Fm6Q==\n", "café"},
		{"quoted-printable", "Content-Transfer-Encoding: quoted-printable\n\na=\nb =C3=A9\n", "ab é"},
		{"unknown charset", "Content-Type: text/plain; charset=nobody\n\na\xe9b", "a\uFFFDb"},
		{"plain before html", multi("Content-Type: text/html\n\n<p>web", "\nplain"), "plain"},
		{"html if plain is empty", multi("\n  ", "Content-Type: text/html\n\n<p>web</p>"), "web"},
		{"html", "Content-Type: text/html\n\n<html><head><title>T</title><style>p{}</style></head><body><!-- c --><p>a &lt;b&gt;</p><p>c<b>d</b><br>e</body>", "a <b> cd e"},
		{"open style", "Content-Type: text/html\n\na<style>b", "a"},
		{"open comment", "Content-Type: text/html\n\na<!-- b", "a"},
		{"attribute with >", "Content-Type: text/html\n\n<a href=\"x>y\">z</a> 1 < 2", "z 1 < 2"},
		{"attachment is none", "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Disposition: attachment\n\nx\n--b--", ""},
		{"inner message is none", "Content-Type: message/rfc822\n\n\nx", ""},
		{"control characters", "\na\x1b[1mb\x00c\u202ed", "a[1mbcd"},
		{"boundary is no text", multi("\nshort"), "short"},
	} {
		m := parse(crlf(c.in), Limits{})
		check(t, []byte(crlf(c.in)), m)
		if m.Preview != c.want {
			t.Errorf("%s: %q, want %q", c.name, m.Preview, c.want)
		}
	}
	// A character cut by the limit leaves nothing behind.
	if m := parse("\r\n"+strings.Repeat("é", 20), Limits{PlainBytes: 11}); m.Preview != "ééééé" {
		t.Errorf("cut preview is %q", m.Preview)
	}
}

func TestHasAttachment(t *testing.T) {
	part := func(h string) string {
		return "Content-Type: multipart/mixed; boundary=b\n\n--b\n\ntext\n--b\n" + h + "\n\nx\n--b--\n"
	}
	for _, c := range []struct {
		name, in string
		want     bool
	}{
		{"plain", "\nx", false},
		{"whole message", "Content-Disposition: attachment\n\nx", true},
		{"attachment", part("Content-Disposition: attachment"), true},
		{"name", part("Content-Type: image/png; name=a.png"), true},
		{"image in the text", part("Content-Type: image/png; name=a.png\nContent-ID: <i>\nContent-Disposition: inline"), false},
		{"signature", part("Content-Type: application/pgp-signature; name=s.asc"), false},
		{"html", part("Content-Type: text/html"), false},
		{"message", part("Content-Type: message/rfc822"), true},
		{"report", strings.Replace(part("Content-Type: message/rfc822"), "mixed", "report", 1), false},
		{"digest", strings.Replace(part("Subject: x"), "mixed", "digest", 1), false},
	} {
		if m := parse(crlf(c.in), Limits{}); m.HasAttachment != c.want {
			t.Errorf("%s: %v", c.name, m.HasAttachment)
		}
	}
}

// TestFind uses the message of RFC 9051, 6.4.5.1.
func TestFind(t *testing.T) {
	in := crlf(`Content-Type: multipart/mixed; boundary=o

--o

1
--o
Content-Type: application/octet-stream

2
--o
Content-Type: message/rfc822

Content-Type: multipart/mixed; boundary=i

--i

3.1
--i
Content-Type: application/octet-stream

3.2
--i--
--o
Content-Type: multipart/mixed; boundary=j

--j
Content-Type: image/gif

4.1
--j
Content-Type: message/rfc822

Content-Type: multipart/mixed; boundary=k

--k

4.2.1
--k
Content-Type: multipart/alternative; boundary=l

--l

4.2.2.1
--l
Content-Type: text/richtext

4.2.2.2
--l--
--k--
--j--
--o--
`)
	m := parse(in, Limits{})
	check(t, []byte(in), m)
	for _, c := range []struct {
		path []int
		want string
	}{
		{nil, "multipart/mixed"},
		{[]int{1}, "1"}, {[]int{2}, "2"}, {[]int{3}, "message/rfc822"}, {[]int{3, 1}, "3.1"}, {[]int{3, 2}, "3.2"},
		{[]int{4}, "multipart/mixed"}, {[]int{4, 1}, "4.1"}, {[]int{4, 2}, "message/rfc822"}, {[]int{4, 2, 1}, "4.2.1"},
		{[]int{4, 2, 2}, "multipart/alternative"}, {[]int{4, 2, 2, 1}, "4.2.2.1"}, {[]int{4, 2, 2, 2}, "4.2.2.2"},
		{[]int{0}, ""}, {[]int{5}, ""}, {[]int{-1}, ""}, {[]int{1, 1}, ""}, {[]int{3, 3}, ""}, {[]int{4, 2, 2, 2, 1}, ""},
	} {
		got := ""
		if p := m.Root.Find(c.path); p != nil {
			if got = in[p.Body:p.End]; len(p.Children) > 0 {
				got = p.Type + "/" + p.Subtype
			}
		}
		if got != c.want {
			t.Errorf("%v is %q, want %q", c.path, got, c.want)
		}
	}
	single := crlf("Subject: x\n\nbody")
	root := parse(single, Limits{}).Root
	if root.Find([]int{1}) != root || root.Find([]int{2}) != nil || root.Find([]int{1, 1}) != nil {
		t.Error("part 1 of a message that is no multipart")
	}
	root = parse(crlf("Content-Type: message/rfc822\n\nSubject: x\n\nin"), Limits{}).Root
	if root.Find([]int{1}) != root || root.Find([]int{1, 1}) != root.Children[0] || root.Find([]int{1, 1, 1}) != nil {
		t.Error("part 1.1 of a message that is a message")
	}
}

func TestShift(t *testing.T) {
	in := crlf("Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n\nSubject: x\n\n1\n--b\n\n2\n--b--\n")
	trace := "Received: by x\r\n"
	got := parse(in, Limits{}).Root
	got.Shift(int64(len(trace)))
	sameTree(t, got, parse(trace+in, Limits{}).Root)
}

func TestParsePartRefuses(t *testing.T) {
	good := parse(crlf("Content-Type: multipart/mixed; boundary=b\n\n--b\n\n1\n--b--\n"), Limits{}).Root.AppendBinary(nil)
	if _, err := ParsePart(good); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		if _, err := ParsePart(good[:i]); err == nil {
			t.Errorf("the first %d bytes of %d are accepted", i, len(good))
		}
	}
	if _, err := ParsePart(append(good, 0)); err == nil {
		t.Error("a byte too many is accepted")
	}
	sticking := []byte{storedVersion, 4, 5, 0, 0, 0, 1, 2, 0, 1, 1, 2, 0, 0, 0, 0, 100, 0, 0}
	if _, err := ParsePart(sticking); err == nil {
		t.Error("a child that ends after its parent is accepted")
	}
	deep := []byte{storedVersion}
	for range 5000 {
		deep = append(deep, 4, 5, 0, 0, 0, 0, 0, 0, 1)
	}
	if _, err := ParsePart(deep); err == nil {
		t.Error("5,000 levels are accepted")
	}
}

func TestStoredWordsAreDistinct(t *testing.T) {
	seen := map[string]bool{}
	for i, w := range storedWords {
		if seen[w] || i >= 0xff {
			t.Errorf("word %d, %q", i, w)
		}
		seen[w] = true
	}
	if got := fmt.Sprint(storedWords[1], storedWords[18], storedWords[40]); got != "text7bitiso-2022-jp" {
		t.Errorf("the word list moved: %s", got)
	}
}
