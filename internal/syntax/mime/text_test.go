package mime

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime/quotedprintable"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

var wordTable = []struct{ in, want string }{
	{"plain", "plain"},
	{"", ""},
	// RFC 2047, 8.
	{"=?ISO-8859-1?Q?a?=", "a"},
	{"=?ISO-8859-1?Q?a?= b", "a b"},
	{"=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"},
	{"=?ISO-8859-1?Q?a?=  =?ISO-8859-1?Q?b?=", "ab"},
	{"=?ISO-8859-1?Q?a?=\r\n =?ISO-8859-1?Q?b?=", "ab"},
	{"=?ISO-8859-1?Q?a_b?=", "a b"},
	{"=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=", "a b"},
	{"=?US-ASCII?Q?Keith_Moore?=", "Keith Moore"},
	{"=?ISO-8859-1?Q?Andr=E9?= Pirard", "André Pirard"},
	{"=?ISO-8859-1?B?SWYgeW91IGNhbiByZWFkIHRoaXMgeW8=?=\r\n =?ISO-8859-2?B?dSB1bmRlcnN0YW5kIHRoZSBleGFtcGxlLg==?=",
		"If you can read this you understand the example."},
	// RFC 2231, 5: a language after the charset.
	{"=?US-ASCII*EN?Q?Keith_Moore?=", "Keith Moore"},
	{"=?utf-8?B?ww?= =?utf-8?B?qQ?=", "é"},
	{"=?utf-8?q?=C3?= =?utf-8?q?=A9?=", "é"},
	{"=?utf-8?q?a b?=", "a b"},
	{"x=?utf-8?q?=C3=A9?=y", "xéy"},
	{"=?utf-8?q?a?= ", "a "},
	{"=?utf-8?q?a?= b =?utf-8?q?c?=", "a b c"},
	{"=?koi8-r?B?8NLJ18XU?=", "Привет"},
	{"=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "日本"},
	{"=?gb2312?B?xOO6ww==?=", "你好"},
	{"=?windows-1252?Q?=80?=", "€"},
	{"=?x-nobody-knows?Q?a=E9b?=", "a\uFFFDb"},
	{"=?utf-7?Q?+ADw-b+AD4-?=", "+ADw-b+AD4-"},
	{"=?utf-8?x?a?=", "=?utf-8?x?a?="},
	{"=?utf-8?q?a", "=?utf-8?q?a"},
	{"=?utf-8?q?a?b?=", "=?utf-8?q?a?b?="},
	{"=??q?a?=", "=??q?a?="},
	{"=?=?utf-8?q?a?=", "=?a"},
	{"=?utf-8?q??=", ""},
	{"=?utf-8?q?=zz=4?=", "=zz=4"},
	{"=?utf-8?b?w6k?=", "é"},
	{"raw \xe9", "raw \uFFFD"},
}

func TestDecodeWords(t *testing.T) {
	for _, c := range wordTable {
		if got := DecodeWords(c.in); got != c.want {
			t.Errorf("DecodeWords(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

func zone(h, m int) *time.Location { return time.FixedZone("", (h*60+m)*60) }

var dateTable = []struct {
	in   string
	want time.Time // zero: no date
}{
	// RFC 5322, A.
	{"Fri, 21 Nov 1997 09:55:06 -0600", time.Date(1997, 11, 21, 9, 55, 6, 0, zone(-6, 0))},
	{"Tue, 1 Jul 2003 10:52:37 +0200", time.Date(2003, 7, 1, 10, 52, 37, 0, zone(2, 0))},
	{"21 Nov 97 09:55:06 GMT", time.Date(1997, 11, 21, 9, 55, 6, 0, time.UTC)},
	{"Fri, 21 Nov 1997 09(comment):   55  :  06 -0600", time.Date(1997, 11, 21, 9, 55, 6, 0, zone(-6, 0))},
	{"Thu,\r\n      13\r\n        Feb\r\n          1969\r\n      23:32\r\n               -0330 (Newfoundland Time)",
		time.Date(1969, 2, 13, 23, 32, 0, 0, zone(-3, -30))},
	{"1 Jan 49 00:00 Z", time.Date(2049, 1, 1, 0, 0, 0, 0, time.UTC)},
	{"1 Jan 50 00:00 Z", time.Date(1950, 1, 1, 0, 0, 0, 0, time.UTC)},
	{"1 Jan 103 00:00 Z", time.Date(2003, 1, 1, 0, 0, 0, 0, time.UTC)},
	{"1 Jan 2003 00:00:00 EST", time.Date(2003, 1, 1, 0, 0, 0, 0, zone(-5, 0))},
	{"1 Jan 2003 00:00:00 A", time.Date(2003, 1, 1, 0, 0, 0, 0, time.UTC)},
	{"1 Jan 2003 00:00:00", time.Date(2003, 1, 1, 0, 0, 0, 0, time.UTC)},
	{"1 Jan 2003 23:59:60 +0000", time.Date(2003, 1, 1, 23, 59, 59, 0, time.UTC)},
	{"Mon Jan  6 10:11:12 2003", time.Date(2003, 1, 6, 10, 11, 12, 0, time.UTC)},
	{"06-Jan-2003 10:11:12 +0100", time.Date(2003, 1, 6, 10, 11, 12, 0, zone(1, 0))},
	{"Mon, 6 January 2003 10:11:12 GMT+0100", time.Date(2003, 1, 6, 10, 11, 12, 0, zone(1, 0))},
	{"6 Jan 2003 10:11:12+01:00", time.Date(2003, 1, 6, 10, 11, 12, 0, zone(1, 0))},
	{"6 Jan 2003 10:11:12 +01:00", time.Date(2003, 1, 6, 10, 11, 12, 0, zone(1, 0))},
	{"6 Jan 2003 10:11 PM", time.Date(2003, 1, 6, 22, 11, 0, 0, time.UTC)},
	{"6 Jan 2003 10:11:12 +01", time.Date(2003, 1, 6, 10, 11, 12, 0, zone(1, 0))},
	{"6 Jan 2003 10:11:12+27", time.Date(2003, 1, 6, 10, 11, 12, 0, time.UTC)},
	{"6 Jan 2003 10:11:12 +9999", time.Date(2003, 1, 6, 10, 11, 12, 0, time.UTC)},
	{"29 Feb 2004 00:00:00 +0000", time.Date(2004, 2, 29, 0, 0, 0, 0, time.UTC)},
	{"29 Feb 2003 00:00:00 +0000", time.Time{}},
	{"31 Apr 2003 00:00:00 +0000", time.Time{}},
	{"0 Jan 2003 00:00:00 +0000", time.Time{}},
	{"1 Jan 1899 00:00:00 +0000", time.Time{}},
	{"1 Jan 2003 24:00:00 +0000", time.Time{}},
	{"1 Jan 2003", time.Time{}},
	{"", time.Time{}},
	{"(((((", time.Time{}},
	{"yesterday", time.Time{}},
}

func TestParseDate(t *testing.T) {
	for _, c := range dateTable {
		got, ok := ParseDate(c.in)
		if ok == c.want.IsZero() || !got.Equal(c.want) {
			t.Errorf("ParseDate(%q) = %v, %v, want %v", c.in, got, ok, c.want)
		}
		if _, offset := got.Zone(); ok {
			if _, want := c.want.Zone(); offset != want {
				t.Errorf("ParseDate(%q) has zone %d, want %d", c.in, offset, want)
			}
		}
	}
}

var addressTable = []struct {
	in   string
	want []Address
}{
	{"", nil},
	{"a@b.example", []Address{{"", "a", "b.example"}}},
	// RFC 5322, A.1.
	{"John Doe <jdoe@machine.example>", []Address{{"John Doe", "jdoe", "machine.example"}}},
	{`"Joe Q. Public" <john.q.public@example.com>`, []Address{{"Joe Q. Public", "john.q.public", "example.com"}}},
	{`Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>`,
		[]Address{{"Mary Smith", "mary", "x.test"}, {"", "jdoe", "example.org"}, {"Who?", "one", "y.test"}}},
	{`<boss@nil.test>, "Giant; \"Big\" Box" <sysservices@example.net>`,
		[]Address{{"", "boss", "nil.test"}, {`Giant; "Big" Box`, "sysservices", "example.net"}}},
	{`A Group:Ed Jones <c@a.test>,joe@where.test,John <jdoe@one.test>;`,
		[]Address{{"Ed Jones", "c", "a.test"}, {"", "joe", "where.test"}, {"John", "jdoe", "one.test"}}},
	{"Undisclosed recipients:;", nil},
	// RFC 5322, A.5 and A.6.1.
	{`Pete(A nice \) chap) <pete(his account)@silly.test(his host)>`, []Address{{"Pete", "pete", "silly.test"}}},
	{"A Group(Some people)\r\n     :Chris Jones <c@(Chris's host.)public.example>,\r\n joe@example.org,\r\n  John <jdoe@one.test> (my dear friend); (the end of the group)",
		[]Address{{"Chris Jones", "c", "public.example"}, {"", "joe", "example.org"}, {"John", "jdoe", "one.test"}}},
	{"Joe Q. Public <john.q.public@example.com>", []Address{{"Joe Q. Public", "john.q.public", "example.com"}}},
	{"Mary Smith <@node.test:mary@example.net>, , jdoe@test  . example", []Address{{"Mary Smith", "mary", "example.net"}, {"", "jdoe", "test.example"}}},
	{"john . doe@example.com", []Address{{"", "john.doe", "example.com"}}},
	{"<john . doe@example.com>", []Address{{"", "john.doe", "example.com"}}},
	{"a@b (Old Style)", []Address{{"Old Style", "a", "b"}}},
	{"<a@b> (Old Style)", []Address{{"Old Style", "a", "b"}}},
	{"John Doe john@x.test", []Address{{"John Doe", "john", "x.test"}}},
	{"a@b.test <a@b.test>", []Address{{"a@b.test", "a", "b.test"}}},
	{`"john doe"@x.test`, []Address{{"", "john doe", "x.test"}}},
	{"=?utf-8?q?J=C3=BCrgen?= <j@x.test>", []Address{{"Jürgen", "j", "x.test"}}},
	{"jürgen@bücher.test", []Address{{"", "jürgen", "bücher.test"}}},
	{"a@[192.0.2.1], b@[IPv6:2001:db8::1]", []Address{{"", "a", "[192.0.2.1]"}, {"", "b", "[IPv6:2001:db8::1]"}}},
	{"postmaster", []Address{{"", "postmaster", ""}}},
	{"a@b; c@d", []Address{{"", "a", "b"}, {"", "c", "d"}}},
	{"<>", nil},
	{"Nobody <>", []Address{{"Nobody", "", ""}}},
	{"<a@b", []Address{{"", "a", "b"}}},
	{`"open <a@b>`, []Address{{"", "open <a@b>", ""}}},
	{"a (x\\", []Address{{"x\\", "a", ""}}},
	{"x:;", nil},
	{"=?utf-8?B??=<", nil},
	{"raw\xff@x", []Address{{"", "raw\uFFFD", "x"}}},
}

func TestParseAddressList(t *testing.T) {
	for _, c := range addressTable {
		if got := ParseAddressList(c.in); !reflect.DeepEqual(got, c.want) {
			t.Errorf("ParseAddressList(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

var subjectTable = []struct {
	in, base string
	reply    bool
}{
	{"hello", "hello", false},
	{"Re: hello", "hello", true},
	{"RE : hello", "hello", true},
	{"Fwd: hello", "hello", true},
	{"fw: hello", "hello", true},
	{"hello (fwd)", "hello", true},
	{"Re: Re:\tFW:  a   b ", "a b", true},
	{"[list] Re: [list] x", "x", true},
	{"[list] x", "x", false},
	{"[list]", "[list]", false},
	{"[a] [b]", "[b]", false},
	{"Re[4]: x", "x", true},
	{"re [4] : x", "x", true},
	{"[fwd: hello]", "hello", true},
	{"[Fwd: Re: [x] hello (fwd)]", "hello", true},
	{"[a][Fwd: b]", "b", true},
	{"Re:", "", true},
	{"Reminder: x", "Reminder: x", false},
	{"[open x", "[open x", false},
	{"", "", false},
	{"   ", "", false},
}

func TestBaseSubject(t *testing.T) {
	for _, c := range subjectTable {
		if base, reply := BaseSubject(c.in); base != c.base || reply != c.reply {
			t.Errorf("BaseSubject(%q) = %q, %v, want %q, %v", c.in, base, reply, c.base, c.reply)
		}
	}
}

func TestParseMessageIDs(t *testing.T) {
	for _, c := range []struct {
		in    string
		limit int
		want  []string
	}{
		{"<a@b>", 1, []string{"a@b"}},
		{" <a@b>\r\n <c@d><e@f>", 10, []string{"a@b", "c@d", "e@f"}},
		{"<1@x><2@x><3@x><4@x><5@x><6@x>", 3, []string{"1@x", "5@x", "6@x"}},
		{"<1@x><2@x><3@x><4@x><5@x>", 3, []string{"1@x", "4@x", "5@x"}},
		{"<1@x><2@x>", 1, []string{"1@x"}},
		{`<"a b"@c>`, 1, []string{"a b@c"}},
		{"Your message of \"<x>\" <a@b> (<c@d>)", 9, []string{"a@b"}},
		{"a@b", 9, []string{"a@b"}},
		{"a b@c", 9, nil},
		{"<>", 9, nil},
		{"<a@b <c@d>", 9, []string{"c@d"}},
		{"<a@b", 9, []string{"a@b"}},
		{"<" + strings.Repeat("x", 2000) + ">", 9, nil},
	} {
		if got := ParseMessageIDs(c.in, c.limit); !reflect.DeepEqual(got, c.want) {
			t.Errorf("ParseMessageIDs(%.40q, %d) = %q, want %q", c.in, c.limit, got, c.want)
		}
	}
}

func TestContentType(t *testing.T) {
	for _, c := range []struct {
		in, typ string
		params  Params
	}{
		{`text/plain; charset=us-ascii (Plain text)`, "text/plain", Params{{"charset", "us-ascii"}}}, // RFC 2045, 5.1
		{`text/plain; charset="us-ascii"`, "text/plain", Params{{"charset", "us-ascii"}}},
		{`(c) TEXT (c) / (c) HTML (c) ; (c) Charset = (c) "UTF-8" (c)`, "text/html", Params{{"charset", "UTF-8"}}},
		{`message/external-body; access-type=URL; URL*0="ftp://"; URL*1="cs.utk.edu/pub"`, "message/external-body",
			Params{{"access-type", "URL"}, {"url", "ftp://cs.utk.edu/pub"}}}, // RFC 2231, 3
		{`application/x-stuff; title*=us-ascii'en-us'This%20is%20%2A%2A%2Afun%2A%2A%2A`, "application/x-stuff",
			Params{{"title*", "us-ascii'en-us'This%20is%20%2A%2A%2Afun%2A%2A%2A"}}}, // RFC 2231, 4
		{`application/x-stuff; title*0*=us-ascii'en'This%20is%20even%20more%20; title*1*=%2A%2A%2Afun%2A%2A%2A%20; title*2="isn't it!"`,
			"application/x-stuff", Params{{"title*", "us-ascii'en'This%20is%20even%20more%20%2A%2A%2Afun%2A%2A%2A%20isn%27t%20it!"}}},
		{`a/b; x*1=2; x*0=1; x*3=no`, "a/b", Params{{"x", "12"}}},
		{`a/b; x*1=2`, "a/b", nil},
		{`a/b; x*0=1; x*0=2`, "a/b", Params{{"x", "1"}}},
		{`a/b; x=1; x=2`, "a/b", Params{{"x", "1"}}},
		{`a/b; x=1; x*=utf-8''2`, "a/b", Params{{"x", "1"}, {"x*", "utf-8''2"}}},
		{`a/b; name=my file.pdf; y=2`, "a/b", Params{{"name", "my file.pdf"}, {"y", "2"}}},
		{`a/b; name="a\"b;c"; ; =x; y; z=`, "a/b", Params{{"name", `a"b;c`}, {"z", ""}}},
		{`a/b name=x; y=1`, "a/b", Params{{"y", "1"}}},
		{`a/b; name="open`, "a/b", Params{{"name", "open"}}},
		{`a`, "", nil},
		{`/b`, "", nil},
		{`tëxt/plain`, "", nil},
	} {
		typ, sub, params, ok := parseContentType(c.in)
		if got := typ + "/" + sub; ok != (c.typ != "") || ok && got != c.typ || len(params) != len(c.params) || len(params) > 0 && !reflect.DeepEqual(params, c.params) {
			t.Errorf("parseContentType(%q) = %q, %q, %v", c.in, got, params, ok)
		}
	}
}

func TestFilename(t *testing.T) {
	for in, want := range map[string]string{
		`attachment; filename="a.pdf"`:                                      "a.pdf",
		`attachment; filename*=utf-8''%e2%82%ac.txt; filename=euro.txt`:     "€.txt",
		`attachment; filename*0*=utf-8''%e2%82; filename*1*=%ac; filename=`: "€",
		`attachment; filename="=?utf-8?q?=C3=A9?="`:                         "é",
		`attachment; filename*=%ff%`:                                        "\uFFFD%",
		`attachment`:                                                        "",
	} {
		m := parse("Content-Disposition: "+in+"\r\n\r\n", Limits{})
		if got := m.Root.Filename(); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}

func TestFields(t *testing.T) {
	h := "A: 1\r\nB :2\r\n more\r\nno field\r\n: x\r\nC:\r\n\r\nD: body\r\n"
	var got []string
	for name, value := range Fields([]byte(h)) {
		got = append(got, string(name)+"="+string(value)+"|"+Unfold(value))
	}
	want := []string{"A= 1|1", "B=2\r\n more|2 more", "C=|"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for name := range Fields([]byte(h)) {
		if string(name) != "A" {
			t.Error("the loop went on after break")
		}
		break
	}
}

func TestFilterHeader(t *testing.T) {
	h := "Subject: a\r\n b\r\nTo: c\nnonsense\r\nSUBJECT : d\r\n\r\nbody"
	many := []string{"x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "xa", "xb", "xc", "xd", "xe", "xf", "subject"}
	for _, c := range []struct {
		in    string
		names []string
		not   bool
		want  string
	}{
		{h, []string{"subject"}, false, "Subject: a\r\n b\r\nSUBJECT : d\r\n\r\n"},
		{h, []string{"subject"}, true, "To: c\nnonsense\r\n\r\n"},
		{h, many, false, "Subject: a\r\n b\r\nSUBJECT : d\r\n\r\n"},
		{h, []string{"x"}, false, "\r\n"},
		{"To: c", []string{"to"}, false, "To: c\r\n\r\n"},
		{"", nil, true, "\r\n"},
	} {
		if got := string(FilterHeader([]byte(c.in), c.names, c.not)); got != c.want {
			t.Errorf("FilterHeader(%q, %q, %v) = %q, want %q", c.in, c.names, c.not, got, c.want)
		}
	}
}

// pieces hands out at most n bytes a read.
type pieces struct {
	b []byte
	n int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.b) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.n)], p.b)
	p.b = p.b[n:]
	return n, nil
}

func readAll(t testing.TB, r io.Reader, size int) []byte {
	t.Helper()
	var out []byte
	b := make([]byte, size)
	for idle := 0; idle < 100; idle++ {
		n, err := r.Read(b)
		out = append(out, b[:n]...)
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			idle = 0
		}
	}
	t.Fatal("the reader does not come to an end")
	return nil
}

func encode(enc string, b []byte) string {
	if enc == "base64" {
		return base64.StdEncoding.EncodeToString(b)
	}
	var out bytes.Buffer
	w := quotedprintable.NewWriter(&out)
	w.Binary = true
	w.Write(b)
	w.Close()
	return out.String()
}

func TestNewDecoder(t *testing.T) {
	for _, c := range []struct{ enc, in, want string }{
		{"base64", "aGVsbG8=", "hello"},
		{" BASE64 (c)", "aG\r\nVs*bG8", "hello"},
		{"base64", "YQ==YQ==", "aa"},
		{"base64", "a", ""},
		{"quoted-printable", "a=3D=\r\nb \t\r\nc=\n", "a=b\r\nc"},
		{"quoted-printable", "a= \t\r\nb", "ab"},
		{"quoted-printable", "a=c3=A9=xy=4", "a\u00e9=xy=4"},
		{"quoted-printable", "a \tb ", "a \tb"},
		{"quoted-printable", "a=", "a"},
		{"quoted-printable", "a\rb\r", "a\rb\r"},
		{"7bit", "a=3D", "a=3D"},
		{"x-uuencode", "begin", "begin"},
	} {
		if got := string(readAll(t, NewDecoder(c.enc, strings.NewReader(c.in)), 3)); got != c.want {
			t.Errorf("%s of %q gave %q, want %q", c.enc, c.in, got, c.want)
		}
	}
}

func TestBinaryDecoder(t *testing.T) {
	for _, enc := range []string{"", "7BIT", "8bit", "binary", "base64", "Quoted-Printable"} {
		if _, err := BinaryDecoder(enc, strings.NewReader("")); err != nil {
			t.Errorf("%q: %v", enc, err)
		}
	}
	if _, err := BinaryDecoder("x-uuencode", strings.NewReader("")); !fault.Is(err, fault.Unsupported) {
		t.Errorf("x-uuencode: %v", err)
	}
}

func TestToUTF8(t *testing.T) {
	for _, c := range []struct{ charset, in, want string }{
		{"", "a\xc3\xa9\xff", "aé\uFFFD"},
		{"UTF-8", "a\xc3", "a\uFFFD"},
		{"iso-8859-1", "\xe9", "é"},
		{"ISO-8859-15", "\xa4", "€"},
		{"cp850", "\x82", "é"},
		{"utf-16", "\x00a\x00b", "ab"},
		{"utf-16", "\xff\xfea\x00", "a"},
		{"utf-16le", "a\x00", "a"},
		{"iso-2022-kr", "a\xe9<", "a\uFFFD<"},
		{"utf-7", "+ADw-", "+ADw-"},
		{"never-heard", "a\xe9\x80b", "a\uFFFD\uFFFDb"},
		{strings.Repeat("x", 1000), "a\xe9", "a\uFFFD"},
		{"\"us-ascii\"", "a", "a"},
	} {
		if got := string(readAll(t, ToUTF8(c.charset, strings.NewReader(c.in)), 7)); got != c.want {
			t.Errorf("%.20s: %q gave %q, want %q", c.charset, c.in, got, c.want)
		}
	}
}
