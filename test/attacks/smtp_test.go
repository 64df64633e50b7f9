package attacks

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/serve/netsrv"
	"github.com/martlet-mail/martlet/internal/serve/smtpd"
	"github.com/martlet-mail/martlet/test/house"
)

func plain(login, secret string) string {
	return base64.StdEncoding.EncodeToString([]byte("\x00" + login + "\x00" + secret))
}

// exchange is a line and how its answer begins.
type exchange struct{ line, answer string }

// converse asks each line and holds the answer against what is wanted.
func converse(t *testing.T, c *house.Client, all ...exchange) {
	t.Helper()
	for _, x := range all {
		if got := c.Ask(x.line); !strings.HasPrefix(got, x.answer) {
			t.Errorf("%.80q: %s, want %s", x.line, got, x.answer)
		}
	}
}

// stranger makes a house that trusts no network, so that TLS is needed to log in.
func stranger(t *testing.T) *house.House {
	return house.New(t, house.Options{Sessions: func(o *netsrv.Options) { o.Trusted = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }})
}

// BDAT takes as many bytes as it says, in its order, and nothing else is a chunk.
func TestAttack09BDAT(t *testing.T) {
	h := house.New(t, house.Options{})
	alice := h.Account(t, "alice")
	open := []exchange{{"MAIL FROM:<x@example.net>", "250"}, {"RCPT TO:<alice@example.org>", "250"}}
	chunk := func(c *house.Client, size int, more, bytes, want string) {
		t.Helper()
		c.Send(fmt.Sprintf("BDAT %d%s\r\n%s", size, more, bytes))
		if got := c.Reply(); !strings.HasPrefix(got, want) {
			t.Errorf("BDAT %d%s: %s, want %s", size, more, got, want)
		}
	}
	c := hello(t, h, "smtp")
	chunk(c, 3, "", "abc", "503") // before a recipient: refused, and its bytes are no commands
	converse(t, c, open...)
	converse(t, c, exchange{"BDAT 0", "250"}, exchange{"BDAT -1", "501"})
	c = hello(t, h, "smtp")
	converse(t, c, open...)
	chunk(c, 4, "", "a\r\nb", "250")
	converse(t, c, exchange{"DATA", "503"}, exchange{"RSET", "250"}, exchange{"BDAT 0 LAST", "503"})
	c = hello(t, h, "smtp")
	converse(t, c, open...)
	// What looks like an end or a command within a chunk is neither.
	text := "Subject: x\r\n\r\n.\r\nRSET\r\n"
	chunk(c, len(text), "", text, "250")
	chunk(c, 0, " LAST", "", "250")
	chunk(c, 1, " LAST", "x", "503")
	if all := messages(t, h, alice); len(all) != 1 || !strings.HasSuffix(all[0], "\r\n\r\n.\r\nRSET\r\n") {
		t.Errorf("stored: %q", all)
	}
	for _, size := range []string{"99999999999999999999", "4294967297", "18446744073709551615", "1e3", "0x10", "+5", "", " "} {
		c = hello(t, h, "smtp")
		converse(t, c, open...)
		if got := c.Ask("BDAT " + size); !strings.HasPrefix(got, "5") {
			t.Errorf("BDAT %s: %s", size, got)
		}
	}
	// A chunk that is larger than a message may be is not swallowed for ever.
	c = hello(t, h, "smtp")
	converse(t, c, open...)
	c.Send("BDAT 2000000000 LAST\r\n")
	c.Send(strings.Repeat("x", 1<<20))
	if got := c.Reply(); !strings.HasPrefix(got, "552") {
		t.Errorf("two gigabytes: %s", got)
	}
	sound(t, h)
}

