package main

import (
	"crypto/tls"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
	"github.com/martlet-mail/martlet/internal/syntax/sasl"
)

// What the configuration says of connections reaches the sessions.
func TestSessionOptions(t *testing.T) {
	cfg := conf.Default()
	options := func() netsrv.Options {
		t.Helper()
		o, err := (&house{cfg: cfg}).sessionOptions(nil)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	o := options()
	if o.MaxPerAccount != 100 || o.MaxPerAddress != 100 || o.MaxConns != 20_000 || o.MinVersion != tls.VersionTLS12 ||
		o.Stall != 2*time.Minute || o.NoChannelBinding || o.ClientCAs != nil {
		t.Errorf("%+v", o)
	}
	cfg.Limits.Connections, cfg.Limits.ConnectionsPerAddress, cfg.Limits.ConnectionsPerAccount = 50, 6, 7
	cfg.TLS.MinVersion, cfg.TLS.ChannelBinding, cfg.Limits.Stall = "1.3", false, conf.Duration(7*time.Second)
	cfg.TLS.ClientCA = conf.Path(madeCA(t))
	o = options()
	if o.MaxPerAccount != 7 || o.MaxPerAddress != 6 || o.MaxConns != 50 || o.MinVersion != tls.VersionTLS13 ||
		o.Stall != 7*time.Second || !o.NoChannelBinding || o.ClientCAs == nil {
		t.Errorf("%+v", o)
	}
	for _, text := range []string{"", "not a certificate"} {
		file := filepath.Join(t.TempDir(), "ca.pem")
		if text != "" {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cfg.TLS.ClientCA = conf.Path(file)
		if _, err := (&house{cfg: cfg}).sessionOptions(nil); err == nil {
			t.Errorf("authorities are read from a file with %q", text)
		}
	}
	cfg.TLS.ClientCA, cfg.TLS.ClientCRL = conf.Path(madeCA(t)), "/nowhere/crl.pem"
	if _, err := (&house{cfg: cfg}).sessionOptions(nil); err == nil {
		t.Error("revocation lists are read from a file that is not there")
	}
}

// madeCA makes an authority and returns its file.
func madeCA(t *testing.T) string {
	t.Helper()
	l := localCA{dir: t.TempDir(), now: time.Now}
	if err := l.ensure(); err != nil {
		t.Fatal(err)
	}
	return l.caFile()
}

// What the configuration says of logins reaches the directory.
func TestLoginOptions(t *testing.T) {
	cfg := conf.Default()
	o, err := directoryOptions(cfg, slog.New(slog.DiscardHandler))
	if err != nil || o.Tokens != nil || len(o.CertificateNames) != 0 || o.RememberFor != 10*time.Minute {
		t.Errorf("%+v, %v", o, err)
	}
	cfg.Limits.PasswordKnown = 0
	if o, err := directoryOptions(cfg, slog.New(slog.DiscardHandler)); err != nil || o.RememberFor >= 0 {
		t.Errorf("%v, %v", o.RememberFor, err)
	}
	cfg.OAuth.Issuer, cfg.OAuth.Audience, cfg.OAuth.Scope = "https://login.example.org/", []string{"mail"}, "read"
	cfg.OAuth.CA = conf.Path(madeCA(t))
	cfg.TLS.Clients = []conf.Client{{Subject: "CN=alice", Account: "alice@example.org"}}
	o, err = directoryOptions(cfg, slog.New(slog.DiscardHandler))
	if err != nil || o.Tokens == nil || o.CertificateNames["CN=alice"] != "alice@example.org" {
		t.Fatalf("%+v, %v", o, err)
	}
	want := sasl.Bearer{Scope: "read", Configuration: "https://login.example.org/.well-known/openid-configuration"}
	if got := o.Tokens.Hints(); got != want {
		t.Errorf("%+v", got)
	}
	cfg.OAuth.ClientSecretFile = "/nowhere/secret"
	if _, err := directoryOptions(cfg, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a secret from a file that is not there")
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
