package smtpd

import (
	"bufio"
	"fmt"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/receive"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
	"github.com/martlet-mail/martlet/internal/srs"
)

// What is sent on has a sender that only reports come back to. Nobody can make one himself, and
// none of it is a way through for other mail.
func TestReturnAddresses(t *testing.T) {
	w := newWorld(t)
	scheme := srs.New([]byte("key"), w.options.Now)
	w.options.Receiver = receive.New(receive.Options{Store: w.store, Directory: w.dir, Queue: w.queue, Now: w.options.Now, Returns: scheme})
	w.options.MaxErrors = 100
	good, _ := scheme.Forward(address("ann@example.org"), "too.test")
	other, _ := srs.New([]byte("guess"), w.options.Now).Forward(address("ann@example.org"), "too.test")
	conn := w.connect(w.options, netsrv.NoTLS, "192.0.2.1")
	r := bufio.NewReader(conn)
	say := func(line string) string {
		t.Helper()
		if line != "" {
			fmt.Fprintf(conn, "%s\r\n", line)
		}
		for {
			reply, err := r.ReadString('\n')
			w.must(err)
			if len(reply) > 3 && reply[3] == ' ' {
				return reply
			}
		}
	}
	say("")
	say("EHLO c.test")
	for _, c := range []struct{ from, to, want string }{
		{"", good.String(), "250"},
		{"", strings.ToLower(good.String()), "250"},
		{"eve@evil.test", good.String(), "550"},
		{"alice@here.test", good.String(), "550"},
		{"", other.String(), "550"},
		{"", strings.Replace(good.String(), "ann", "bob", 1), "550"},
		{"", strings.Replace(good.String(), "example.org", "victim.test", 1), "550"},
		{"", strings.Replace(good.String(), "too.test", "here.test", 1), "550"},
		{"", strings.Replace(good.String(), "too.test", "far.test", 1), "550"},
	} {
		say("RSET")
		say("MAIL FROM:<" + c.from + ">")
		if got := say("RCPT TO:<" + c.to + ">"); !strings.HasPrefix(got, c.want) {
			t.Errorf("from <%s> to <%s>: %s", c.from, c.to, got)
		}
	}
	say("RSET")
	say("MAIL FROM:<ann@example.org>")
	say("RCPT TO:<all@too.test>")
	say("DATA")
	if got := say("Subject: x\r\n\r\nx\r\n."); !strings.HasPrefix(got, "250") {
		t.Error(got)
	}
	if e := w.queue.entries; len(e) != 1 || e[0].Envelope.From != good || e[0].Envelope.To[0].Address != address("carol@far.test") {
		t.Errorf("%+v", e)
	}
	say("MAIL FROM:<>")
	say("RCPT TO:<" + good.String() + ">")
	say("DATA")
	if got := say("Subject: undelivered\r\n\r\nx\r\n."); !strings.HasPrefix(got, "250") {
		t.Error(got)
	}
	if e := w.queue.entries; len(e) != 2 || !e[1].Envelope.From.IsZero() || e[1].Envelope.To[0].Address != address("ann@example.org") {
		t.Errorf("%+v", e)
	}
}
