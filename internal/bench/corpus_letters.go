package bench

import (
	"fmt"
	"html"
	"mime"
	"strings"
	"time"
)

// head writes the header fields of a message, down to MIME-Version.
func (m *letter) head(subject string, more ...string) {
	r, s := m.rnd, m.sender
	stamp := m.date.Format(time.RFC1123Z)
	for i := range 3 {
		by := fmt.Sprintf("mx%d.%s", 3-i, []string{"example.net", s.host, s.host}[i])
		m.putf("Received: from out-%d.%s (out-%d.%s [IPv6:2001:db8:%x:%x::%x])\r\n\tby %s (Postfix) with ESMTPS id %s\r\n"+
			"\tfor <reader@example.net>; %s\r\n", r.IntN(90), s.host, r.IntN(90), s.host, s.no, r.IntN(256), r.IntN(65536), by,
			strings.ToUpper(hex(r, 11)), stamp)
	}
	m.putf("Authentication-Results: mx3.example.net;\r\n\tdkim=pass (2048-bit key; unprotected) header.d=%s header.i=@%s header.a=rsa-sha256 header.s=s%d;\r\n"+
		"\tspf=pass (mx3.example.net: domain of %s designates 192.0.2.%d as permitted sender) smtp.mailfrom=%s;\r\n\tdmarc=pass (policy=quarantine) header.from=%s\r\n",
		s.host, s.host, s.no%7, s.host, r.IntN(256), s.host, s.host)
	for _, d := range []string{s.host, "relay.example.com"} {
		m.putf("DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=%s; s=s%d; t=%d;\r\n"+
			"\th=from:from:reply-to:subject:subject:date:date:message-id:message-id:\r\n\t to:to:cc:mime-version:mime-version:content-type:content-type;\r\n"+
			"\tbh=%s=;\r\n\tb=%s\r\n", d, s.no%7, m.date.Unix(), token(r, 43), signature(r))
	}
	m.putf("X-Spam-Status: No, score=-%d.%d required=5.0 tests=DKIM_SIGNED,DKIM_VALID,\r\n\tDKIM_VALID_AU,HTML_MESSAGE,RCVD_IN_DNSWL_LOW,SPF_PASS autolearn=ham\r\n"+
		"\tversion=4.0.0\r\n", r.IntN(4), r.IntN(10))
	m.putf("From: %s <%s@%s>\r\nTo: Reader <reader@example.net>\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <%s.%d.%s@%s>\r\n",
		mime.QEncoding.Encode("utf-8", s.name), "office"+fmt.Sprint(s.no), s.host, fold(mime.QEncoding.Encode("utf-8", subject)), stamp,
		m.seed, m.n, hex(r, 12), s.host)
	m.put(more...)
	m.put("MIME-Version: 1.0\r\n")
}

// fold breaks a long field at its encoded words.
func fold(s string) string { return strings.ReplaceAll(s, "?= =?", "?=\r\n =?") }

// boundary returns one that is not in use in this message.
func (m *letter) boundary() string { return "=_" + hex(m.rnd, 28) }

// plain writes a part of text, in the encoding that its sender's program takes.
func (m *letter) plain(text []byte, subtype string) {
	m.put("Content-Type: text/", subtype, "; charset=utf-8\r\n")
	if m.sender.no%7 == 3 {
		m.put("Content-Transfer-Encoding: base64\r\n\r\n")
		m.base64([]byte(strings.ReplaceAll(string(text), "\n", "\r\n")))
		return
	}
	m.put("Content-Transfer-Encoding: quoted-printable\r\n\r\n")
	m.quotedPrintable(text)
}

// both writes a text and its HTML as a part of its own.
func (m *letter) both(text, page []byte) {
	b := m.boundary()
	m.put("Content-Type: multipart/alternative;\r\n boundary=\"", b, "\"\r\n\r\n--", b, "\r\n")
	m.plain(text, "plain")
	m.put("--", b, "\r\n")
	m.plain(page, "html")
	m.put("--", b, "--\r\n")
}

