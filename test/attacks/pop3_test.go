package attacks

import (
	"fmt"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/serve/pop3d"
	"github.com/martlet-mail/martlet/test/house"
)

// lines reads a long answer of POP3.
func lines(c *house.Client) (all []string) {
	for {
		line := c.Line()
		if line == "." || c.Over {
			return all
		}
		all = append(all, line)
	}
}

// POP3 is asked for more than there is, for what has gone, and for ever.
func TestAttack53POP3(t *testing.T) {
	h := house.New(t, house.Options{POP3: func(o *pop3d.Options) { o.MaxErrors = 50 }})
	h.Account(t, "alice")
	imap := login(t, h, "alice")
	appendAll(t, imap, "Subject: one\r\n\r\nbody\r\n", "Subject: two\r\n\r\n.dot\r\n", "Subject: three\r\n\r\nbody\r\n")
	enter := func() *house.Client {
		c := h.Dial(t, "pop3")
		c.Reply()
		converse(t, c, exchange{"AUTH PLAIN " + plain("alice@example.org", house.Password), "+OK"})
		return c
	}
	c := enter()
	for _, n := range []string{"4294967295", "99999999999999999999"} {
		got := c.Ask("TOP 1 " + n)
		if strings.HasPrefix(got, "+OK") {
			lines(c)
		}
	}
	for _, line := range []string{"TOP 1 -1", "TOP 4294967296 1", "RETR 0", "RETR -1", "RETR 4294967297", "DELE 18446744073709551617", "LIST a", "UIDL 1 2", "RETR", "DELE"} {
		converse(t, c, exchange{line, "-ERR"})
	}
	steady(t, 2<<20, func() {
		for range 2000 {
			converse(t, c, exchange{"UIDL", "+OK"})
			if got := lines(c); len(got) != 3 {
				t.Fatalf("UIDL: %v", got)
			}
		}
	})
	// Another session holds the lock; a message that goes meanwhile is an error, not a mix-up.
	other := h.Dial(t, "pop3")
	other.Reply()
	converse(t, other, exchange{"AUTH PLAIN " + plain("alice@example.org", house.Password), "-ERR [IN-USE]"})
	tagged(t, imap, "STORE 1 +FLAGS (\\Deleted)", "OK")
	tagged(t, imap, "EXPUNGE", "OK")
	switch got := c.Ask("RETR 1"); {
	case strings.HasPrefix(got, "+OK"):
		if all := lines(c); all[0] != "Subject: one" {
			t.Errorf("message 1 is now %v", all)
		}
	case !strings.HasPrefix(got, "-ERR"):
		t.Errorf("a message that has gone: %s", got)
	}
	converse(t, c, exchange{"RETR 2", "+OK"})
	if all := lines(c); fmt.Sprint(all) != "[Subject: two  ..dot]" {
		t.Errorf("message 2 is %q", all)
	}
	converse(t, c, exchange{"QUIT", "+OK"})
	c = enter()
	wrong := 0
	for ; wrong < 1000 && !c.Over; wrong++ {
		c.Ask("XYZZY")
	}
	if wrong == 1000 {
		t.Error("wrong commands are answered for ever")
	}
	sound(t, h)
}
