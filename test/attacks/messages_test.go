package attacks

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/martlet-mail/martlet/test/house"
)

// reader is a client of IMAP that is not ours: what it cannot parse, other clients could
// not either.
func reader(t *testing.T, h *house.House) (c *imapclient.Client, messages uint32) {
	t.Helper()
	c, err := imapclient.DialInsecure(h.Addr("imap"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Login("alice@"+house.Domain, house.Password).Wait(); err != nil {
		t.Fatal(err)
	}
	box, err := c.Select("INBOX", nil).Wait()
	if err != nil {
		t.Fatal(err)
	}
	return c, box.NumMessages
}

// bring puts a message into the INBOX over LMTP, and lets IMAP be asked all about it.
func bring(t *testing.T, h *house.House, name, text string) *imapclient.FetchMessageBuffer {
	t.Helper()
	c := begin(t, h, "lmtp")
	w := bufio.NewWriter(c)
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, ".") {
			w.WriteByte('.')
		}
		w.WriteString(line)
	}
	w.WriteString(".\r\n")
	if err := w.Flush(); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	if got := c.Reply(); !strings.HasPrefix(got, "250") {
		t.Errorf("%s: %s", name, got)
		return nil
	}
	return ask(t, h, name, text)
}

// ask fetches everything about the last message; its text must be there byte for byte.
func ask(t *testing.T, h *house.House, name, text string) *imapclient.FetchMessageBuffer {
	t.Helper()
	r, last := reader(t, h)
	whole := &imap.FetchItemBodySection{Peek: true}
	got, err := r.Fetch(imap.SeqSetNum(last), &imap.FetchOptions{Envelope: true, BodyStructure: &imap.FetchItemBodyStructure{Extended: true}, RFC822Size: true, InternalDate: true, BodySection: []*imap.FetchItemBodySection{whole}}).Collect()
	if err != nil || len(got) != 1 {
		t.Errorf("%s: FETCH: %d messages, %v", name, len(got), err)
		return nil
	}
	if body := got[0].FindBodySection(whole); !bytes.HasSuffix(body, []byte(text)) {
		t.Errorf("%s: %d bytes came back, not the %d that were sent", name, len(body), len(text))
	}
	for _, command := range []string{"SEARCH TEXT nowhere", "SORT (SUBJECT FROM DATE) UTF-8 ALL", "THREAD REFERENCES UTF-8 ALL", "FETCH * (PREVIEW BODY.PEEK[HEADER.FIELDS (SUBJECT)] BODY.PEEK[1] BODY.PEEK[1.1])"} {
		tagged(t, login(t, h, "alice"), command, "OK")
	}
	return got[0]
}

// Parts nest and are counted to a limit; what is beyond is one opaque part, and the bytes
// stay what they are.
func TestAttack58Parts(t *testing.T) {
	h := house.New(t, house.Options{})
	h.Account(t, "alice")
	nest := func(depth int) string {
		var b strings.Builder
		for n := range depth {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", n, n)
		}
		return b.String() + "\r\ninnermost\r\n"
	}
	for name, text := range map[string]string{
		"multiparts 10,000 deep":    nest(10_000),
		"messages 10,000 deep":      strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 10_000) + "\r\ninnermost\r\n",
		"100,000 parts":             "Content-Type: multipart/mixed; boundary=x\r\n\r\n" + strings.Repeat("--x\r\n\r\n\r\n", 100_000) + "--x--\r\n",
		"the parent's boundary":     "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\na\r\n--x--\r\n--x--\r\n",
		"a boundary that begins so": "Content-Type: multipart/mixed; boundary=xx\r\n\r\n--xx\r\nContent-Type: multipart/mixed; boundary=xxx\r\n\r\n--xxx\r\n\r\na\r\n--xx--\r\n",
		"a boundary of 10 kB":       "Content-Type: multipart/mixed; boundary=" + strings.Repeat("x", 10_000) + "\r\n\r\n--" + strings.Repeat("x", 10_000) + "\r\n\r\na\r\n",
		"an empty boundary":         "Content-Type: multipart/mixed; boundary=\"\"\r\n\r\n--\r\n\r\na\r\n----\r\n",
		"no boundary":               "Content-Type: multipart/mixed\r\n\r\n--\r\n\r\na\r\n",
		"rfc822 in base64":          "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.StdEncoding.EncodeToString([]byte("Subject: x\r\n\r\n")) + "\r\n",
	} {
		bring(t, h, name, text)
	}
	sound(t, h)
}