// newsletter writes a message with many articles.
func newsletter(m *letter) {
	s := m.from("newsletter", 40)
	w, t, r := s.lexicon, s.template, m.rnd
	accent, ink, width := hex(t, 6), hex(t, 6), 560+20*t.IntN(6)
	legal, claim := w.paragraph(t, 900), w.title(t)
	link := func() string {
		return fmt.Sprintf("https://click.%s/ls/click?upn=%s", s.host, token(r, between(r, 50, 180)))
	}
	var text, page writing
	page.putf(`<!DOCTYPE html><html><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<style type="text/css">body{margin:0;padding:0;-webkit-text-size-adjust:100%%;background-color:#f4f4f4}table,td{border-collapse:collapse;mso-table-lspace:0pt;mso-table-rspace:0pt}
img{border:0;height:auto;line-height:100%%;outline:none;text-decoration:none}h2{font-family:Helvetica,Arial,sans-serif;color:#%s}@media only screen and (max-width:480px){.column{width:100%%!important;max-width:100%%}.hide{display:none!important}}</style></head>
<body><table width="100%%" cellpadding="0" cellspacing="0" role="presentation"><tr><td align="center">
<table width="%d" style="width:%dpx;background-color:#ffffff" cellpadding="0" cellspacing="0" role="presentation"><tr><td style="padding:24px;background-color:#%s;color:#ffffff;font-family:Helvetica,Arial,sans-serif;font-size:22px">%s</td></tr>
`, ink, width, width, accent, html.EscapeString(claim))
	for range 8 + t.IntN(12) + r.IntN(6) {
		title, story := w.title(r), w.paragraph(r, between(r, 200, 1_100))
		to := link()
		text.put(strings.ToUpper(title), "\n")
		text.b = wrap(text.b, story, "", "\n")
		text.put(to, "\n\n")
		page.putf(`<tr><td class="column" style="padding:10px 24px 10px 24px;font-family:Helvetica,Arial,sans-serif;font-size:15px;line-height:22px;color:#%s" align="left" valign="top">
<a href="%s" target="_blank" style="text-decoration:none;color:#%s"><img src="https://img.%s/%s/%d.jpg" width="%d" alt="%s" style="display:block;width:100%%;max-width:%dpx"></a>
<h2 style="margin:0 0 10px 0;font-size:19px;line-height:25px;font-weight:bold">%s</h2>
<p style="margin:0 0 14px 0">%s</p>
<table cellpadding="0" cellspacing="0" role="presentation"><tr><td style="border-radius:4px;background-color:#%s;padding:10px 18px"><a href="%s" target="_blank" style="font-size:14px;color:#ffffff;text-decoration:none;display:inline-block">%s</a></td></tr></table>
</td></tr>
`, ink, to, accent, s.host, hex(r, 16), r.IntN(9999), width-48, html.EscapeString(title), width-48,
			html.EscapeString(title), html.EscapeString(story), accent, link(), html.EscapeString(w.word(t)))
	}
	text.b = wrap(text.b, legal, "", "\n")
	page.putf(`<tr><td style="padding:24px;font-family:Helvetica,Arial,sans-serif;font-size:11px;line-height:16px;color:#888888">%s<br><a href="%s" style="color:#888888">unsubscribe</a></td></tr>
</table></td></tr></table><img src="https://open.%s/o/%s" width="1" height="1" alt=""></body></html>
`, html.EscapeString(legal), link(), s.host, token(r, 120))
	m.head(w.title(r), "List-Unsubscribe: <", link(), ">,\r\n <mailto:unsubscribe-"+hex(r, 24)+"@"+s.host+">\r\n",
		"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nPrecedence: bulk\r\nFeedback-ID: ", fmt.Sprint(s.no), ":", hex(r, 8), ":campaign\r\n")
	m.both(text.b, page.b)
}

// notice writes what a shop or a machine has to say.
func notice(m *letter) {
	s := m.from("notice", 30)
	w, t, r := s.lexicon, s.template, m.rnd
	frame, opening := w.paragraph(t, 500), w.title(t)
	var text, page writing
	page.putf(`<html><body style="font-family:Arial,sans-serif;font-size:14px;color:#333"><div style="max-width:600px;margin:0 auto;padding:20px;border:1px solid #ddd"><h1 style="font-size:20px">%s</h1><p>%s</p><table style="width:100%%;border-top:1px solid #eee">`,
		html.EscapeString(opening), html.EscapeString(frame))
	text.put(opening, "\n\n")
	text.b = wrap(text.b, frame, "", "\n")
	for range 3 + r.IntN(14) {
		what, amount := w.title(r), fmt.Sprintf("%d.%02d", r.IntN(400), r.IntN(100))
		text.putf("%-50s %8s\n", what, amount)
		page.putf(`<tr><td style="padding:8px 0;border-bottom:1px solid #eee">%s</td><td style="padding:8px 0;border-bottom:1px solid #eee;text-align:right">%s</td></tr>`, html.EscapeString(what), amount)
		page.put("\n")
	}
	ref := strings.ToUpper(hex(r, 10))
	text.putf("\nhttps://www.%s/orders/%s?key=%s\n", s.host, ref, hex(r, 40))
	page.putf(`</table><p><a href="https://www.%s/orders/%s?key=%s">%s</a></p><p style="color:#999;font-size:11px">%s</p></div></body></html>`,
		s.host, ref, hex(r, 40), ref, html.EscapeString(w.paragraph(t, 700)))
	m.head(opening+" "+ref, "Auto-Submitted: auto-generated\r\n")
	if s.no%4 == 0 {
		m.plain(text.b, "plain")
		return
	}
	m.both(text.b, page.b)
}

