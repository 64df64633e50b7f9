package dmarc_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/martlet-mail/martlet/internal/check/dmarc"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// TestAttack67OddFrom has the ways in which a message can have an author who is not the one
// that is checked. Where good is set there is one, and no doubt about it.
func TestAttack67OddFrom(t *testing.T) {
	for _, c := range []struct {
		header string
		want   string // domains
		good   bool
	}{
		{"From: a@a.test\r\n", "a.test", true},
		{"from:a@A.Test\r\n", "a.test", true},
		{"From: =?utf-8?Q?J=C3=BCrgen?= <j@b\xc3\xbccher.test>\r\n", "b\xc3\xbccher.test", true},
		{"From: \"x, y\" <a@a.test>\r\n", "a.test", true},
		{"From: a@a.test (b@v.test)\r\n", "a.test", true},
		{"From: \"b@v.test\" <a@a.test>\r\n", "a.test", true}, // a name says what it likes
		{"From: a@a.test, b@a.test\r\n", "a.test", true},
		{"From: a@a.test,,\r\n", "a.test", true},
		{"From: J. R. Smith <a@a.test>\r\n", "a.test", true},
		{"From: me @ home <a@a.test>\r\n", "a.test", true},
		{"From: a@a.test <a@a.test>\r\n", "a.test", true},
		{"From: Firm: News <a@a.test>\r\n", "a.test", true},
		{"From: team: a@a.test, b@a.test;\r\n", "a.test", true},
		{"From: a . b @ a . test\r\n", "a.test", true},
		{"From: (x) a@a.test (y)\r\n", "a.test", true},
		{"From : a@a.test\r\n", "a.test", true}, // RFC 5322, 4.5: obsolete, and a From field
		{"From:\r\n a@a.test\r\n", "a.test", true},
		{"From: \"a\\\"b\" <a@a.test>\r\n", "a.test", true},
		{"From: \"a b\"@a.test\r\n", "a.test", true},
		{"From: \"a@v.test\"@a.test\r\n", "a.test", true},

		{"From: =?utf-8?q?b=40v.test_via_A?= <a@a.test>\r\n", "a.test", true},
		{"From: =?utf-8?q?B=2C_C_=28b=40v.test=29?= <a@a.test>\r\n", "a.test", true},
		{"From: \xef\xbc\xa0x <a@a.test>\r\n", "a.test", true},

		// Names that are an address to whoever decodes them first.
		{"From: =?utf-8?q?b=40v.test=2C?= <a@a.test>\r\n", "a.test v.test", false},
		{"From: =?utf-8?b?PGJAdi50ZXN0Pg==?= <a@a.test>\r\n", "a.test v.test", false},
		{"From: =?utf-8?b?PGJAdi50ZXN0Piw=?= <a@a.test>\r\n", "a.test v.test", false},
		{"From: =?utf-8?q?=EF=BC=9Cb=EF=BC=A0v.test=EF=BC=9E?= <a@a.test>\r\n", "a.test v.test", false},
		{"From: b\xef\xbc\xa0v.test <a@a.test>\r\n", "a.test v.test", false},
		{"From: a@a.test\r\nFrom" + strings.Repeat("\x00", 120) + ": b@v.test\r\n", "a.test v.test", false},

		// Two fields, and lines that some take for one.
		{"From: a@a.test\r\nFrom: b@v.test\r\n", "a.test v.test", false},
		{"From: a@a.test\r\nFrom: a@a.test\r\n", "a.test", false},
		{"From : b@v.test\r\nFrom: a@a.test\r\n", "a.test v.test", false},
		{" From: b@v.test\r\nFrom: a@a.test\r\n", "a.test v.test", false},
		{"From\x00: b@v.test\r\nFrom: a@a.test\r\n", "a.test v.test", false},
		{"\x00From: b@v.test\r\nFrom: a@a.test\r\n", "a.test v.test", false},
		{"Fr\xc2\xadom: b@v.test\r\nFrom: a@a.test\r\n", "a.test v.test", false},
		{"From\r\n : b@v.test\r\nFrom: a@a.test\r\n", "a.test v.test", false},
		{"FROM: b@v.test\r\nfrom: a@a.test\r\n", "a.test v.test", false},

		// None.
		{"Subject: x\r\nSender: a@a.test\r\nResent-From: a@a.test\r\n", "", false},
		{"From:\r\n", "", false},
		{"From: undisclosed:;\r\n", "", false},
		{"From: <>\r\n", "", false},
		{"From: a\r\n", "", false},
		{"From: a@[192.0.2.1]\r\n", "", false},
		{"From: =?utf-8?B?YkB2LnRlc3Q=?=\r\n", "v.test", true}, // whoever decodes it sees v.test, nobody anything else

		// Several, each in its disguise.
		{"From: a@a.test, b@v.test\r\n", "a.test v.test", false},
		{"From: <a@a.test>, <b@v.test>\r\n", "a.test v.test", false},
		{"From: =?utf-8?B?PGJAdi50ZXN0Pg==?=, <a@a.test>\r\n", "a.test v.test", false},
		{"From: <b@v.test>\\, <a@a.test>\r\n", "a.test v.test", false},
		{"From: <b@v.test> <a@a.test>\r\n", "a.test v.test", false},
		{"From: <b@v.test>(x)<a@a.test>\r\n", "a.test v.test", false},
		{"From: b@v.test <a@a.test>\r\n", "a.test v.test", false},
		{"From: <a@a.test> b@v.test\r\n", "a.test v.test", false},
		{"From: <b@v.test>a@a.test\r\n", "a.test v.test", false},
		{"From: b@v.test\x00@a.test\r\n", "a.test v.test", false},
		{"From: b@v.test\x00\r\n", "v.test", false},
		{"From: <@a.test,@x.test:b@v.test>\r\n", "a.test v.test x.test", false},
		{"From: <@a.test:b@v.test>\r\n", "a.test v.test", false},
		{"From: b@v.test@a.test\r\n", "a.test v.test", false},
		{"From: b@v.test;a@a.test\r\n", "a.test v.test", false},
		{"From: x: b@v.test;, a@a.test\r\n", "a.test v.test", false},
		{"From: b@v.test\r\n\t, a@a.test\r\n", "a.test v.test", false},
		{"From: <b@v.test, <a@a.test>\r\n", "a.test v.test", false},
		{"From: \"b@v.test <a@a.test>\r\n", "a.test v.test", false},
		{"From: (b@v.test <a@a.test>\r\n", "a.test v.test", false},
	} {
		got, problem := dmarc.Authors([]byte(c.header + "To: c@c.test\r\n\r\nFrom: body@body.test\r\n"))
		slices.Sort(got)
		if strings.Join(got, " ") != c.want || (problem == "") != c.good {
			t.Errorf("%q: %q, problem %q; want %q, good %v", c.header, got, problem, c.want, c.good)
		}
	}
}

