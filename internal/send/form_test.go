package send

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
)

const (
	eightMail   = "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n.é\r\n"
	eightSeven  = "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n.=C3=A9\r\n"
	binaryMail  = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: binary\r\n\r\n--b\r\n\r\né\r\n--b\r\nContent-Type: a/b\r\nContent-Transfer-Encoding: binary\r\n\r\n\x00\n\r\n--b--\r\n"
	binaryEight = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 8bit\r\n\r\n--b\r\n\r\né\r\n--b\r\nContent-Type: a/b\r\nContent-Transfer-Encoding: base64\r\n\r\nAAo=\r\n--b--\r\n"
	binarySeven = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 7bit\r\n\r\n--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=C3=A9\r\n--b\r\nContent-Type: a/b\r\nContent-Transfer-Encoding: base64\r\n\r\nAAo=\r\n--b--\r\n"
	signedMail  = "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\né\r\n--b\r\n\r\nsignature\r\n--b--\r\n"
)

// eight is text with 8-bit bytes in it.
func eight(s string) Message {
	m := text(s)
	m.Has8Bit = true
	return m
}

// A host gets the message as it is if it can take it, converted if it cannot, and
// the size it is told is the size it gets.
func TestConversion(t *testing.T) {
	for _, tc := range []struct {
		name   string
		ext    []string
		binary bool
		in     string
		want   string
		out    string // what arrives, if the want is 250
		mail   string
	}{
		{"8-bit as it is", []string{"8BITMIME", "SIZE"}, false, eightMail, "250 2.0.0", eightMail, "MAIL FROM:<s@martlet.test> SIZE=" + fmt.Sprint(len(eightMail)) + " BODY=8BITMIME"},
		{"8-bit to 7-bit", []string{"PIPELINING"}, false, eightMail, "250 2.0.0", eightSeven, "MAIL FROM:<s@martlet.test>"},
		{"size of the result", []string{"SIZE 1000"}, false, eightMail, "250 2.0.0", eightSeven, "MAIL FROM:<s@martlet.test> SIZE=" + fmt.Sprint(len(eightSeven))},
		{"too large only then", []string{"SIZE 120"}, false, eightMail, "552 5.3.4", "", ""},
		{"signed", []string{"SIZE"}, false, signedMail, "554 5.6.3", "", ""},
		{"8-bit header", []string{"SIZE"}, false, "Subject: é\r\n\r\ne\r\n", "554 5.6.3", "", ""},
		{"binary as it is", []string{"BINARYMIME", "CHUNKING"}, true, binaryMail, "250 2.0.0", binaryMail, "MAIL FROM:<s@martlet.test> BODY=BINARYMIME"},
		{"no CHUNKING", []string{"BINARYMIME", "8BITMIME"}, true, binaryMail, "250 2.0.0", binaryEight, "MAIL FROM:<s@martlet.test> BODY=8BITMIME"},
		{"binary to 8-bit", []string{"8BITMIME", "SIZE"}, true, binaryMail, "250 2.0.0", binaryEight, "MAIL FROM:<s@martlet.test> SIZE=" + fmt.Sprint(len(binaryEight)) + " BODY=8BITMIME"},
		{"binary to 7-bit", nil, true, binaryMail, "250 2.0.0", binarySeven, "MAIL FROM:<s@martlet.test>"},
		{"binary, signed", []string{"8BITMIME"}, true, strings.ReplaceAll(signedMail, "é", "\x00"), "554 5.6.3", "", ""},
		{"binary in name only", nil, true, "Subject: x\r\n\r\nplain\r\n", "250 2.0.0", "Subject: x\r\n\r\nplain\r\n", "MAIL FROM:<s@martlet.test>"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := &peer{ext: tc.ext}
			c := courier(t, peers(t, p), oneHost, nil)
			env := envelope("s@martlet.test", "a@example.org")
			env.Binary = tc.binary
			msg := text(tc.in)
			msg.Has8Bit = strings.Contains(tc.in, "é")
			got := c.Send(t.Context(), env, msg, nil)
			if shorts(got) != tc.want {
				t.Errorf("%+v", got)
			}
			if s := strings.Join(p.commands("MAIL"), "; "); s != tc.mail {
				t.Errorf("%s, want %s", s, tc.mail)
			}
			if tc.out != "" && (len(p.mails) != 1 || string(p.mails[0]) != tc.out) {
				t.Errorf("%q, want %q", p.mails, tc.out)
			}
			if tc.out == "" && len(p.mails) != 0 {
				t.Errorf("%q was sent", p.mails)
			}
		})
	}
}

