package corpus

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// multiparts adds messages of every usual shape of parts.
func (c *collector) multiparts() {
	leaves := []string{
		"Content-Type: text/plain; charset=utf-8\n\nText \u00e4\n",
		"Content-Type: text/html\n\n<p>Hello<br></p>\n",
		"Content-Type: image/png\nContent-Transfer-Encoding: base64\nContent-ID: <i@x>\nContent-Disposition: inline; filename=\"i.png\"\n\niVBORw0KGgo=\n",
		"Content-Type: text/calendar; method=REQUEST\n\nBEGIN:VCALENDAR\nEND:VCALENDAR\n",
		"Content-Type: application/ms-tnef; name=winmail.dat\nContent-Transfer-Encoding: base64\n\neJ8+Ig==\n",
		"\nno fields at all\n",
		"Content-Type: message/rfc822\n\nFrom: inner@example.org\nSubject: inner\n\ninner body\n",
		"Content-Type: message/delivery-status\n\nReporting-MTA: dns; x\n\nFinal-Recipient: rfc822; a@b\nAction: failed\nStatus: 5.1.1\n",
		"Content-Type: application/octet-stream; name=\"=?utf-8?q?=C3=A4.bin?=\"\nContent-Transfer-Encoding: quoted-printable\n\n=00=FF\n",
		"Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n!!!not base64 at all===\n",
	}
	for _, kind := range []string{"mixed", "alternative", "related; type=\"text/html\"", "signed; protocol=\"application/pgp-signature\"; micalg=pgp-sha256",
		"report; report-type=delivery-status", "digest", "parallel", "encrypted", "form-data", "x-private"} {
		for n := 1; n <= 4; n++ {
			name := fmt.Sprintf("multipart-%s-%d", strings.Fields(strings.ReplaceAll(kind, ";", " "))[0], n)
			var parts []string
			for range n {
				parts = append(parts, leaves[c.rnd.IntN(len(leaves))])
			}
			c.add(name, head(name)+multipart(kind, fmt.Sprintf("b_%d", len(c.all)), parts...))
		}
	}
	c.add("multipart-1000", head("p1000")+multipart("mixed", "many", repeat(leaves[0], 1_000)...))
	c.add("multipart-empty-parts", head("pe")+"Content-Type: multipart/mixed; boundary=e\n\n--e\n--e\n\n--e\n\n\n--e--\n")
}

// multipart returns Content-Type, the empty line and the parts with preamble and
// epilogue.
func multipart(kind, boundary string, parts ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Content-Type: multipart/%s; boundary=\"%s\"\n\npreamble\n", kind, boundary)
	for _, p := range parts {
		fmt.Fprintf(&b, "--%s\n%s\n", boundary, p)
	}
	fmt.Fprintf(&b, "--%s--\nepilogue\n", boundary)
	return b.String()
}

func repeat(s string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = s
	}
	return out
}

// nested adds messages in messages and parts in parts.
func (c *collector) nested() {
	for _, depth := range []int{1, 2, 3, 5, 10, 50, 200} {
		inner := head("inner") + "\nthe innermost\n"
		deep := inner
		for i := range depth {
			deep = head(fmt.Sprintf("level-%d", i)) + "Content-Type: message/rfc822\n\n" + deep
		}
		c.add(fmt.Sprintf("rfc822-depth-%d", depth), deep)
		part := "Content-Type: text/plain\n\nthe innermost\n"
		for i := range depth {
			part = multipart("mixed", fmt.Sprintf("level%d", i), part)
		}
		c.add(fmt.Sprintf("multipart-depth-%d", depth), head("deep")+part)
	}
	forward := head("fwd") + multipart("mixed", "inner", "Content-Type: text/plain\n\nx\n", "Content-Type: application/pdf\nContent-Transfer-Encoding: base64\n\nJVBERi0=\n")
	c.add("forward-as-attachment", head("outer")+multipart("mixed", "outer", "\nsee below\n", "Content-Type: message/rfc822\nContent-Disposition: attachment\n\n"+forward))
	c.add("rfc822-in-base64", head("b64")+"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n"+
		base64.StdEncoding.EncodeToString([]byte("Subject: x\r\n\r\ny\r\n"))+"\n")
	c.add("message-partial", head("partial")+"Content-Type: message/partial; number=1; total=2; id=\"x\"\n\nhalf\n")
	c.add("message-external", head("ext")+"Content-Type: message/external-body; access-type=URL; URL=\"http://x/\"\n\nContent-Type: text/plain\n\n")
	c.add("message-global", head("glob")+"Content-Type: message/global\n\nSubject: \u00e4\n\n\u00e4\n")
}

