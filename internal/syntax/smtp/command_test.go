package smtp

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

func TestReadLine(t *testing.T) {
	long := strings.Repeat("x", 100)
	tests := []struct {
		in, line string
		err      fault.Kind // Internal: none
		rest     string
	}{
		{"NOOP\r\nQUIT\r\n", "NOOP", 0, "QUIT\r\n"},
		{"\r\n", "", 0, ""},
		{"NOOP\nQUIT\r\n", "", fault.Invalid, "QUIT\r\n"},
		{"NO\rOP\r\nQUIT\r\n", "", fault.Invalid, "QUIT\r\n"},
		{"NO\x00OP\r\n", "", fault.Invalid, ""},
		{long[:38] + "\r\nQUIT\r\n", long[:38], 0, "QUIT\r\n"},
		{long[:39] + "\r\nQUIT\r\n", "", fault.TooLarge, "QUIT\r\n"},
		{long + "\r\nQUIT\r\n", "", fault.TooLarge, "QUIT\r\n"},
	}
	for _, tt := range tests {
		for _, size := range []int{16, 4096} {
			r := bufio.NewReaderSize(iotest.OneByteReader(strings.NewReader(tt.in)), size)
			line, err := ReadLine(r, 40)
			if string(line) != tt.line || tt.err == 0 && err != nil || tt.err != 0 && !fault.Is(err, tt.err) {
				t.Errorf("%q: %q, %v", tt.in, line, err)
			}
			if rest, _ := io.ReadAll(r); string(rest) != tt.rest {
				t.Errorf("%q: rest %q, want %q", tt.in, rest, tt.rest)
			}
		}
	}
	if _, err := ReadLine(bufio.NewReader(endlessReader{}), 512); !fault.Is(err, fault.Limited) {
		t.Errorf("endless line: %v", err)
	}
	if _, err := ReadLine(bufio.NewReader(strings.NewReader("NOO")), 512); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("half a line: %v", err)
	}
	if _, err := ReadLine(bufio.NewReader(strings.NewReader("")), 512); err != io.EOF {
		t.Errorf("no line: %v", err)
	}
}

func TestParseCommand(t *testing.T) {
	tests := []struct {
		in, verb, arg string
		code          int
	}{
		{"noop", "NOOP", "", 0},
		{"Mail FROM:<a@b.c>  ", "MAIL", "FROM:<a@b.c>", 0},
		{"RCPT   TO:<a@b.c>", "RCPT", "TO:<a@b.c>", 0},
		{"VRFY süd", "VRFY", "süd", 0},
		{"XUNKNOWN a", "XUNKNOWN", "a", 0},
		{"", "", "", 500},
		{" NOOP", "", "", 500},
		{"GET / HTTP/1.1", "GET", "/ HTTP/1.1", 0},
		{"\x16\x03\x01", "", "", 500},
		{"NO\x1bOP", "", "", 500},
		{"MAIL\x7f", "", "", 500},
		{"${run{x}}", "", "", 500},
		{strings.Repeat("A", 17), "", "", 500},
	}
	for _, tt := range tests {
		verb, arg, bad := ParseCommand([]byte(tt.in))
		if verb != tt.verb || arg != tt.arg || code(bad) != tt.code {
			t.Errorf("%q: %q %q %v", tt.in, verb, arg, bad)
		}
	}
}

func code(r *Reply) int {
	if r == nil {
		return 0
	}
	return r.Code
}