// Headers are taken within the size of a message; what is made of them is limited.
func TestAttack59Headers(t *testing.T) {
	h := house.New(t, house.Options{})
	h.Account(t, "alice")
	for name, text := range map[string]string{
		"200,000 addresses": "From: a@example.net\r\nTo: " + strings.Repeat("a@example.net,\r\n ", 200_000) + "b@example.net\r\nSubject: x\r\n\r\nbody\r\n",
		"100,000 headers":   strings.Repeat("X-Header: value\r\n", 100_000) + "Subject: x\r\n\r\nbody\r\n",
		"100,000 subjects":  strings.Repeat("Subject: x\r\n", 100_000) + "\r\nbody\r\n",
		"a line of 10 MB":   "Subject: " + strings.Repeat("x", 10<<20) + "\r\n\r\nbody\r\n",
		"10 MB of folds":    "Subject: x\r\n" + strings.Repeat(" \r\n", 3<<20) + "\r\nbody\r\n",
		"nothing but names": strings.Repeat("a:\r\n", 200_000) + "\r\n",
		"no colons":         strings.Repeat("a b c\r\n", 100_000) + "\r\n",
	} {
		steady(t, 32<<20, func() { bring(t, h, name, text) })
	}
	sound(t, h)
}

// Parameters in pieces and encoded words are put together in order, to a limit.
func TestAttack60Pieces(t *testing.T) {
	h := house.New(t, house.Options{})
	h.Account(t, "alice")
	pieces := func(n int, form string) string {
		var b strings.Builder
		b.WriteString("Content-Type: text/plain")
		for i := range n {
			fmt.Fprintf(&b, ";\r\n "+form, i)
		}
		return b.String() + "\r\n\r\nbody\r\n"
	}
	for name, text := range map[string]string{
		"100,000 pieces":       pieces(100_000, "name*%d=x"),
		"pieces with gaps":     "Content-Type: text/plain; name*0=a; name*2=c; name*99999999999999999999=z\r\n\r\nbody\r\n",
		"pieces twice":         "Content-Type: text/plain; name*0=a; name*0=b; name*1*=%zz; name*1=c\r\n\r\nbody\r\n",
		"mixed charsets":       "Content-Type: text/plain; name*0*=utf-8''a; name*1*=latin1''%E4; name*2=c; name=d\r\n\r\nbody\r\n",
		"a charset of nobody":  "Content-Type: text/plain; name*=x-none''%ff%00\r\n\r\nbody\r\n",
		"40,000 encoded words": "Subject: " + strings.Repeat("=?utf-8?q?=C3=BC?=\r\n ", 40_000) + "\r\n\r\nbody\r\n",
		"words without an end": "Subject: " + strings.Repeat("=?utf-8?b?", 100_000) + "\r\n\r\nbody\r\n",
		"words cut in a rune":  "Subject: =?utf-8?q?=C3?= =?utf-8?q?=BC?= =?utf-8?b?w7?= =?x?y?z?=\r\n\r\nbody\r\n",
	} {
		first := bring(t, h, name, text)
		second := ask(t, h, name, text)
		if first != nil && second != nil && fmt.Sprintf("%+v", *first.Envelope) != fmt.Sprintf("%+v", *second.Envelope) {
			t.Errorf("%s: told twice, in two ways", name)
		}
	}
	sound(t, h)
}

