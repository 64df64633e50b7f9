package corpus

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// charsets adds texts in several character sets and transfer encodings, declared
// rightly and wrongly.
func (c *collector) charsets() {
	texts := map[string]string{
		"us-ascii": "Plain text.\n", "utf-8": "Gr\u00fc\u00dfe, \u4f60\u597d, \U0001F600\n", "iso-8859-1": "Gr\xfc\xdfe\n",
		"koi8-r": "\xf0\xd2\xc9\xd7\xc5\xd4\n", "windows-1252": "\x93quoted\x94 \x80 5\n",
		"iso-2022-jp": "\x1b$B$3$s$K$A$O\x1b(B\n", "gb18030": "\xc4\xe3\xba\xc3\n", "x-unknown-9": "\xfe\xff?\n", "utf-7": "Hi Mom +Jjo-!\n",
	}
	for _, cs := range []string{"us-ascii", "utf-8", "iso-8859-1", "koi8-r", "windows-1252", "iso-2022-jp", "gb18030", "x-unknown-9", "utf-7"} {
		for _, cte := range []string{"7bit", "8bit", "quoted-printable", "base64", "binary"} {
			body := texts[cs]
			switch cte {
			case "quoted-printable":
				body = strings.NewReplacer("\xfc", "=FC", "\u00fc", "=C3=BC", " ", "=20").Replace(body) + "soft=\nbreak =\n=3D\n"
			case "base64":
				body = base64.StdEncoding.EncodeToString([]byte(body)) + "\n"
			}
			name := cs + "-" + cte
			c.add(name, head(name)+"Content-Type: text/plain; charset="+cs+"\nContent-Transfer-Encoding: "+cte+"\n\n"+body)
		}
	}
}

// headers adds odd and broken header sections.
func (c *collector) headers() {
	for i, fields := range []string{
		"From: =?utf-8?b?SsO8cmdlbg==?= <j@example.org>\nSubject: =?utf-8?q?a_=C3=A4?= =?iso-8859-1?q?=FC?=\n",
		"From: =?utf-8?b?SsO8c?= <j@example.org>\nSubject: =?utf-8?q?broken\n",
		"Subject: =?nonsense?x?abc?= =?utf-8?q??= =?utf-8?b??=\n",
		"From: J\u00fcrgen M\u00fcller <j\u00fcrgen@m\u00fcller.example>\nSubject: \u00c4rger \u65e5\u672c\n",
		"From: J\xfcrgen <j@example.org>\nSubject: Latin\xe9 \xff\xfe\n",
		"From: a@x.example, b@y.example\nSender: c@z.example\n",
		"From: a@x.example\nFrom: b@y.example\nSubject: one\nSubject: two\n",
		"From : space@before.colon\nTo\t: tab@before.colon\n",
		"To: friends: a@x.example, \"B, C\" <b@y.example>;\nCc: undisclosed-recipients:;\n",
		"To: <@route.example,@two.example:a@x.example>\n",
		"From: (comment (nested)) ada (x) @ (y) example.org (z)\n",
		"From: a (x\\\nTo: x:;\nCc: \"unclosed <a@b>\n",
		"From:\nTo: \nSubject:\nDate:\n",
		"Subject: folded\n over\n\tthree\n \t lines\n",
		"Subject: fold of nothing but space\n   \n  end\n",
		" continuation: first\nSubject: after it\n",
		"no colon in this line\nSubject: after it\n",
		": empty name\nSubject: after it\n",
		"From ada@example.org Mon Mar  4 10:11:12 2024\nSubject: after a From_ line\n",
		">From ada@example.org\nSubject: after a quoted From_ line\n",
		"Date: Thu, 99 Foo 292277026596 25:61:61 +9999\nMessage-ID: no brackets\n",
		"Date: 4 Mar 24 10:11 EST (comment)\nMessage-ID: <a@b> <c@d>\nReferences: <a@b>\n <c@d>,<e@f> junk\n",
		"Content-Type: text/plain; name*0*=utf-8''%e2%82; name*1*=%ac; name*2=\"x y\"\nContent-Disposition: attachment; filename*=iso-8859-1'en'%A3.txt\n",
		"Content-Type: text/plain; charset=\nContent-Type: text/html\nContent-Transfer-Encoding: 9bit\n",
		"Content-Type: garbage\nContent-Disposition: ;;;=\nContent-Language: de, en\nContent-MD5: Q2hlY2s=\nContent-Location: http://x/\n",
		"Content-Type: text/plain; a=1; a=2; =3; b; c=\"unclosed\n",
		"Content-ID: <part@x>\nContent-Description: =?utf-8?q?=C3=9F?=\nContent-Type: TEXT/Plain; CHARSET=\"UTF-8\"\n",
		"X-Empty-Name-Follows: y\n\x01\x02: control\nX: \x07bell\x1besc\n",
		"In-Reply-To: \"quoted\"@example.org and some words <id@x>\nReply-To: =?utf-8?q?=22a=22?= <b@c>\n",
		"List-Id: <list.example.org>\nPrecedence: bulk\nReceived: by x; Mon, 4 Mar 2024\nReturn-Path: <>\nDelivered-To: x@y\n",
		"Bcc: hidden@example.org\nResent-From: a@b\nResent-To: c@d\nStatus: RO\nX-Mozilla-Status: 0001\nContent-Length: 9999\n",
	} {
		c.add(fmt.Sprintf("header-%d", i), fields+"\nbody\n")
	}
	c.add("header-no-body", "From: a@b\nSubject: ends with the header\n")
	c.raw("header-no-newline", []byte("Subject: cut off here"))
	c.add("header-blank-lines-first", "\n\n\nSubject: in the body\n\nx\n")
	c.add("header-none", "\nonly a body\n")
	c.add("header-body-at-once", "this is no header\nnor this\n\nand on\n")
	c.add("header-huge-field", head("huge")+"X-Huge: "+strings.Repeat("word and word again\n ", 10_000)+"end\n\nx\n")
	c.add("header-huge-line", head("line")+"X-Line: "+strings.Repeat("x", 60_000)+"\n\nx\n")
	c.add("header-5000-fields", head("many")+strings.Repeat("X-Field: value\n", 5_000)+"\nx\n")
	c.add("header-2000-addresses", "To: "+strings.Repeat("\"A, B\" <somebody@example.org>,\n ", 2_000)+"last@example.org\n\nx\n")
	c.add("header-3000-words", "Subject: "+strings.Repeat("=?utf-8?q?=C3=A4?=\n ", 3_000)+"\n\nx\n")
	c.add("header-500-references", "References: "+strings.Repeat("<some.message.id@example.org>\n ", 500)+"\nMessage-ID: <x@y>\n\nx\n")
	c.add("header-2231-pieces", "Content-Type: text/plain; "+pieces(400)+"x=y\n\nx\n")
	c.raw("header-nul", []byte("Subject: a\x00b\r\n\r\nbody\r\n"))
	c.raw("header-lf", []byte("Subject: bare line feeds\nFrom: a@b\n\nbody\n"))
	c.raw("header-cr", []byte("Subject: bare returns\rFrom: a@b\r\rbody\r"))
}