func TestParseHelo(t *testing.T) {
	for in, want := range map[string]int{
		"mx.example": 0, "[192.0.2.1]": 0, "[IPv6:2001:db8::1]": 0, "my_pc": 0, "localhost": 0, "192.0.2.1": 0,
		"": 501, "a b": 501, "a(b": 501, `a\`: 501, "süd.example": 501, "a;b": 501, strings.Repeat("x", 256): 501, "a\tb": 501,
	} {
		if _, bad := ParseHelo(in); code(bad) != want {
			t.Errorf("%q: %v, want %d", in, bad, want)
		}
	}
}

func TestParseMail(t *testing.T) {
	a := mail.Address{Local: "a", Domain: "x.test"}
	tests := []struct {
		in   string
		want Mail
		code int
	}{
		{"FROM:<a@x.test>", Mail{From: a}, 0},
		{"from: <a@x.test>", Mail{From: a}, 0},
		{"FROM:<>", Mail{}, 0},
		{"FROM:<A@X.TEST.>", Mail{From: mail.Address{Local: "A", Domain: "x.test"}}, 0},
		{"FROM:<@b.test,@c.test:a@x.test>", Mail{From: a}, 0},
		{`FROM:<"a b"@x.test>`, Mail{From: mail.Address{Local: "a b", Domain: "x.test"}}, 0},
		{`FROM:<"a>b"@x.test> SIZE=3`, Mail{From: mail.Address{Local: "a>b", Domain: "x.test"}, Size: 3}, 0},
		{`FROM:<"a\"b"@x.test>`, Mail{From: mail.Address{Local: `a"b`, Domain: "x.test"}}, 0},
		{"FROM:<a@[192.0.2.1]>", Mail{From: mail.Address{Local: "a", Domain: "[192.0.2.1]"}}, 0},
		{"FROM:<a@[IPv6:2001:db8::1]>", Mail{From: mail.Address{Local: "a", Domain: "[ipv6:2001:db8::1]"}}, 0},
		{"FROM:<ü@x.test> SMTPUTF8", Mail{From: mail.Address{Local: "ü", Domain: "x.test"}, UTF8: true}, 0},
		{
			"FROM:<a@x.test> size=1000 body=8bitmime RET=HDRS ENVID=QQ+2B1 AUTH=e+3Dmc2@x.test",
			Mail{From: a, Size: 1000, Body: Body8Bit, Ret: mail.RetHeaders, EnvID: "QQ+1", Auth: "e=mc2@x.test"}, 0,
		},
		{"FROM:<a@x.test> AUTH=<> RET=FULL BODY=BINARYMIME", Mail{From: a, Auth: "<>", Ret: mail.RetFull, Body: BodyBinary}, 0},

		{"FROM <a@x.test>", Mail{}, 501}, {"TO:<a@x.test>", Mail{}, 501}, {"", Mail{}, 501}, {"FROM:", Mail{}, 501},
		{"FROM:a@x.test", Mail{}, 501}, {"FROM:<a@x.test", Mail{}, 501}, {"FROM:<a@x.test>>", Mail{}, 501},
		{"FROM:<a@x.test>SIZE=1", Mail{}, 501}, {"FROM:<a>", Mail{}, 501}, {"FROM:<@x.test>", Mail{}, 501},
		{"FROM:<postmaster>", Mail{}, 501}, {"FROM:<a@>", Mail{}, 501}, {"FROM:<a b@x.test>", Mail{}, 501},
		{"FROM:<;id;@x>", Mail{}, 501}, {"FROM:<a@[x]>", Mail{}, 501}, {"FROM:<a@[300.0.2.1]>", Mail{}, 501},
		{"FROM:<a@[2001:db8::1]>", Mail{}, 501}, {"FROM:<a@[IPv6:fe80::1%eth0]>", Mail{}, 501},
		{"FROM:<@b.test:>", Mail{}, 501}, {"FROM:<@b.test a@x.test>", Mail{}, 501}, {"FROM:<b.test:a@x.test>", Mail{}, 501},
		{`FROM:<"a@x.test>`, Mail{}, 501}, {`FROM:<"a\"@x.test>`, Mail{}, 501}, {"FROM:<a..b@x.test>", Mail{}, 501},
		{"FROM:<" + strings.Repeat("x", 65) + "@x.test>", Mail{}, 501},
		{"FROM:<ü@x.test>", Mail{}, 553}, {"FROM:<a@ü.test>", Mail{}, 553},
		{"FROM:<\xc3@x.test> SMTPUTF8", Mail{}, 501}, {"FROM:<\xc0\xaf@x.test> SMTPUTF8", Mail{}, 501},
		{"FROM:<a\u0085b@x.test> SMTPUTF8", Mail{}, 501},
		{"FROM:<a@x.test> SIZE=-1", Mail{}, 501}, {"FROM:<a@x.test> SIZE=99999999999999999999", Mail{}, 501},
		{"FROM:<a@x.test> SIZE=", Mail{}, 501}, {"FROM:<a@x.test> SIZE", Mail{}, 501}, {"FROM:<a@x.test> SIZE=1 SIZE=1", Mail{}, 501},
		{"FROM:<a@x.test> BODY=9BIT", Mail{}, 501}, {"FROM:<a@x.test> SMTPUTF8=1", Mail{}, 501}, {"FROM:<a@x.test> RET=X", Mail{}, 501},
		{"FROM:<a@x.test> ENVID=+00", Mail{}, 501}, {"FROM:<a@x.test> ENVID=a+0D+0Ab", Mail{}, 501}, {"FROM:<a@x.test> ENVID=a+2", Mail{}, 501},
		{"FROM:<a@x.test> ENVID=" + strings.Repeat("x", 101), Mail{}, 501},
		{"FROM:<a@x.test> BZ=120;R", Mail{}, 555}, {"FROM:<a@x.test> XFOO", Mail{}, 555}, {"FROM:<a@x.test> HOLDFORTH=1", Mail{}, 555},
		{"FROM:<a@x.test> =1", Mail{}, 501}, {"FROM:<a@x.test> NOTIFY=NEVER", Mail{}, 555},
		{"FROM:<a@x.test>" + strings.Repeat(" SIZE=1", 300), Mail{}, 501},
	}
	for _, tt := range tests {
		got, bad := ParseMail(tt.in, true)
		if got != tt.want || code(bad) != tt.code {
			t.Errorf("%.80q: %+v, %v", tt.in, got, bad)
		}
	}
	if _, bad := ParseMail("FROM:<a@x.test> SIZE=1", false); code(bad) != 555 {
		t.Errorf("a parameter after HELO: %v", bad)
	}
}