// What is sent behind a command that ends its group is refused or forgotten, never obeyed
// as if it came later.
func TestAttack10Pipelining(t *testing.T) {
	h := house.New(t, house.Options{})
	alice := h.Account(t, "alice")
	for name, c := range map[string]struct {
		send    string
		answers string
	}{
		"after DATA that is refused": {"DATA\r\nSubject: x\r\n\r\n.\r\nNOOP\r\n", "503"},
		"after QUIT":                 {"QUIT\r\nMAIL FROM:<x@example.net>\r\n", "221"},
		"after STARTTLS":             {"STARTTLS\r\nMAIL FROM:<x@example.net>\r\n", "503"},
		"after AUTH":                 {"AUTH PLAIN\r\nMAIL FROM:<x@example.net>\r\n", "50"},
	} {
		road := "smtp"
		if strings.Contains(name, "AUTH") {
			road = "submission"
		}
		conn := hello(t, h, road)
		conn.Send(c.send)
		first := conn.Reply()
		if !strings.HasPrefix(first, c.answers) {
			t.Errorf("%s: %s", name, first)
		}
		if strings.Contains(name, "DATA") {
			continue
		}
		if rest := conn.Rest(); strings.Contains(rest, "250") {
			t.Errorf("%s: the server obeyed: %q", name, rest)
		}
	}
	if n := count(t, h, alice); n != 0 {
		t.Errorf("%d messages", n)
	}
	sound(t, h)
}

// Commands sent in the clear behind STARTTLS are not taken for what came under TLS.
func TestAttack11InjectedBeforeTLS(t *testing.T) {
	h := stranger(t)
	h.Account(t, "alice")
	for protocol, c := range map[string]struct{ hello, start, inject, evidence string }{
		"smtp":       {"EHLO x\r\n", "STARTTLS\r\n", "EHLO injected\r\n", "injected"},
		"lmtp":       {"LHLO x\r\n", "STARTTLS\r\n", "LHLO injected\r\n", "injected"},
		"submission": {"EHLO x\r\n", "STARTTLS\r\n", "EHLO injected\r\n", "injected"},
		"imap":       {"", "a STARTTLS\r\n", "injected NOOP\r\n", "injected"},
		"pop3":       {"", "STLS\r\n", "CAPA\r\n", "UIDL"},
	} {
		conn := h.Dial(t, protocol)
		conn.Reply()
		if c.hello != "" {
			conn.Send(c.hello)
			conn.Reply()
		}
		conn.Send(c.start + c.inject)
		// The server hangs up, or the handshake never begins, for what follows is no TLS.
		if rest := conn.Rest(); strings.Contains(rest, c.evidence) {
			t.Errorf("%s: the server answered what was injected: %q", protocol, rest)
		}
		// An honest client gets TLS, and its state is new.
		conn = h.Dial(t, protocol)
		conn.Reply()
		if c.hello != "" {
			conn.Send(c.hello)
			conn.Reply()
		}
		conn.Send(c.start)
		if got := conn.Reply(); !strings.HasPrefix(got, "220") && !strings.HasPrefix(got, "a OK") && !strings.HasPrefix(got, "+OK") {
			t.Fatalf("%s: %s", protocol, got)
		}
		conn.TLS()
		if c.hello != "" {
			converse(t, conn, exchange{"MAIL FROM:<x@example.net>", "503"})
		}
	}
	sound(t, h)
}

