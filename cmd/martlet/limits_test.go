package main

import (
	"crypto/tls"
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