func TestParseRcpt(t *testing.T) {
	a := mail.Address{Local: "a", Domain: "x.test"}
	tests := []struct {
		in   string
		utf8 bool
		want mail.Recipient
		code int
	}{
		{"TO:<a@x.test>", false, mail.Recipient{Address: a}, 0},
		{"TO: <a@x.test>", false, mail.Recipient{Address: a}, 0},
		{"TO:<Postmaster>", false, mail.Recipient{Address: mail.Address{Local: "Postmaster"}}, 0},
		{"TO:<@b.test:a@x.test>", false, mail.Recipient{Address: a}, 0},
		{"TO:<a@x.test> NOTIFY=SUCCESS,delay", false, mail.Recipient{Address: a, Notify: mail.NotifySuccess | mail.NotifyDelay}, 0},
		{"TO:<a@x.test> NOTIFY=NEVER ORCPT=rfc822;B+2Bc@x.test", false, mail.Recipient{Address: a, Notify: mail.NotifyNever, ORcpt: "rfc822;B+c@x.test"}, 0},
		{`TO:<a@x.test> ORCPT=utf-8;\x{FC}\x{2B}b@x.test`, false, mail.Recipient{Address: a, ORcpt: "utf-8;ü+b@x.test"}, 0},
		{"TO:<ü@x.test> ORCPT=utf-8;ü@x.test", true, mail.Recipient{Address: mail.Address{Local: "ü", Domain: "x.test"}, ORcpt: "utf-8;ü@x.test"}, 0},

		{"TO:<>", false, mail.Recipient{}, 501}, {"TO:<a>", false, mail.Recipient{}, 501}, {"FROM:<a@x.test>", false, mail.Recipient{}, 501},
		{"TO:<ü@x.test>", false, mail.Recipient{}, 553},
		{"TO:<a@x.test> ORCPT=utf-8;ü@x.test", false, mail.Recipient{}, 501},
		{"TO:<a@x.test> ORCPT=rfc822;ü@x.test", true, mail.Recipient{}, 501},
		{"TO:<a@x.test> ORCPT=rfc822;a+00b", false, mail.Recipient{}, 501},
		{"TO:<a@x.test> ORCPT=rfc822;a+0Ab", false, mail.Recipient{}, 501},
		{"TO:<a@x.test> ORCPT=rfc822;a+0ab", false, mail.Recipient{}, 501},
		{`TO:<a@x.test> ORCPT=utf-8;\x{0A}`, false, mail.Recipient{}, 501},
		{`TO:<a@x.test> ORCPT=utf-8;\x{D800}`, false, mail.Recipient{}, 501},
		{`TO:<a@x.test> ORCPT=utf-8;\x{110000}`, false, mail.Recipient{}, 501},
		{`TO:<a@x.test> ORCPT=utf-8;\x{41`, false, mail.Recipient{}, 501},
		{"TO:<a@x.test> ORCPT=rfc822;", false, mail.Recipient{}, 501},
		{"TO:<a@x.test> ORCPT=a@x.test", false, mail.Recipient{}, 501},
		{"TO:<a@x.test> ORCPT=rfc822;" + strings.Repeat("x", 500), false, mail.Recipient{}, 501},
		{"TO:<a@x.test> NOTIFY=NEVER,DELAY", false, mail.Recipient{}, 501},
		{"TO:<a@x.test> NOTIFY=", false, mail.Recipient{}, 501}, {"TO:<a@x.test> NOTIFY=X", false, mail.Recipient{}, 501},
		{"TO:<a@x.test> NOTIFY=,", false, mail.Recipient{}, 501},
		{"TO:<a@x.test> SIZE=1", false, mail.Recipient{}, 555},
	}
	for _, tt := range tests {
		got, bad := ParseRcpt(tt.in, true, tt.utf8)
		if got != tt.want || code(bad) != tt.code {
			t.Errorf("%.80q: %+v, %v", tt.in, got, bad)
		}
	}
}