// A command without an end costs a line's memory.
func TestAttack14LineWithoutEnd(t *testing.T) {
	h := house.New(t, house.Options{})
	for _, protocol := range []string{"smtp", "lmtp", "submission", "imap", "pop3"} {
		c := h.Dial(t, protocol)
		c.Reply()
		before := heap()
		sent := 0
		for piece := strings.Repeat("A", 1<<20); sent < 64; sent++ { // until the server hangs up
			if _, err := c.Write([]byte(piece)); err != nil {
				break
			}
		}
		if grown := int64(heap()) - int64(before); grown > 4<<20 {
			t.Errorf("%s: the server holds %d bytes more", protocol, grown)
		}
		rest := c.Rest()
		if sent == 64 || len(rest) > 1000 {
			t.Errorf("%s: took %d MB of one line, and said %.200q", protocol, sent, rest)
		}
	}
	sound(t, h)
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Recipients, refused ones, and commands that do nothing come to an end.
func TestAttack16Floods(t *testing.T) {
	h := house.New(t, house.Options{SMTP: func(o *smtpd.Options) { o.MaxRecipients = 100 }})
	h.Account(t, "alice")
	c := hello(t, h, "smtp")
	converse(t, c, exchange{"MAIL FROM:<x@example.net>", "250"})
	got := map[string]int{}
	for n := range 5000 {
		answer := c.Ask(fmt.Sprintf("RCPT TO:<alice+%d@example.org>", n))
		got[answer[:min(3, len(answer))]]++
		if answer == "" {
			break
		}
	}
	if got["250"] != 100 || got["452"] == 0 {
		t.Errorf("many recipients: %v", got)
	}
	for name, line := range map[string]string{"nobody": "RCPT TO:<nobody%d@example.org>", "nothing": "NOOP %d", "resets": "RSET", "unknown": "XYZZY %d", "senders": "MAIL FROM:<x%d@example.net>"} {
		c := hello(t, h, "smtp")
		if name == "nobody" {
			converse(t, c, exchange{"MAIL FROM:<x@example.net>", "250"})
		}
		last := ""
		for n := range 100_000 {
			text := line
			if strings.Contains(line, "%d") {
				text = fmt.Sprintf(line, n)
			}
			answer := c.Ask(text)
			if answer == "" || strings.HasPrefix(answer, "421") {
				last = answer
				break
			}
		}
		if !strings.HasPrefix(last, "421") {
			t.Errorf("%s for ever: %q", name, last)
		}
	}
	sound(t, h)
}

// VRFY and EXPN tell nothing, and refused recipients all alike.
func TestAttack17Harvesting(t *testing.T) {
	h := house.New(t, house.Options{})
	h.Account(t, "alice")
	c := hello(t, h, "smtp")
	known, unknown := c.Ask("VRFY alice@example.org"), c.Ask("VRFY nobody@example.org")
	if !strings.HasPrefix(known, "252") || known != unknown {
		t.Errorf("VRFY: %s / %s", known, unknown)
	}
	if got := c.Ask("EXPN alice@example.org"); !strings.HasPrefix(got, "5") {
		t.Errorf("EXPN: %s", got)
	}
	converse(t, c, exchange{"MAIL FROM:<x@example.net>", "250"})
	one, other := c.Ask("RCPT TO:<nobody@example.org>"), c.Ask("RCPT TO:<nosuch@example.org>")
	if one != other || !strings.HasPrefix(one, "550 5.1.1") {
		t.Errorf("RCPT: %s / %s", one, other)
	}
	sound(t, h)
}

// Nobody relays: not by a path that is spelt in an old way, nor from a sender that looks
// local or is none.
func TestAttack18Relaying(t *testing.T) {
	h := house.New(t, house.Options{})
	h.Account(t, "alice")
	for _, from := range []string{"x@example.net", "", "alice@example.org", "postmaster@example.org", "x@[127.0.0.1]"} {
		c := hello(t, h, "smtp")
		if got := c.Ask("MAIL FROM:<" + from + ">"); !strings.HasPrefix(got, "250") {
			continue // not even the sender is taken
		}
		for _, to := range []string{
			"a@ext.example", "a%ext.example@example.org", "@example.org:a@ext.example", "@example.org,@ext.example:a@ext.example",
			`"a@ext.example"@example.org`, `"a%ext.example"@example.org`, "ext.example!a", "ext.example!a@example.org", "a@ext.example.",
			"a@[127.0.0.1]", "a@[192.0.2.1]", "a@[IPv6:::1]", "a@[IPv6:2001:db8::1]", "a@localhost", "a@ext.example@example.org", "a@example.org.ext.example",
			"a@127.0.0.1", "a@", "@", "a@example.org\\@ext.example", "a@EXT.example", "a@sub.example.org", "a@mx.example.org",
		} {
			if got := c.Ask("RCPT TO:<" + to + ">"); !strings.HasPrefix(got, "5") {
				t.Errorf("from <%s> to <%s>: %s", from, to, got)
			}
			if got := c.Ask("NOOP"); got == "" || strings.HasPrefix(got, "421") { // too many refusals
				c = hello(t, h, "smtp")
				converse(t, c, exchange{"MAIL FROM:<" + from + ">", "250"})
			}
		}
		if got := c.Ask("DATA"); !strings.HasPrefix(got, "503") && !strings.HasPrefix(got, "554") {
			t.Errorf("DATA without a recipient: %s", got)
		}
	}
	sound(t, h)
}

// The headers by which a proxy names its client count for nothing from a stranger.
func TestAttack19ProxyHeaders(t *testing.T) {
	h := house.New(t, house.Options{})
	h.Account(t, "alice")
	for _, first := range []string{
		"PROXY TCP4 127.0.0.1 127.0.0.1 1 25\r\n", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x01\x00\x01\x00\x19",
		"XCLIENT ADDR=127.0.0.1 LOGIN=alice@example.org\r\n", "XFORWARD ADDR=127.0.0.1\r\n", "X-Forwarded-For: 127.0.0.1\r\n",
	} {
		c := h.Dial(t, "smtp")
		c.Reply()
		c.Send(first)
		if got := c.Reply(); !strings.HasPrefix(got, "5") && got != "" {
			t.Errorf("%q: %s", first, got)
		}
		c.Send("EHLO x\r\nMAIL FROM:<alice@example.org>\r\nRCPT TO:<a@ext.example>\r\nQUIT\r\n")
		if rest := c.Rest(); strings.Contains(rest, "250 2.1.5") {
			t.Errorf("%q opens a relay: %s", first, rest)
		}
	}
	sound(t, h)
}

// An address is an address: no shell, no template and no line end.
func TestAttack20Commands(t *testing.T) {
	h := house.New(t, house.Options{})
	alice := h.Account(t, "alice")
	for _, line := range []string{
		"MAIL FROM:<;id;>", "MAIL FROM:<;sleep 9;@example.net>", "MAIL FROM:<`id`@x.example>\rRCPT TO:<alice@example.org>", "MAIL FROM:<a@b\nRCPT TO:<alice@example.org>",
		"MAIL FROM:<${run{/bin/id}}@example.net>\x00", "MAIL FROM:<a@$(id).example>", "MAIL FROM:<|/bin/sh>", "MAIL FROM:</dev/null>", "MAIL FROM:<a b@example.net>",
		"RCPT TO:<|id@example.org>", "RCPT TO:</etc/passwd@example.org>", "RCPT TO:<alice;id@example.org>", "RCPT TO:<:include:/etc/passwd@example.org>",
	} {
		c := hello(t, h, "smtp")
		if strings.HasPrefix(line, "RCPT") {
			converse(t, c, exchange{"MAIL FROM:<x@example.net>", "250"})
		}
		if got := c.Ask(line); !strings.HasPrefix(got, "5") {
			t.Errorf("%q: %s", line, got)
		}
	}
	// What RFC 5321 allows in a local part is carried along as it is.
	c := hello(t, h, "smtp")
	odd := "${run{/bin/id}}@example.net"
	converse(t, c, exchange{"MAIL FROM:<" + odd + ">", "250"}, exchange{"RCPT TO:<alice@example.org>", "250"}, exchange{"DATA", "354"}, exchange{"Subject: x\r\n\r\n.", "250"})
	if all := messages(t, h, alice); len(all) != 1 || !strings.Contains(all[0], "Return-Path: <"+odd+">\r\n") {
		t.Errorf("%q", all)
	}
	sound(t, h)
}
