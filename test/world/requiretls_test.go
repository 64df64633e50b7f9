package main

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net/textproto"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/test/world/lab"
)

// Postfix of Debian does not know REQUIRETLS: a message that asks for it comes back and says
// so, without its body (RFC 8689, 4.2.1 and 5). The same message goes there without.
func TestRequireTLS(t *testing.T) {
	w := town(t)
	for token, parameter := range map[string]string{"require-tls": " REQUIRETLS", "require-nothing": ""} {
		conn, err := w.Client.Dial(w.Martlet.IPv4.String() + ":587")
		must(t, err)
		defer conn.Close()
		c := textproto.NewConn(conn)
		say := func(code int, line string) {
			t.Helper()
			if line != "" {
				must(t, c.PrintfLine("%s", line))
			}
			if _, text, err := c.ReadResponse(code); err != nil {
				t.Fatalf("%s: %v %s", line, err, text)
			}
		}
		say(220, "")
		say(250, "EHLO "+w.Client.Name)
		say(220, "STARTTLS")
		c = textproto.NewConn(tls.Client(conn, &tls.Config{InsecureSkipVerify: true}))
		say(250, "EHLO "+w.Client.Name)
		say(235, "AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00"+alice+"\x00"+lab.Password)))
		say(250, fmt.Sprintf("MAIL FROM:<%s> RET=FULL%s", alice, parameter))
		say(250, "RCPT TO:<bob@postfix.example>")
		say(354, "DATA")
		say(250, lab.Letter(alice, "bob@postfix.example", token)+"The secret of "+token+".\r\n.")
		c.Close()
	}
	report, err := w.Martlet.Await("alice", "INBOX", "5.7.30")
	must(t, err)
	if !strings.Contains(report, "require-tls") || strings.Contains(report, "The secret of") {
		t.Error(report)
	}
	if _, err := w.Postfix.Await("bob", "require-nothing"); err != nil {
		t.Error(err)
	}
	if strings.Contains(strings.Join(w.Postfix.Mail("bob"), ""), "The secret of require-tls.") {
		t.Error("it went there all the same")
	}
}
