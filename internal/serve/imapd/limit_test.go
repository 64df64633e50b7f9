package imapd

import (
	"log/slog"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/serve/netsrv"
)

// An account with too many connections is refused with LIMIT (RFC 5530, 3), and only
// that account.
func TestConnectionsOfOneAccount(t *testing.T) {
	w := newWorld(t)
	w.net = netsrv.New(netsrv.Options{MaxPerAccount: 1, Log: slog.New(slog.DiscardHandler)})
	greeted := func() *lineClient {
		l := newLineClient(t, w.dial())
		t.Cleanup(func() { l.c.Close() })
		l.hear("* OK")
		return l
	}
	first, second := greeted(), greeted()
	first.say("1 LOGIN alice@example.org \"" + password + "\"\r\n")
	first.hear("1 OK")
	second.say("1 LOGIN alice@example.org \"" + password + "\"\r\n")
	second.hear("1 NO [LIMIT] ")
	second.say("2 LOGIN bob@example.org \"secret of bob\"\r\n")
	second.hear("2 OK")
	first.say("2 LOGOUT\r\n")
	first.hear("* BYE")
	first.hear("2 OK")
	for w.net.Stats().Open > 1 {
		time.Sleep(time.Millisecond)
	}
	third := greeted()
	third.say("1 LOGIN alice@example.org \"" + password + "\"\r\n")
	third.hear("1 OK")
}