func TestParseBURL(t *testing.T) {
	for in, want := range map[string]string{
		"imap://x/y/;uid=1 LAST": "imap://x/y/;uid=1 true", "imap://x/y/;uid=1": "imap://x/y/;uid=1 false",
		"x  last": "x true", "": "501", "x FIRST": "501", "x LAST y": "501", "x  ": "501",
	} {
		url, last, bad := ParseBURL(in)
		got := fmt.Sprint(url, " ", last)
		if bad != nil {
			checkReply(t, bad)
			got = fmt.Sprint(bad.Code)
		}
		if got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func TestParseBDAT(t *testing.T) {
	for in, want := range map[string]struct {
		n    int64
		last bool
		code int
	}{
		"0": {0, false, 0}, "1000": {1000, false, 0}, "86 LAST": {86, true, 0}, "0 last": {0, true, 0}, "5  LAST": {5, true, 0},
		"": {0, false, 501}, "-1": {0, false, 501}, "+1": {0, false, 501}, "1e3": {0, false, 501}, "LAST": {0, false, 501}, "0x10": {0, false, 501},
		"1 LAST x": {0, false, 501}, "1 x": {0, false, 501}, "18446744073709551616": {0, false, 501}, "9999999999999999999": {0, false, 501},
	} {
		n, last, bad := ParseBDAT(in)
		if n != want.n || last != want.last || code(bad) != want.code {
			t.Errorf("%q: %d %v %v", in, n, last, bad)
		}
	}
}

func TestParseAuth(t *testing.T) {
	for in, want := range map[string]struct {
		mech, initial string
		code          int
	}{
		"PLAIN": {"PLAIN", "", 0}, "plain AHUAcA==": {"PLAIN", "AHUAcA==", 0}, "SCRAM-SHA-256-PLUS  =": {"SCRAM-SHA-256-PLUS", "=", 0},
		"": {"", "", 501}, "PL/AIN": {"", "", 501}, strings.Repeat("A", 21): {"", "", 501},
	} {
		mech, initial, bad := ParseAuth(in)
		if mech != want.mech || initial != want.initial || code(bad) != want.code {
			t.Errorf("%q: %q %q %v", in, mech, initial, bad)
		}
	}
}

// TestAppendFitsPeer leaves out what the peer does not offer.
func TestAppendFitsPeer(t *testing.T) {
	r := mail.Recipient{Address: mail.Address{Local: "a", Domain: "x.test"}, Notify: mail.NotifyDelay | mail.NotifyFailure, ORcpt: "utf-8;ü=@x.test"}
	for want, got := range map[string][]byte{
		"RCPT TO:<a@x.test>": AppendRcpt(nil, r, false, false),
		`RCPT TO:<a@x.test> NOTIFY=FAILURE,DELAY ORCPT=utf-8;\x{FC}\x{3D}@x.test`: AppendRcpt(nil, r, true, false),
		`RCPT TO:<a@x.test> NOTIFY=FAILURE,DELAY ORCPT=utf-8;ü\x{3D}@x.test`:      AppendRcpt(nil, r, true, true),
		"MAIL FROM:<>": AppendMail(nil, Mail{}),
	} {
		if string(got) != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// FuzzMail writes what it has read and reads it again.
func FuzzMail(f *testing.F) {
	f.Add("FROM:<a@x.test> SIZE=1000 BODY=8BITMIME RET=HDRS ENVID=QQ+2B1 AUTH=<>")
	f.Add(`FROM:<@b.test:"a\" >b"@[IPv6:::1]> SMTPUTF8`)
	f.Add("FROM:<>")
	f.Add("FROM:<;id;@x>")
	f.Fuzz(func(t *testing.T, arg string) {
		m, bad := ParseMail(arg, true)
		if bad != nil {
			checkReply(t, bad)
			return
		}
		line := AppendMail(nil, m)
		if hasControl(string(line)) {
			t.Fatalf("%q passes a control character on: %q", arg, line)
		}
		verb, again, bad := ParseCommand(line)
		if bad != nil || verb != "MAIL" {
			t.Fatalf("%q: %v", line, bad)
		}
		if m2, bad := ParseMail(again, true); bad != nil || m2 != m {
			t.Fatalf("%q reads as %+v, written %q reads as %+v, %v", arg, m, line, m2, bad)
		}
	})
}

func FuzzRcpt(f *testing.F) {
	f.Add("TO:<a@x.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+2Bc@x.test", false)
	f.Add(`TO:<ü@x.test> ORCPT=utf-8;\x{FC}ü@x.test`, true)
	f.Add("TO:<postmaster>", false)
	f.Add("TO:<a%b@x.test> ORCPT=rfc822;a+00b", false)
	f.Fuzz(func(t *testing.T, arg string, utf8 bool) {
		r, bad := ParseRcpt(arg, true, utf8)
		if bad != nil {
			checkReply(t, bad)
			return
		}
		line := AppendRcpt(nil, r, true, utf8)
		if hasControl(string(line)) || !utf8 && !isASCII(string(line)) {
			t.Fatalf("%q passes on %q", arg, line)
		}
		_, again, bad := ParseCommand(line)
		if bad != nil {
			t.Fatalf("%q: %v", line, bad)
		}
		if r2, bad := ParseRcpt(again, true, utf8); bad != nil || r2 != r {
			t.Fatalf("%q reads as %+v, written %q reads as %+v, %v", arg, r, line, r2, bad)
		}
	})
}

// FuzzCommand checks every parser of a whole line at once.
func FuzzCommand(f *testing.F) {
	f.Add("BDAT 100 LAST")
	f.Add("BURL imap://x/y/;uid=1 LAST")
	f.Add("AUTH PLAIN AHUAcA==")
	f.Add("EHLO [192.0.2.1]")
	f.Add("MAIL\x00FROM:<>")
	f.Fuzz(func(t *testing.T, line string) {
		verb, arg, bad := ParseCommand([]byte(line))
		if bad != nil {
			checkReply(t, bad)
			return
		}
		if verb == "" || strings.Trim(verb, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" || arg != strings.Trim(arg, " \t") {
			t.Fatalf("%q: verb %q, argument %q", line, verb, arg)
		}
		if name, bad := ParseHelo(arg); bad == nil && strings.ContainsAny(name, " ()<>\r\n\x00;,\"\\") {
			t.Fatalf("host name %q", name)
		}
		if url, _, bad := ParseBURL(arg); bad == nil && (url == "" || strings.Contains(url, " ")) {
			t.Fatalf("URL %q", url)
		}
		if n, _, bad := ParseBDAT(arg); bad == nil && n < 0 {
			t.Fatalf("chunk of %d", n)
		}
		if mech, _, bad := ParseAuth(arg); bad == nil && mech != strings.ToUpper(mech) {
			t.Fatalf("mechanism %q", mech)
		}
	})
}

func checkReply(t *testing.T, r *Reply) {
	t.Helper()
	if r.Code < 500 || r.Code > 599 || !strings.HasPrefix(r.Enhanced, "5.") || len(r.Lines) != 1 {
		t.Fatalf("refused with %v", r)
	}
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return !visible(r) })
}

func TestParseAsk(t *testing.T) {
	until := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for in, want := range map[string]Ask{
		"MT-PRIORITY=9": {Priority: 9, HasPriority: true}, "mt-priority=-9": {Priority: -9, HasPriority: true}, "MT-PRIORITY=0": {HasPriority: true},
		"HOLDFOR=1": {HoldFor: time.Second}, "HOLDFOR=999999999": {HoldFor: 999999999 * time.Second},
		"HOLDUNTIL=2026-03-04T05:06:07Z": {HoldUntil: until},
		"BY=120;R":                       {By: mail.ByReturn, ByTime: 2 * time.Minute}, "BY=+1;rt": {By: mail.ByReturn, ByTime: time.Second, ByTrace: true},
		"BY=-120;N": {By: mail.ByNotify, ByTime: -2 * time.Minute}, "BY=0;NT": {By: mail.ByNotify, ByTrace: true},
		"XVERP": {VERP: true}, "XVERP=+=": {VERP: true},
	} {
		m, bad := ParseMail("FROM:<a@x.test> "+in, true)
		if bad != nil || m.Ask != want {
			t.Errorf("%q: %+v, %v", in, m.Ask, bad)
		}
		again, bad := ParseMail(string(AppendMail(nil, m))[len("MAIL "):], true)
		want.HoldFor, want.HoldUntil, want.VERP = 0, time.Time{}, false // these are for us alone
		if bad != nil || again.Ask != want {
			t.Errorf("%q written anew: %+v, %v", in, again.Ask, bad)
		}
	}
	for _, in := range []string{
		"MT-PRIORITY", "MT-PRIORITY=10", "MT-PRIORITY=+1", "MT-PRIORITY=-0", "MT-PRIORITY=1 MT-PRIORITY=1", "HOLDFOR=0", "HOLDFOR=01", "HOLDFOR=-1",
		"HOLDFOR=1000000000", "HOLDFOR=1 HOLDUNTIL=2026-03-04T05:06:07Z", "HOLDUNTIL=2026-03-04T05:06:07Z HOLDFOR=1", "HOLDUNTIL=2026-03-04",
		"HOLDUNTIL=2026-03-04T05:06:07+00:00", "BY=0;R", "BY=-1;R", "BY=1", "BY=1;", "BY=1;X", "BY=1;TN", "BY=;N", "BY=--1;N", "BY=1234567890;N", "BY=1;NTT", "XVERP=-=",
	} {
		if m, bad := ParseMail("FROM:<a@x.test> "+in, true); code(bad) != 501 {
			t.Errorf("%q: %+v, %v", in, m.Ask, bad)
		}
	}
}