func pieces(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "name*%d=piece;\n ", i)
	}
	return b.String()
}

// bodies adds bodies that line-based protocols stumble over.
func (c *collector) bodies() {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, b := range [][2]string{
		{"dots", ".\n..\n...\n.x\n\n.\n"}, {"dot-only", "."}, {"dot-line", ".\n"}, {"dots-last", "x\n."},
		{"no-final-newline", "last line has no end"}, {"empty-body", ""}, {"one-newline", "\n"}, {"newlines", "\n\n\n\n\n"},
		{"trailing-space", "x \ny\t\n  \n"}, {"from-line", "From the start\n>From quoted\nFrom again\n"},
		{"long-line-997", strings.Repeat("y", 997) + "\n"}, {"long-line-2000", strings.Repeat("y", 2_000) + "\n"},
		{"long-line-100k", strings.Repeat("y", 100_000) + "\n"}, {"short-lines", strings.Repeat("a\n", 20_000)},
		{"flowed", "-- \nsig \nflowed \n text\n"}, {"uuencode", "begin 644 x\n#0V%T\n`\nend\n"}, {"8bit-undeclared", "\xe4\xf6\xfc \xc3\xa4\n"},
		{"esc", "\x1b[31mred\x1b[0m\x07\x08\n"}, {"smuggle-crlf", "x\n.\nMAIL FROM:<a@b>\nRCPT TO:<c@d>\nDATA\nz\n"},
		{"imap-like", "* 1 EXISTS\na1 OK done\n)\n{5}\n"}, {"pop-like", "+OK\n-ERR\n.\n+OK\n"}, {"bom", "\xef\xbb\xbftext\n"},
	} {
		c.add("body-"+b[0], head(b[0])+"\n"+b[1])
	}
	c.raw("body-smuggle-lf", []byte("Subject: s\r\n\r\nx\n.\nMAIL FROM:<a@b>\n.\r\ny\r\n"))
	c.raw("body-bare-lf", []byte("Subject: s\r\n\r\none\ntwo\r\nthree\n"))
	c.raw("body-bare-cr", []byte("Subject: s\r\n\r\none\rtwo\r\nthree\r"))
	c.raw("body-cr-cr-lf", []byte("Subject: s\r\n\r\none\r\r\ntwo\n\r\n\r"))
	c.raw("body-nul", []byte("Subject: s\r\n\r\none\x00two\r\n"))
	c.raw("body-all-bytes", append([]byte("Subject: s\r\nContent-Transfer-Encoding: binary\r\n\r\n"), all...))
	c.raw("empty", nil)
	c.raw("one-byte", []byte("x"))
	c.raw("one-crlf", []byte("\r\n"))
	c.raw("one-lf", []byte("\n"))
	c.raw("two-crlf", []byte("\r\n\r\n"))
	c.raw("colon", []byte(":"))
	c.raw("spaces", []byte("   \r\n \r\n"))
}
