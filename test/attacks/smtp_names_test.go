package attacks

import (
	"crypto/tls"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/serve/netsrv"
	"github.com/martlet-mail/martlet/internal/serve/smtpd"
	"github.com/martlet-mail/martlet/test/house"
)

// lenient makes the house forgive any number of mistakes.
func lenient(o *smtpd.Options) { o.MaxErrors, o.MaxFailures = 1<<30, 1<<30 }

// Odd names in SNI and HELO are refused or ignored, and quoted in the log.
func TestAttack21Names(t *testing.T) {
	var log house.Log
	h := house.New(t, house.Options{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	for _, name := range []string{`a\`, strings.Repeat("a", 10_000), "a\nb", "a\x00b", "${run{id}}", "", "\xff"} {
		c := h.Dial(t, "smtp")
		c.Reply()
		if got := c.Ask("EHLO " + name); strings.HasPrefix(got, "250") && name != "${run{id}}" { // no more than a word
			t.Errorf("EHLO %.20q: %s", name, got)
		}
		c = h.Dial(t, "smtp")
		c.Reply()
		converse(t, c, exchange{"EHLO x", "250"}, exchange{"STARTTLS", "220"})
		secure := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true, ServerName: name})
		_ = secure.Handshake() // refused or not: the next connection is what counts
	}
	h.Account(t, "alice")
	c := begin(t, h, "smtp")
	converse(t, c, exchange{"Subject: x\r\n\r\n.", "250"})
	if strings.Contains(log.String(), "\x00") || strings.Contains(log.String(), "\xff") {
		t.Error("the log has what peers wrote as they wrote it")
	}
	sound(t, h)
}

// xtext hides no NUL, and no line end.
func TestAttack22XText(t *testing.T) {
	h := house.New(t, house.Options{SMTP: lenient})
	h.Account(t, "alice")
	c := hello(t, h, "smtp")
	for _, id := range []string{"+00", "a+00b", "+0D+0A", "+", "+0", "+zz", "+0a", "a=b", "+7F", "\x01"} {
		converse(t, c, exchange{"MAIL FROM:<x@example.net> ENVID=" + id, "50"})
	}
	converse(t, c, exchange{"MAIL FROM:<x@example.net> ENVID=a+2Bb", "250"})
	for _, id := range []string{"rfc822;a+00b", "rfc822;+0D+0AX: y", "rfc822;", ";a", "rfc822", "rfc822;+zz", "rfc 822;a"} {
		converse(t, c, exchange{"RCPT TO:<alice@example.org> ORCPT=" + id, "501"})
	}
	sound(t, h)
}

// Bytes beyond ASCII need SMTPUTF8, and must be UTF-8 then.
func TestAttack23UTF8(t *testing.T) {
	h := house.New(t, house.Options{SMTP: lenient})
	h.Account(t, "alice")
	c := hello(t, h, "smtp")
	for _, name := range []string{"ü@example.net", "\xff@example.net", "\xc0\xae@example.net", "\xed\xa0\x80@example.net", "a@\xff.example", "\xf8\x88\x80\x80\x80@example.net"} {
		converse(t, c, exchange{"MAIL FROM:<" + name + ">", "55"})
		if got := c.Ask("VRFY " + name); got != c.Ask("VRFY nobody@example.org") && !strings.HasPrefix(got, "5") {
			t.Errorf("VRFY %q: %s", name, got)
		}
		if !strings.HasPrefix(name, "ü") {
			converse(t, c, exchange{"MAIL FROM:<" + name + "> SMTPUTF8", "5"})
		}
	}
	c = hello(t, h, "smtp")
	converse(t, c, exchange{"MAIL FROM:<ü@example.net> SMTPUTF8", "250"}, exchange{"RCPT TO:<\xff@example.org>", "5"}, exchange{"RCPT TO:<аlice@example.org>", "550"}) // with a Cyrillic а
	sound(t, h)
}

// An AUTH exchange costs little, whatever is in it, and others log in meanwhile.
func TestAttack25AUTH(t *testing.T) {
	h := house.New(t, house.Options{SMTP: lenient})
	h.Account(t, "alice")
	c := hello(t, h, "submission")
	before := heap()
	for range 500 {
		converse(t, c, exchange{"AUTH PLAIN", "334"}, exchange{"*", "501"}, exchange{"AUTH PLAIN ====", "501"}, exchange{"AUTH LOGIN", "334"}, exchange{"!!!", "501"}, exchange{"AUTH XYZZY", "504"})
	}
	converse(t, c, exchange{"AUTH PLAIN", "334"})
	c.Send(strings.Repeat("A", 10<<20) + "\r\n")
	if got := c.Reply(); !strings.HasPrefix(got, "5") && !strings.HasPrefix(got, "421") {
		t.Errorf("a response of 10 MB: %s", got)
	}
	if grown := int64(heap()) - int64(before); grown > 4<<20 {
		t.Errorf("the server holds %d bytes more", grown)
	}
	other := hello(t, h, "submission")
	converse(t, other, exchange{"AUTH PLAIN " + plain("alice@example.org", house.Password), "235"})
	sound(t, h)
}

// Without TLS there is no login, and none is offered.
func TestAttack26AUTHBeforeTLS(t *testing.T) {
	h := stranger(t)
	h.Account(t, "alice")
	c := h.Dial(t, "submission")
	c.Reply()
	c.Send("EHLO x\r\n")
	for {
		line := c.Line()
		if strings.Contains(line, "AUTH") {
			t.Errorf("offered: %s", line)
		}
		if line == "" || line[3] == ' ' {
			break
		}
	}
	converse(t, c, exchange{"AUTH PLAIN " + plain("alice@example.org", house.Password), "538"}, exchange{"MAIL FROM:<alice@example.org>", "530"})
	imap := h.Dial(t, "imap")
	if greeting := imap.Line(); strings.Contains(greeting, "AUTH=") || !strings.Contains(greeting, "LOGINDISABLED") {
		t.Errorf("IMAP greets: %s", greeting)
	}
	if _, got := imap.Tagged("a", "LOGIN alice@example.org \""+house.Password+"\""); !strings.HasPrefix(got, "a NO [PRIVACYREQUIRED]") {
		t.Errorf("IMAP: %s", got)
	}
	pop := h.Dial(t, "pop3")
	pop.Reply()
	converse(t, pop, exchange{"USER alice@example.org", "-ERR"}, exchange{"AUTH PLAIN " + plain("alice@example.org", house.Password), "-ERR"})
	sound(t, h)
}

// Who has logged in sends under addresses of his own.
func TestAttack27Spoofing(t *testing.T) {
	h := house.New(t, house.Options{SMTP: func(o *smtpd.Options) { o.CheckFrom = true }})
	bob := h.Account(t, "bob")
	h.Account(t, "alice")
	c := hello(t, h, "submission")
	converse(t, c, exchange{"AUTH PLAIN " + plain("alice@example.org", house.Password), "235"})
	for _, from := range []string{"bob@example.org", "x@example.net", "nobody@example.org", "@example.org:bob@example.org", "postmaster@example.org"} {
		converse(t, c, exchange{"MAIL FROM:<" + from + ">", "550 5.7.1"})
	}
	for _, fields := range []string{
		"From: bob@example.org", "From: alice@example.org\r\nFrom: bob@example.org", "from : bob@example.org", "From:\r\n bob@example.org",
		"From: alice@example.org, bob@example.org", "From: alice@example.org\r\nSender: bob@example.org", "From: x: bob@example.org;",
		"From: (alice@example.org) bob@example.org", "From: \"alice@example.org\" <bob@example.org>", "From: undisclosed:;", "X: y",
		"From: =?utf-8?q?alice=40example.org?= <bob@example.org>", "From: <@example.org:bob@example.org>", "From: alice@example.org\x00 <bob@example.org>",
	} {
		converse(t, c, exchange{"MAIL FROM:<alice@example.org>", "250"}, exchange{"RCPT TO:<bob@example.org>", "250"}, exchange{"DATA", "354"})
		if got := c.Ask(fields + "\r\nSubject: x\r\n\r\nx\r\n."); !strings.HasPrefix(got, "5") {
			t.Errorf("%q: %s", fields, got)
		}
		converse(t, c, exchange{"RSET", "250"})
	}
	if n := count(t, h, bob); n != 0 {
		t.Errorf("%d messages came through", n)
	}
	sound(t, h)
}

// What cannot be delivered is refused while the sender is there to hear it.
func TestAttack28Backscatter(t *testing.T) {
	h := house.New(t, house.Options{})
	h.Account(t, "alice")
	c := hello(t, h, "smtp")
	converse(t, c, exchange{"MAIL FROM:<victim@example.net>", "250"}, exchange{"RCPT TO:<nobody@example.org>", "550"})
	c = hello(t, h, "smtp")
	converse(t, c, exchange{"MAIL FROM:<victim@example.net> SIZE=2000000000", "552"})
	converse(t, c, exchange{"MAIL FROM:<victim@example.net>", "250"}, exchange{"RCPT TO:<alice@example.org>", "250"}, exchange{"RCPT TO:<nobody@example.org>", "550"}, exchange{"DATA", "354"}, exchange{"Subject: x\r\n\r\n.", "250"})
	counted, err := h.Queue.Count(t.Context())
	if err != nil || counted.Messages != 0 {
		t.Errorf("%d messages wait for somebody, %v", counted.Messages, err)
	}
	sound(t, h)
}

// Mail that has gone in a circle is refused.
func TestAttack29Loops(t *testing.T) {
	h := house.New(t, house.Options{})
	alice := h.Account(t, "alice")
	for _, road := range roads {
		c := begin(t, h, road)
		got := c.Ask(strings.Repeat("Received: from a.example by b.example; Mon, 2 Nov 2026 10:00:00 +0000\r\n", 101) + "From: alice@example.org\r\n\r\n.")
		if !strings.HasPrefix(got, "554 5.4.6") {
			t.Errorf("%s: %s", road, got)
		}
	}
	if n := count(t, h, alice); n != 0 {
		t.Errorf("%d messages", n)
	}
	sound(t, h)
}

// Who sends a byte now and then is cut off by an overall time, in the middle of a message
// too; how fast one must be is a setting, and here it is as strict as it can be.
func TestAttack30SlowSenders(t *testing.T) {
	h := house.New(t, house.Options{Sessions: func(o *netsrv.Options) { o.Stall, o.MinRate = 300*time.Millisecond, 1000 }})
	alice := h.Account(t, "alice")
	c := begin(t, h, "smtp")
	sent := 0
	for ; sent < 300; sent++ {
		if _, err := c.Write([]byte("x")); err != nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if sent == 300 {
		t.Error("a byte now and then may go on for ever")
	}
	if n := count(t, h, alice); n != 0 {
		t.Errorf("%d messages", n)
	}
	sound(t, h)
}
