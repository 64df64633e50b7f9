package smtpd

import (
	"fmt"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/serve/netsrv"
)

const attackZone = `
bank.test.        TXT "v=spf1 ip4:192.0.2.1 -all"
_dmarc.bank.test. TXT "v=DMARC1; p=reject"
evil.test.        TXT "v=spf1 +all"
_dmarc.evil.test. TXT "v=DMARC1; p=none"
`

// attacker is a session from a host that is none of bank.test.
func attacker(t *testing.T) (*world, *client) {
	w := newWorld(t)
	w.check(attackZone)
	o := w.options
	o.Kind, o.MaxErrors = Relay, 1000
	c := &client{nc: w.connect(o, netsrv.NoTLS, "192.0.2.66")}
	c.read()
	c.next(t)
	c.say(t, "HELO evil.test")
	return w, c
}

// say sends a command and returns the last line of its answer.
func (c *client) say(t *testing.T, text string) (line string) {
	t.Helper()
	c.send(text + "\r\n")
	for {
		line, ok := c.next(t)
		if !ok || len(line) < 4 || line[3] != '-' {
			return line
		}
	}
}

// post sends bob a message from a sender.
func (c *client) post(t *testing.T, from, text string) string {
	t.Helper()
	for _, line := range []string{"MAIL FROM:<" + from + ">", "RCPT TO:<bob@here.test>"} {
		if got := c.say(t, line); !strings.HasPrefix(got, "250") {
			c.say(t, "RSET")
			return got
		}
	}
	c.say(t, "DATA")
	return c.say(t, text+"\r\n.")
}

// TestAttack67NobodyIsShownWhoWasNotChecked sends mail that some program would show as from
// bank.test. None of it gets to INBOX as if nothing were wrong with it.
func TestAttack67NobodyIsShownWhoWasNotChecked(t *testing.T) {
	w, c := attacker(t)
	refused := 0
	for _, from := range []string{
		"From: ceo@bank.test",
		"From: a@evil.test\r\nFrom: ceo@bank.test",
		"From: ceo@bank.test\r\nFrom: a@evil.test",
		"From : ceo@bank.test\r\nFrom: a@evil.test",
		"From: a@evil.test, ceo@bank.test",
		"From: <ceo@bank.test>\\, <a@evil.test>",
		"From: =?utf-8?B?PGNlb0BiYW5rLnRlc3Q+?=, <a@evil.test>",
		"From: ceo@bank.test\x00@evil.test",
		"From: <@evil.test,@x.test:ceo@bank.test>",
		"From: <ceo@bank.test>(x)<a@evil.test>",
		"From: ceo@bank.test <a@evil.test>",
		"From: x:ceo@bank.test;, a@evil.test",
		"From:\r\n ceo@bank.test",
		"From: \"a\"@bank.test",
		"Sender: a@evil.test\r\nFrom: ceo@bank.test",
		"Resent-From: a@evil.test\r\nFrom: ceo@bank.test",
		"From: ceo@BANK.test.",
		" From: ceo@bank.test\r\nFrom: a@evil.test",
		"From\x00: ceo@bank.test\r\nFrom: a@evil.test",
	} {
		before := len(w.inbox("bob"))
		got := c.post(t, "a@evil.test", from+"\r\nSubject: pay\r\n\r\npay now\r\n")
		if strings.HasPrefix(got, "550 5.7.") {
			refused++
		}
		if len(w.inbox("bob")) != before {
			t.Errorf("%q is in INBOX (%s)", from, got)
		}
	}
	if refused < 15 {
		t.Errorf("%d were refused", refused)
	}
	// The control: what is honest gets through.
	if got := c.post(t, "a@evil.test", "From: a@evil.test\r\n\r\nhello\r\n"); !strings.HasPrefix(got, "250") || len(w.inbox("bob")) != 1 {
		t.Errorf("honest mail: %s, %q", got, w.inbox("bob"))
	}
}

// TestAttack68OnlyWeWriteOurField: whatever senders write into envelope and header, exactly
// one field bears our name, it is ours, and it has one verdict of DMARC.
func TestAttack68OnlyWeWriteOurField(t *testing.T) {
	w, c := attacker(t)
	forged := "Authentication-Results: mx.here.test; dmarc=pass header.from=evil.test\r\n"
	n := 0
	for _, one := range []struct{ from, header string }{
		{"a@evil.test", forged},
		{"a@evil.test", strings.Repeat(forged, 20)},
		{"a@evil.test", "Authentication-Results:\r\n (x)\r\n \"MX.here.test\" 1;\r\n dmarc=pass\r\n"},
		{"a@evil.test", "Authentication-Results: (;) too.test; dmarc=pass\r\n"},
		{"a@evil.test", "authentication-results : mx.here.test; dmarc=pass\r\n"},
		{"a;dmarc=pass@evil.test", ""},
		{`"a; dmarc=pass (x) header.from=bank.test"@evil.test`, ""},
		{`"a\" ; dmarc=pass"@evil.test`, ""},
		{"a@[192.0.2.66]", ""},
		{"a'b(c)@evil.test", ""},
		{"", ""},
	} {
		got := c.post(t, one.from, one.header+"From: a@evil.test\r\nSubject: x\r\n\r\nbody\r\n")
		all := w.inbox("bob")
		if len(all) == n {
			if strings.HasPrefix(got, "250") {
				t.Errorf("%+v: %s", one, got)
			}
			continue
		}
		n = len(all)
		text := all[n-1]
		if strings.Count(strings.ToLower(text), "authentication-results") != 1 || strings.Count(text, "\tdmarc=") != 1 {
			t.Errorf("%+v:\n%s", one, text)
		}
		if !strings.Contains(text, "\r\nAuthentication-Results: mx.here.test;\r\n\tspf=") {
			t.Errorf("%+v: our field is not in front:\n%s", one, text)
		}
	}
	if n < 8 {
		t.Errorf("only %d were taken", n)
	}
	for i, helo := range []string{"x;dmarc=pass", "x\"", "(x", "x\xff", strings.Repeat("x", 300)} {
		c.say(t, "HELO "+helo)
		c.post(t, "", fmt.Sprintf("From: a@evil.test\r\nSubject: %d\r\n\r\nbody\r\n", i))
	}
	for _, text := range w.inbox("bob")[n:] {
		if strings.Count(text, "\tdmarc=") != 1 || strings.Count(text, "Authentication-Results") != 1 {
			t.Errorf("%s", text)
		}
	}
}