// FuzzAuthors holds the domains to what the parser of the mailboxes finds: where there is
// no problem, its domain is the one.
func FuzzAuthors(f *testing.F) {
	for _, s := range []string{"a@a.test", "x <a@a.test>", "<@a:b@c.test>", "a: b@c.test;", "\"a\" (b) <c@d.test>, e@f.test", "a@b\x00.test", "=?utf-8?B?YkB2LnRlc3Q=?=", "a@b.test <c@d.test>"} {
		f.Add([]byte("From: " + s + "\r\n\r\n"))
	}
	f.Fuzz(func(t *testing.T, header []byte) {
		domains, problem := dmarc.Authors(header)
		if len(domains) > 5 {
			t.Fatalf("%d domains", len(domains))
		}
		if problem != "" || !utf8.Valid(header) { // no name, then; Evaluate says so
			return
		}
		if len(domains) != 1 {
			t.Fatalf("%q and no problem", domains)
		}
		fields := 0
		for name, value := range mime.Fields(header) {
			if !strings.EqualFold(string(name), "From") {
				continue
			}
			fields++
			for _, a := range mime.ParseAddressList(mime.Unfold(value)) {
				if host := strings.TrimSuffix(strings.ToLower(a.Host), "."); host != "" && strings.Contains(host, ".") && host != domains[0] {
					t.Fatalf("%q has the author %q, found was %q", value, a.Host, domains)
				}
			}
		}
		if fields > 1 {
			t.Fatal(fmt.Sprint(fields, " fields and no problem"))
		}
	})
}

// Who vouches for a message asks for each address that anybody could read in it.
func TestMailboxes(t *testing.T) {
	var many []string
	for i := range 101 {
		many = append(many, fmt.Sprintf("a+%d@a.test", i))
	}
	for from, want := range map[string]string{
		"a@a.test":                             "a@a.test",
		"A <a@a.test>":                         "a@a.test",
		"a@a.test (A, b@b.test)":               "a@a.test",
		"\"x, y\" <a@a.test>, b@a.test":        "a@a.test b@a.test",
		"b@a.test <a@a.test>":                  "a@a.test b@a.test",
		"\"b@a.test\" <a@a.test>":              "a@a.test",
		"<\"a b\"@a.test>":                     "\"a b\"@a.test",
		"=?utf-8?q?b=40a.test=2C?= a@a.test":   "?",
		"=?utf-8?q?b=40a.test=2C?= <a@a.test>": "a@a.test b@a.test a@a.test",
		"=?utf-8?q?b=40a.test?= <a@a.test>":    "a@a.test a@a.test",
		"J\u00fcrgen <a@a.test>":               "a@a.test",
		"<a@a.test>b@a.test":                   "?",
		"<a@a.test b@a.test>":                  "?",
		"a@a.test <b@a.test":                   "?",
		"a@a.test@b@a.test":                    "?",
		"team: a@a.test;":                      "?",
		"a":                                    "?",
		"":                                     "?",
		"<a@a.test>\x00":                       "?",
		strings.Join(many, ",\r\n "):           "?",
		strings.Join(many[1:], ",\r\n "):       strings.Join(many[1:], " "),
		"<a.\"b\"@a.test>":                     "@a.test",
	} {
		got, problem := dmarc.Mailboxes([]byte("To: x@x.test\r\nFrom: " + from + "\r\n\r\n"))
		text := strings.Join(got, " ")
		if problem != "" {
			text = "?"
		}
		if text != want {
			t.Errorf("%q: %q, %s; want %q", from, got, problem, want)
		}
	}
	if got, problem := dmarc.Mailboxes([]byte("From: a@a.test\r\nFROM : a@a.test\r\n\r\n")); problem == "" {
		t.Errorf("two fields: %q", got)
	}
	if got, problem := dmarc.Mailboxes([]byte("Subject: x\r\n\r\n")); len(got) > 0 || problem != "" {
		t.Errorf("no field: %q, %s", got, problem)
	}
}
