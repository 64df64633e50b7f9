package smtpd

import (
	"log/slog"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/serve/netsrv"
)

// An account with too many connections is sent away for now, and nobody else is.
func TestConnectionsOfOneAccount(t *testing.T) {
	w := newWorld(t)
	w.net = netsrv.New(netsrv.Options{MaxPerAccount: 1, Log: slog.New(slog.DiscardHandler)})
	const alice, bob = "AGFsaWNlQGhlcmUudGVzdABzZWNyZXQ=", "AGJvYkBoZXJlLnRlc3QAc2VjcmV0"
	greeted := func() *talker {
		tk := w.talk(Submission, netsrv.NoTLS)
		tk.expect("EHLO c.test", 250)
		return tk
	}
	first, second, third := greeted(), greeted(), greeted()
	first.expect("AUTH PLAIN "+alice, 235)
	second.expect("AUTH PLAIN "+alice, 421)
	if _, err := second.r.ReadByte(); err == nil {
		t.Error("the connection is still open after 421")
	}
	third.expect("AUTH PLAIN "+bob, 235)
	first.expect("QUIT", 221)
	for w.net.Stats().Open > 1 {
		time.Sleep(time.Millisecond)
	}
	greeted().expect("AUTH PLAIN "+alice, 235)
}