// boundaries adds multiparts whose boundary is broken in one way each.
func (c *collector) boundaries() {
	parts := "\n--B\nContent-Type: text/plain\n\none\n--B\n\ntwo\n"
	for _, b := range [][2]string{
		{"no-close", "multipart/mixed; boundary=B\n" + parts},
		{"no-parameter", "multipart/mixed\n" + parts + "--B--\n"},
		{"empty-parameter", "multipart/mixed; boundary=\"\"\n" + parts + "--B--\n"},
		{"never-used", "multipart/mixed; boundary=C\n" + parts + "--B--\n"},
		{"unclosed-quote", "multipart/mixed; boundary=\"B\n" + parts + "--B--\n"},
		{"trailing-space", "multipart/mixed; boundary=\"B\"\n\n--B  \t\n\none\n--B-- \t\n"},
		{"with-space", "multipart/mixed; boundary=\"a b\"\n\n--a b\n\none\n--a b--\n"},
		{"specials", "multipart/mixed; boundary=\"=_?:/(),'+.\"\n\n--=_?:/(),'+.\n\none\n--=_?:/(),'+.--\n"},
		{"prefix-of-another", "multipart/mixed; boundary=ab\n\n--abc\n\nno\n--ab\n\none\n--abx\n--ab--\n"},
		{"same-in-child", "multipart/mixed; boundary=B\n\n--B\nContent-Type: multipart/mixed; boundary=B\n\n--B\n\none\n--B--\n--B--\n"},
		{"child-unclosed", "multipart/mixed; boundary=B\n\n--B\nContent-Type: multipart/mixed; boundary=C\n\n--C\n\none\n--B\n\ntwo\n--B--\n"},
		{"parent-in-child", "multipart/mixed; boundary=B\n\n--B\nContent-Type: message/rfc822\n\nSubject: cut\n--B\n\ntwo\n--B--\n"},
		{"after-close", "multipart/mixed; boundary=B\n" + parts + "--B--\n--B\n\nlate\n--B--\n"},
		{"close-first", "multipart/mixed; boundary=B\n\n--B--\n--B\n\nlate\n"},
		{"dashes", "multipart/mixed; boundary=\"--\"\n\n----\n\none\n------\n"},
		{"long", "multipart/mixed; boundary=" + strings.Repeat("b", 500) + "\n\n--" + strings.Repeat("b", 500) + "\n\none\n--" + strings.Repeat("b", 500) + "--\n"},
		{"header-cut", "multipart/mixed; boundary=B\n\n--B\nContent-Type: text/pl"},
		{"in-header", "multipart/mixed; boundary=B\nX: y\n--B\n\none\n--B--\n"},
		{"2231", "multipart/mixed; boundary*0=\"B\"; boundary*1=\"C\"\n\n--BC\n\none\n--BC--\n"},
		{"8bit", "multipart/mixed; boundary=\"\u00e4\"\n\n--\u00e4\n\none\n--\u00e4--\n"},
		{"base64-on-multipart", "multipart/mixed; boundary=B\nContent-Transfer-Encoding: base64\n" + parts + "--B--\n"},
		{"two-content-types", "multipart/mixed; boundary=B\nContent-Type: text/plain\n" + parts + "--B--\n"},
	} {
		c.add("boundary-"+b[0], head(b[0])+"Content-Type: "+b[1])
	}
	c.raw("boundary-bare-lf", []byte("Content-Type: multipart/mixed; boundary=B\n\n--B\n\none\n--B--\n"))
	c.raw("boundary-mixed-lf", []byte("Content-Type: multipart/mixed; boundary=B\r\n\r\n--B\n\none\r\n--B--\n"))
}

// sizes adds messages whose sizes lie at the borders of buffers and of records.
func (c *collector) sizes() {
	for _, n := range []int{511, 512, 513, 998, 1_000, 4_095, 4_096, 4_097, 8_192, 16_383, 16_385, 32_768, 65_535, 65_536, 65_537,
		102_400, 131_071, 131_073, 262_145, 1_048_575, 1_048_577} {
		h := strings.ReplaceAll(head(fmt.Sprintf("size-%d", n)), "\n", "\r\n") + "\r\n"
		body := []byte(h)
		for len(body) < n-2 {
			line := min(n-2-len(body), 76)
			for range line {
				body = append(body, byte(33+c.rnd.IntN(90)))
			}
			if len(body) < n-4 {
				body = append(body, "\r\n"...)
			}
		}
		if len(body) > n-2 {
			body = body[:n-2]
		}
		c.raw(fmt.Sprintf("size-%d", n), append(body, "\r\n"...))
	}
}

// big adds one message of 25 MB with an attachment that does not compress.
func (c *collector) big() {
	raw := make([]byte, 57)
	var b strings.Builder
	b.WriteString(head("big") + "Content-Type: multipart/mixed; boundary=B\n\n--B\n\nsee attachment\n--B\n" +
		"Content-Type: application/zip\nContent-Transfer-Encoding: base64\n\n")
	for b.Len() < 24_700_000 {
		for i := range raw {
			raw[i] = byte(c.rnd.Uint32())
		}
		b.WriteString(base64.StdEncoding.EncodeToString(raw) + "\n")
	}
	b.WriteString("--B--\n")
	c.add("big-25MB", b.String())
}
