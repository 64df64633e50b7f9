package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/test/world/lab"
)

// Nobody on the net can have ours send mail to third parties, however the address is
// written.
func TestNoOpenRelay(t *testing.T) {
	w := town(t)
	server := w.Martlet.IPv4.String() + ":25"
	for _, to := range []string{
		"bob@postfix.example", "bob%postfix.example@martlet.example", "bob%postfix.example@[198.20.10.10]", "@martlet.example:bob@postfix.example",
		"@mx.martlet.example,@martlet.example:bob@postfix.example", `"bob@postfix.example"@martlet.example`, `"bob%postfix.example"@martlet.example`,
		"postfix.example!bob@martlet.example", "bob@postfix.example@martlet.example", "bob@[198.20.20.10]", "bob@[IPv6:3ffe:db8:14::10]", "bob@postfix.example.",
		`"bob@postfix.example"`, "bob%postfix.example", "postfix.example!bob", "bob@martlet.example@postfix.example", `bob@postfix.example\0@martlet.example`,
	} {
		for _, from := range []string{"mallory@evil.example", "", "alice@martlet.example", "bob@postfix.example", "mallory@[198.20.10.10]"} {
			c, err := w.Attacker.Dial(server)
			must(t, err)
			err = lab.Talk(c, "EHLO mx.evil.example", "MAIL FROM:<"+from+">", "RCPT TO:<"+to+">")
			c.Close()
			var no *lab.Refused
			if !errors.As(err, &no) || no.Code < 500 {
				t.Errorf("from <%s> to <%s>: %v", from, to, err)
			}
		}
	}
	// A relay that refuses all would pass, too.
	must(t, w.Attacker.Send(server, "mallory@evil.example", "bob@martlet.example", lab.Letter("mallory@evil.example", "bob@martlet.example", "relay-control")))
}

// Mail for unknown people is refused at once, so that nobody gets a report of what he has
// not sent.
func TestNoBackscatter(t *testing.T) {
	w := town(t)
	for _, to := range []string{"nobody@martlet.example", "alice.b@martlet.example", "root@martlet.example"} {
		err := w.Attacker.Send(w.Martlet.IPv4.String()+":25", "bob@postfix.example", to, lab.Letter("bob@postfix.example", to, "backscatter"))
		var no *lab.Refused
		if !errors.As(err, &no) || no.Code != 550 || !strings.HasPrefix(no.After, "RCPT") {
			t.Errorf("%s: %v", to, err)
		}
	}
	out, err := w.Martlet.Do("queue", "list", "--json")
	must(t, err)
	if strings.Contains(out, "bob@postfix.example") {
		t.Errorf("a report is on its way:\n%s", out)
	}
	if got := fmt.Sprint(w.Postfix.Mail("bob")); strings.Contains(got, "backscatter") {
		t.Errorf("a report has come:\n%s", got)
	}
}
