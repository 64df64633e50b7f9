package smtpd

import (
	"context"
	"net"
	"testing"

	"github.com/martlet-mail/martlet/internal/serve/netsrv"
	"github.com/martlet-mail/martlet/internal/syntax/smtp"
)

// A message is the work of the account that its first recipient leads to, whatever it is
// called there; that party is not the account itself.
func TestPartyOfMessage(t *testing.T) {
	w := newWorld(t)
	rcpt := func(s *session, to string) *smtp.Reply { return s.rcpt(w.ctx, "TO:<"+to+">") }
	parties := make(chan string, 1)
	for to, want := range map[string]string{
		"alice@here.test": "in:alice@here.test", "ALICE+1@Here.test": "in:alice@here.test", "alice+100@here.test": "in:alice@here.test",
		"sales@here.test": "in:alice@here.test", "bob@here.test": "in:bob@here.test", "all@too.test": "in:alice@here.test",
	} {
		client, server := net.Pipe()
		w.net.ServeConn(w.ctx, &fromAddr{server, "192.0.2.1"}, netsrv.Service{Handle: func(_ context.Context, c *netsrv.Conn) {
			s := &session{Options: &w.options, conn: c, tx: &transaction{}}
			s.MaxRecipients = 10
			for _, to := range []string{to, "bob@here.test"} {
				if r := rcpt(s, to); r.Code != 250 {
					t.Errorf("%s: %v", to, r)
				}
			}
			parties <- s.tx.party
		}})
		client.Close()
		if got := <-parties; got != want {
			t.Errorf("%s: party %q, not %q", to, got, want)
		}
	}
}
