package main

import (
	"crypto/tls"
	"net/netip"
	"testing"

	"github.com/martlet-mail/martlet/internal/conf"
)

// What the configuration says of connections reaches the sessions.
func TestSessionOptions(t *testing.T) {
	cfg := conf.Default()
	o := (&house{cfg: cfg}).sessionOptions(nil)
	if o.MaxPerAccount != 100 || o.MaxPerAddress != 100 || o.MaxConns != 20_000 || o.MinVersion != tls.VersionTLS12 {
		t.Errorf("%+v", o)
	}
	cfg.Limits.Connections, cfg.Limits.ConnectionsPerAddress, cfg.Limits.ConnectionsPerAccount = 50, 6, 7
	cfg.TLS.MinVersion = "1.3"
	o = (&house{cfg: cfg}).sessionOptions(nil)
	if o.MaxPerAccount != 7 || o.MaxPerAddress != 6 || o.MaxConns != 50 || o.MinVersion != tls.VersionTLS13 {
		t.Errorf("%+v", o)
	}
}

func TestOwnListenersAreKnown(t *testing.T) {
	self := isSelf([]conf.Listen{{Address: "0.0.0.0:25"}, {Address: "192.0.2.1:2525"}, {Address: "[::]:587"}})
	for addr, want := range map[string]bool{
		"127.0.0.1:25": true, "[::1]:587": true, "[::ffff:127.0.0.1]:25": true, "192.0.2.1:2525": true,
		"127.0.0.1:26": false, "192.0.2.77:25": false, "192.0.2.1:25": false,
	} {
		if got := self(netip.MustParseAddrPort(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
}