// talk returns a letter with what it answers below.
func (m *letter) talk() []byte {
	s, r := m.sender, m.rnd
	w := s.lexicon
	var text writing
	depth := between(r, 0, 5)
	for level := range depth + 1 {
		prefix := strings.Repeat("> ", level)
		if level > 0 {
			text.put(strings.Repeat("> ", level-1))
			text.putf(w.wrote+"\n", m.date.Add(-time.Duration(level*7)*time.Hour).Format("02.01.2006 15:04"), w.given(r)+" "+w.family(r))
		}
		hello := pick(r, w.hello)
		if strings.Contains(hello, "%s") {
			hello = fmt.Sprintf(hello, w.given(r))
		}
		text.put(prefix, hello, "\n", prefix, "\n")
		for range 1 + between(r, 0, 4) {
			text.b = wrap(text.b, w.paragraph(r, between(r, 80, 700)), prefix, "\n")
			text.put(prefix, "\n")
		}
		text.put(prefix, pick(r, w.bye), "\n", prefix, s.name, "\n", prefix, "--\n", prefix, s.name, "\n", prefix, "T +49 40 ",
			fmt.Sprint(5550000+s.no), " | www.", s.host, "\n", prefix, "\n")
	}
	return text.b
}

// formatted returns text as the HTML of a letter writer.
func formatted(text []byte) []byte {
	var w writing
	w.put(`<html xmlns:o="urn:schemas-microsoft-com:office:office" xmlns:w="urn:schemas-microsoft-com:office:word"><head><meta http-equiv="Content-Type" content="text/html; charset=utf-8">
<style><!--
@font-face {font-family:"Cambria Math"; panose-1:2 4 5 3 5 4 6 3 2 4;}
@font-face {font-family:Calibri; panose-1:2 15 5 2 2 2 4 3 2 4;}
p.MsoNormal, li.MsoNormal, div.MsoNormal {margin:0cm; font-size:11.0pt; font-family:"Calibri",sans-serif;}
a:link, span.MsoHyperlink {mso-style-priority:99; color:#0563C1; text-decoration:underline;}
span.EmailStyle17 {mso-style-type:personal-compose; font-family:"Calibri",sans-serif; color:windowtext;}
.MsoChpDefault {mso-style-type:export-only; font-size:10.0pt;}
@page WordSection1 {size:612.0pt 792.0pt; margin:70.85pt 70.85pt 2.0cm 70.85pt;}
div.WordSection1 {page:WordSection1;}
--></style></head><body lang="EN-US" link="#0563C1" vlink="#954F72"><div class="WordSection1">
`)
	for line := range strings.Lines(string(text)) {
		w.put(`<p class="MsoNormal">`, html.EscapeString(strings.TrimSuffix(line, "\n")), "<o:p></o:p></p>\n")
	}
	w.put("</div></body></html>\n")
	return w.b
}

// thread writes the fields of an answer.
func (m *letter) thread() string {
	ref := fmt.Sprintf("<%s.%d.%s@%s>", m.seed, m.n/2, hex(m.rnd, 12), m.sender.host)
	return "In-Reply-To: " + ref + "\r\nReferences: <" + hex(m.rnd, 32) + "@mail.example.net>\r\n " + ref + "\r\n"
}

// reply writes a letter of a person.
func reply(m *letter) {
	s := m.from("person", 60)
	text := m.talk()
	m.head("Re: "+s.lexicon.title(m.rnd), m.thread())
	if s.no%2 == 0 && !s.hasLogo {
		m.plain(text, "plain")
		return
	}
	if !s.hasLogo {
		m.both(text, formatted(text))
		return
	}
	b := m.boundary()
	m.put("Content-Type: multipart/related;\r\n boundary=\"", b, "\"\r\n\r\n--", b, "\r\n")
	m.both(text, formatted(text))
	m.put("--", b, "\r\nContent-Type: image/png; name=\"logo.png\"\r\nContent-Transfer-Encoding: base64\r\nContent-ID: <logo@", s.host,
		">\r\nContent-Disposition: inline; filename=\"logo.png\"\r\n\r\n")
	logo := m.dice("logo", s.no)
	m.base64(drawing(logo, between(logo, 5_000, 24_000)))
	m.put("--", b, "--\r\n")
}