// Addresses that end in the middle have a value, and it ends there, too.
func TestAttack61Addresses(t *testing.T) {
	h := house.New(t, house.Options{})
	h.Account(t, "alice")
	for _, field := range []string{
		`a (x\`, `a (`, `"a\`, `"`, "x:;", "x: a@b, ;", ":;", ";", "x: y: z: a@b;;;", "<", "<a", "<a@", "a@b>", "@", "@a,@b:c@d", "<@a,@b:c@d>", "a@b (((((", strings.Repeat("(", 100_000),
		strings.Repeat("\"a\" ", 50_000), strings.Repeat("x:", 50_000), "=?utf-8?q?a=40b?=@c", "a@[", "a@[b\\", "(a)(b)(c)", strings.Repeat(",", 100_000), "\\", "a\\", "<\\>", "\"\\\"@\\",
	} {
		for _, name := range []string{"From", "To", "Sender"} {
			got := bring(t, h, name+": "+field[:min(len(field), 40)], name+": "+field+"\r\nSubject: x\r\n\r\nbody\r\n")
			if got != nil && got.Envelope.Subject != "x" {
				t.Errorf("%s: %.40q: reading went on into the next field: %+v", name, field, got.Envelope)
			}
		}
	}
	sound(t, h)
}

// What a preview cuts is whole, and no charset makes markup of text.
func TestAttack62Previews(t *testing.T) {
	h := house.New(t, house.Options{})
	h.Account(t, "alice")
	for n := range 12 { // the limit falls into each byte of a character
		text := "Content-Type: text/plain; charset=utf-8\r\n\r\n" + strings.Repeat("a", 190+n) + strings.Repeat("\u20ac\U0001f600", 50) + "\r\n"
		bring(t, h, "a preview that is cut", text)
	}
	for charset, body := range map[string]string{
		"utf-8": "\xe2\x82", "x-none": "\xff\xfe<script>", "utf-7": "+ADw-script+AD4-", "iso-2022-jp": "\x1b$B\x1b(B<script>\x1b", "utf-16": "<s", "gb18030": "\x81\x30\x81",
		"hz-gb-2312": "~{<~", "utf-32": "<s>", "us-ascii": "\x80\x81\r\n\x00"[:2], "big5": "\xa1",
	} {
		bring(t, h, charset, "Content-Type: text/plain; charset="+charset+"\r\n\r\n"+body+"\r\n")
	}
	c := login(t, h, "alice")
	for _, line := range tagged(t, c, "FETCH 1:* PREVIEW", "OK") {
		if !bytes.Equal([]byte(line), []byte(strings.ToValidUTF8(line, "?"))) {
			t.Errorf("a preview that is no UTF-8: %q", line)
		}
	}
	sound(t, h)
}

// Transfer encodings that lie are undone as far as that goes, and the same for all who ask.
func TestAttack63Encodings(t *testing.T) {
	h := house.New(t, house.Options{})
	h.Account(t, "alice")
	for name, c := range map[string]struct{ encoding, body, decoded string }{
		"base64 with junk":      {"base64", "aGVs!!bG8=\r\n", "hello"},
		"base64 without an end": {"base64", "aGVsbG8\r\n", "hello"},
		"base64 goes on":        {"base64", "aGVsbG8=\r\naGVsbG8=\r\n", ""},
		"quoted, a lone =":      {"quoted-printable", "a=\r\nb=zz=4\r\n", ""},
		"quoted, an end":        {"quoted-printable", "a=", ""},
		"uuencode":              {"x-uuencode", "begin 644 a\r\n#86)C\r\n`\r\nend\r\n", ""},
		"binary":                {"binary", "a\x80\xff\r\n", "a\x80\xff\r\n"},
		"twice":                 {"base64\r\nContent-Transfer-Encoding: quoted-printable", "aGVsbG8=\r\n", ""},
	} {
		text := "Content-Type: text/plain\r\nContent-Transfer-Encoding: " + c.encoding + "\r\n\r\n" + c.body
		client := login(t, h, "alice")
		appendAll(t, client, text)
		var answers []string
		for range 2 {
			client.Send("t FETCH * BINARY.PEEK[1]\r\n")
			line := client.Line()
			answer := line
			if open := strings.LastIndexByte(line, '{'); open > 0 && strings.HasSuffix(line, "}") {
				size, err := strconv.Atoi(line[open+1 : len(line)-1])
				body := make([]byte, size)
				if _, rerr := io.ReadFull(client.In, body); err != nil || rerr != nil {
					t.Fatal(err, rerr)
				}
				answer = string(body)
			} else if _, quoted, ok := strings.Cut(line, "BINARY[1] \""); ok {
				answer = strings.TrimSuffix(quoted, "\")")
			}
			if !strings.HasPrefix(line, "t ") {
				client.Until("t")
			}
			answers = append(answers, answer)
		}
		if answers[0] != answers[1] {
			t.Errorf("%s: %q and then %q", name, answers[0], answers[1])
		}
		if c.decoded != "" && answers[0] != c.decoded {
			t.Errorf("%s: %q, want %q", name, answers[0], c.decoded)
		}
		ask(t, h, name, text)
	}
	sound(t, h)
}

// Text is made of HTML in one pass, however deep and long its tags are.
func TestAttack65HTML(t *testing.T) {
	h := house.New(t, house.Options{})
	h.Account(t, "alice")
	for name, html := range map[string]string{
		"a million tags": strings.Repeat("<b>", 1_000_000), "an attribute of 10 MB": "<a x=\"" + strings.Repeat("y", 10<<20) + "\">z</a>", "comments": strings.Repeat("<!--", 500_000),
		"half tags": strings.Repeat("<", 1_000_000), "entities": strings.Repeat("&amp;", 500_000), "entities without an end": strings.Repeat("&", 1_000_000), "scripts": strings.Repeat("<script>", 300_000), "styles": strings.Repeat("<style></style", 200_000),
	} {
		steady(t, 32<<20, func() {
			bring(t, h, name, "Content-Type: text/html; charset=utf-8\r\n\r\n"+html+"\r\n")
		})
	}
	sound(t, h)
}

// Fields without sense: the date of arrival stands in, and messages with one id are not
// one.
func TestAttack66Fields(t *testing.T) {
	h := house.New(t, house.Options{})
	h.Account(t, "alice")
	for _, fields := range []string{
		"Date: Thu, 1 Jan 292277026596 00:00:00 +0000", "Date: 31 Feb 2026 25:61:61 +9999", "Date: Mon, 2 Nov 2026 10:00:00", "Date: now", "Date:", "Date: -1", "Date: 1 Jan 0000 00:00:00 +0000",
		"Message-ID: " + strings.Repeat("x", 1<<20), "Message-ID: <>", "Message-ID: <a@b> <c@d>", "Message-ID: <<<<<", "Message-ID: <same@x>", "Message-ID: <same@x>", "Message-ID: <same@x>",
		"References: " + strings.Repeat("<a@b> ", 50_000), "In-Reply-To: <" + strings.Repeat("a", 1<<18), "Received: " + strings.Repeat("(", 100_000), strings.Repeat("Received: from a by b; now\r\n", 90) + "X: y",
	} {
		got := bring(t, h, fields[:min(len(fields), 40)], fields+"\r\nSubject: x\r\n\r\nbody\r\n")
		if got != nil && (time.Since(got.InternalDate) > time.Hour || time.Since(got.InternalDate) < -time.Hour) {
			t.Errorf("%.40q: it came %v", fields, got.InternalDate)
		}
	}
	c := login(t, h, "alice")
	n := len(tagged(t, c, "FETCH 1:* UID", "OK"))
	for _, command := range []string{"SORT (DATE) UTF-8 ALL", "SORT (ARRIVAL) UTF-8 ALL", "THREAD REFERENCES UTF-8 ALL"} {
		got := tagged(t, c, command, "OK")
		numbers := strings.FieldsFunc(strings.Join(got, " "), func(r rune) bool { return r < '0' || r > '9' })
		if len(numbers) != n {
			t.Errorf("%s names %d of %d messages", command, len(numbers), n)
		}
	}
	sound(t, h)
}
