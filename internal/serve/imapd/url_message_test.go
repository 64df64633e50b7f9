package imapd

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

const wrapped = "Subject: inner\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\nprologue\r\n" +
	"--i\r\nContent-Type: text/plain\r\ncontent-transfer-encoding:\r\n base64\r\nContent-Language: en\r\n\r\nb25lDQp0d28NCg==\r\n\r\n\r\n" +
	"--i\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\na=\r\nb=0D=0Ac=3D\r\n" +
	"--i\r\nContent-Type: text/plain\r\n\r\nas it was\r\n" +
	"--i\r\nContent-Type: message/rfc822\r\n\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: BASE64\r\n\r\nAAEC\r\n" +
	"--i\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: x-odd\r\n\r\n????\r\n" +
	"--i--\r\nepilogue"

var encodingItem = regexp.MustCompile(`"(7bit|binary|base64|quoted-printable|x-odd)"`)

// TestUnwrap: a message in a message is given with nothing in it encoded, and the
// structure told of it is that of what is given.
func TestUnwrap(t *testing.T) {
	for name, inner := range map[string]string{
		"many": wrapped, "one": "Content-Transfer-Encoding: base64\r\n\r\nb25lDQp0d28=", "none": "Subject: x\r\n\r\ntext\r\n", "empty": "",
	} {
		w := newWorld(t)
		w.deliver("INBOX", []byte("Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nContent-Type: message/rfc822\r\n\r\n"+inner+"\r\n--o--\r\n"), 0)
		u, err := imap.ParseURL("/INBOX/;UID=1/;SECTION=1")
		if err != nil {
			t.Fatal(err)
		}
		p, err := follow(w.ctx, &place{owner{acct: w.alice}, "INBOX"}, &u)
		if err != nil {
			t.Fatal(err)
		}
		d, err := p.decode(w.ctx)
		if err != nil {
			t.Fatal(err)
		}
		r, err := p.plain(w.ctx)
		if err != nil {
			t.Fatal(err)
		}
		var plain bytes.Buffer
		plain.ReadFrom(r)
		if d.whole != int64(plain.Len()) || d.lines != int64(bytes.Count(plain.Bytes(), []byte("\n"))) || d.nul != (name == "many") {
			t.Errorf("%s: said to have %+v, has %d bytes in %d lines", name, d, plain.Len(), bytes.Count(plain.Bytes(), []byte("\n")))
		}
		parsed, err := w.st.Receive(w.ctx, bytes.NewReader(plain.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		before := partStructure(p.ld.facts.BodyStructure, u.Part.Path)
		e := elements(d.structure(before, p))
		if len(e) <= atBody+1 {
			t.Fatalf("%s: %s", name, e)
		}
		// Sizes are those of what is given, encodings those that were.
		got, want := encodingItem.ReplaceAllString(string(e[atBody]), ""), encodingItem.ReplaceAllString(string(parsed.Message().BodyStructure), "")
		if got != want || string(e[atSize]) != fmt.Sprint(plain.Len()) || string(e[atBody+1]) != fmt.Sprint(d.lines) {
			t.Errorf("%s:\n%s\nwant\n%s", name, e, want)
		}
		had := encodingItem.FindAllString(string(before), -1)
		if got := encodingItem.FindAllString(string(bytes.Join(e, []byte(" "))), -1); !slices.Equal(got, had) {
			t.Errorf("%s: the encodings are %q, were %q", name, got, had)
		}
		if name == "none" && plain.String() != inner {
			t.Errorf("%q", plain.String())
		}
		if name == "many" && strings.Contains(strings.ToLower(plain.String()), "base64") {
			t.Errorf("%q", plain.String())
		}
	}
}

// TestUnwrapLeavesSigned: what a signature covers is not touched.
func TestUnwrapLeavesSigned(t *testing.T) {
	w := newWorld(t)
	inner := "Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\nContent-Transfer-Encoding: base64\r\n\r\nb25l\r\n--s\r\n\r\nsig\r\n--s--\r\n"
	w.deliver("INBOX", []byte("Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nContent-Type: message/rfc822\r\n\r\n"+inner+"\r\n--o--\r\n"), 0)
	c := w.login("A", "")
	url := signed(t, c, "imap://alice@example.org/INBOX/;uid=1/;section=1;urlauth=anonymous")
	lines, _ := c.command(t, "URLFETCH ("+url+" BINARY)")
	if got := strings.Join(lines[1:], "\r\n"); got != inner+")" {
		t.Errorf("%q", got)
	}
}