// Conversion is for one host: the next one may get the message as it is. The
// message is parsed and measured once.
func TestConversionPerHost(t *testing.T) {
	later := answering("451 4.3.0 later")
	p1 := &peer{ext: []string{"SIZE", "LIMITS RCPTMAX=1"}, answers: map[string]func(int, string) string{".": func(n int, _ string) string {
		if n == 3 {
			return later(n, "")
		}
		return ""
	}}}
	p2 := &peer{ext: []string{"8BITMIME"}}
	c := courier(t, peers(t, p1, p2), twoHosts, nil)
	msg, opened := eight(eightMail), 0
	open := msg.Open
	msg.Open = func(ctx context.Context) (io.ReadCloser, error) { opened++; return open(ctx) }
	got := c.Send(t.Context(), envelope("", "a@example.org", "b@example.org", "c@example.org"), msg, nil)
	if s := shorts(got); s != "250 2.0.0, 250 2.0.0, 250 2.0.0" {
		t.Error(s)
	}
	if len(p1.mails) != 2 || string(p1.mails[1]) != eightSeven || len(p2.mails) != 1 || string(p2.mails[0]) != eightMail {
		t.Errorf("%q, %q", p1.mails, p2.mails)
	}
	if opened != 6 {
		t.Errorf("opened %d times", opened)
	}
}

// A message that cannot be read, at whatever reading, is a fault of ours: nothing is
// marked as whole, and no other host is asked.
func TestConversionUnreadable(t *testing.T) {
	for n, name := range []string{"parsed", "measured", "sent"} {
		t.Run(name, func(t *testing.T) {
			p1, p2 := &peer{ext: []string{"SIZE"}}, &peer{}
			c := courier(t, peers(t, p1, p2), twoHosts, nil)
			for kind, bad := range []io.Reader{io.MultiReader(strings.NewReader(eightMail[:100]), failing{}), strings.NewReader(eightMail[:111])} {
				if kind == 1 && n == 0 {
					continue // a message that is shorter from the start is another message
				}
				msg, opened := eight(eightMail), 0
				msg.Open = func(context.Context) (io.ReadCloser, error) {
					if opened++; opened == n+1 {
						return io.NopCloser(bad), nil
					}
					return io.NopCloser(strings.NewReader(eightMail)), nil
				}
				r := c.Send(t.Context(), envelope("", "a@example.org"), msg, nil)[0]
				if short(r) != "451 4.3.0" || r.Host != "" || strings.Contains(r.Text, "disk") {
					t.Errorf("%+v", r)
				}
			}
			if m, _ := p1.got(); m != 0 || p1.count(".") != 0 {
				t.Error("the end was marked")
			}
			if _, conns := p2.got(); conns != 0 {
				t.Error("another host was asked")
			}
		})
	}
	env := mail.Envelope{To: []mail.Recipient{{Address: address("a@example.org")}}}
	c := courier(t, peers(t, &peer{}), oneHost, nil)
	msg := eight(eightMail)
	msg.Open = func(context.Context) (io.ReadCloser, error) { return nil, errDisk }
	if r := c.Send(t.Context(), env, msg, nil)[0]; short(r) != "451 4.3.0" {
		t.Errorf("%+v", r)
	}
}