// listMail writes to a mailing list of programmers.
func listMail(m *letter) {
	s := m.from("list", 25)
	s.lexicon = m.lang[0]
	m.sender = s
	r := m.rnd
	text := writing{m.talk()}
	for range between(r, 0, 6) {
		file := fmt.Sprintf("src/%s/%s.c", s.lexicon.word(r), s.lexicon.word(r))
		text.putf("diff --git a/%s b/%s\nindex %s..%s 100644\n--- a/%s\n+++ b/%s\n@@ -%d,7 +%d,9 @@ static int %s(struct %s *ctx)\n", file, file,
			hex(r, 12), hex(r, 12), file, file, r.IntN(900), r.IntN(900), s.lexicon.word(r), s.lexicon.word(r))
		for range 6 + r.IntN(18) {
			text.putf("%s\tif (%s->%s != %s(%s, %d))\n", pick(r, []string{" ", " ", "+", "-"}), s.lexicon.word(r), s.lexicon.word(r),
				s.lexicon.word(r), s.lexicon.word(r), r.IntN(64))
		}
	}
	m.head("Re: [PATCH] "+s.lexicon.title(r), m.thread(), "List-Id: Development <devel.lists.example.org>\r\nList-Post: <mailto:devel@lists.example.org>\r\n"+
		"List-Archive: <https://lists.example.org/archives/list/devel>\r\nPrecedence: list\r\n")
	m.plain(text.b, "plain")
}

// invitation writes one to a meeting (RFC 5545).
func invitation(m *letter) {
	s := m.from("person", 60)
	w, r := s.lexicon, m.rnd
	text, title := []byte(w.paragraph(r, 300)+"\n"), w.title(r)
	var c writing
	c.putf("BEGIN:VCALENDAR\nMETHOD:REQUEST\nPRODID:Example\nVERSION:2.0\nBEGIN:VTIMEZONE\nTZID:W. Europe Standard Time\nBEGIN:STANDARD\nDTSTART:16010101T030000\nTZOFFSETFROM:+0200\nTZOFFSETTO:+0100\n"+
		"RRULE:FREQ=YEARLY;INTERVAL=1;BYDAY=-1SU;BYMONTH=10\nEND:STANDARD\nBEGIN:DAYLIGHT\nDTSTART:16010101T020000\nTZOFFSETFROM:+0100\nTZOFFSETTO:+0200\nRRULE:FREQ=YEARLY;INTERVAL=1;BYDAY=-1SU;BYMONTH=3\nEND:DAYLIGHT\nEND:VTIMEZONE\nBEGIN:VEVENT\n"+
		"UID:%s\nSUMMARY:%s\nDTSTAMP:%s\nORGANIZER;CN=%s:mailto:office%d@%s\n", hex(r, 64), title, m.date.Format("20060102T150405Z"), s.name, s.no, s.host)
	for range 2 + r.IntN(12) {
		name := w.given(r) + " " + w.family(r)
		c.putf("ATTENDEE;ROLE=REQ-PARTICIPANT;PARTSTAT=NEEDS-ACTION;RSVP=TRUE;CN=%s:mailto:%s@%s\n", name, hex(r, 6), s.host)
	}
	c.put("CLASS:PUBLIC\nPRIORITY:5\nTRANSP:OPAQUE\nSTATUS:CONFIRMED\nSEQUENCE:0\nEND:VEVENT\nEND:VCALENDAR\n")
	m.head(title)
	b := m.boundary()
	m.put("Content-Type: multipart/alternative;\r\n boundary=\"", b, "\"\r\n\r\n--", b, "\r\n")
	m.plain(text, "plain")
	m.put("--", b, "\r\n")
	m.plain(c.b, "calendar; method=REQUEST")
	m.put("--", b, "--\r\n")
}

// withFile writes a letter with an attachment.
func withFile(m *letter) {
	m.from("person", 60)
	text := m.talk()
	f := m.fileOf(m.file)
	m.head(m.sender.lexicon.title(m.rnd), m.thread())
	b := m.boundary()
	m.put("Content-Type: multipart/mixed;\r\n boundary=\"", b, "\"\r\n\r\n--", b, "\r\n")
	if m.sender.no%2 == 0 {
		m.plain(text, "plain")
	} else {
		m.both(text, formatted(text))
	}
	m.put("--", b, "\r\nContent-Type: ", f.media, "; name=\"", f.name, "\"\r\nContent-Transfer-Encoding: base64\r\n"+
		"Content-Disposition: attachment; filename=\"", f.name, "\"\r\n\r\n")
	m.base64(f.data)
	m.put("--", b, "--\r\n")
}

// sentBefore tells which file the k-th message with a file has: its own, or that of an
// earlier one.
func (c *corpus) sentBefore(k int) int {
	for k > 0 {
		r := c.dice("again", k)
		if r.IntN(7) > 0 {
			return k
		}
		k -= 1 + r.IntN(min(k, 60))
	}
	return k
}

// fileOf makes the file of the k-th message that has one.
func (c *corpus) fileOf(k int) file {
	k = c.sentBefore(k)
	r := c.dice("file", k)
	return makeFile(r, c.lang[r.IntN(2)], skewed(r, 120_000, 1.45, 6_000_000))
}
