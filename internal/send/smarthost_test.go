package send

import (
	"crypto/tls"
	"strings"
	"testing"
)

func TestSmarthost(t *testing.T) {
	conf, pool := certificate(t, "smart.test")
	for _, tc := range []struct {
		name string
		peer *peer
		host Smarthost
		want string
		said string // part of the words
	}{
		{"plain line", &peer{}, Smarthost{TLS: SmarthostPlain}, "250 2.0.0", "queued"},
		{"implicit, PLAIN", &peer{implicit: true, tls: conf, ext: []string{"AUTH PLAIN"}}, Smarthost{TLS: SmarthostTLS, Login: "alice", Password: "secret"}, "250 2.0.0", ""},
		{"STARTTLS, LOGIN", &peer{tls: conf, ext: []string{"STARTTLS", "AUTH LOGIN"}}, Smarthost{Login: "alice", Password: "secret"}, "250 2.0.0", ""},
		{"SCRAM-SHA-256 first", &peer{tls: conf, ext: []string{"STARTTLS", "AUTH LOGIN PLAIN SCRAM-SHA-1 SCRAM-SHA-256"}}, Smarthost{Login: "alice", Password: "secret"}, "250 2.0.0", ""},
		{"SCRAM-SHA-1", &peer{tls: conf, ext: []string{"STARTTLS", "AUTH SCRAM-SHA-1"}}, Smarthost{Login: "alice", Password: "secret"}, "250 2.0.0", ""},
		{"proof in the 235", &peer{tls: conf, proof235: true, ext: []string{"STARTTLS", "AUTH SCRAM-SHA-256"}}, Smarthost{Login: "alice", Password: "secret"}, "250 2.0.0", ""},
		{"impostor", &peer{tls: conf, impostor: true, ext: []string{"STARTTLS", "AUTH SCRAM-SHA-256"}}, Smarthost{Login: "alice", Password: "secret"}, "454 4.7.8", "does not prove"},
		{"wrong password", &peer{tls: conf, ext: []string{"STARTTLS", "AUTH PLAIN"}}, Smarthost{Login: "alice", Password: "wrong"}, "450 4.7.8", "signing in as alice was refused"},
		{"wrong password, SCRAM", &peer{tls: conf, ext: []string{"STARTTLS", "AUTH SCRAM-SHA-256"}}, Smarthost{Login: "alice", Password: "wrong"}, "450 4.7.8", "signing in as alice was refused"},
		{"unknown mechanism", &peer{tls: conf, ext: []string{"STARTTLS", "AUTH CRAM-MD5"}}, Smarthost{Login: "alice", Password: "secret"}, "454 4.7.4", "no way to sign in"},
		{"no TLS offered", &peer{ext: []string{"AUTH PLAIN"}}, Smarthost{Login: "alice", Password: "secret"}, "454 4.7.0", "does not offer TLS"},
		{"certificate of another", &peer{tls: conf, ext: []string{"STARTTLS", "AUTH PLAIN"}}, Smarthost{Host: "other.test", Login: "alice", Password: "secret"}, "454 4.7.5", "not valid"},
		{"any certificate", &peer{tls: conf, ext: []string{"STARTTLS", "AUTH PLAIN"}}, Smarthost{Host: "other.test", AnyCert: true, Login: "alice", Password: "secret"}, "250 2.0.0", ""},
		{"no address", &peer{}, Smarthost{Host: "missing.test"}, "451 4.3.5", "smarthost"},
		{"by address", &peer{}, Smarthost{Host: "127.0.0.1", TLS: SmarthostPlain}, "250 2.0.0", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			port := peers(t, tc.peer)
			c := courier(t, 1, "smart.test. IN A 127.0.0.1\nother.test. IN A 127.0.0.1\n", func(o *Options) {
				o.AllowPrivate = false // the smarthost is configured, so it may be private
				o.TLS = &tls.Config{RootCAs: pool}
				tc.host.Port = port
				if tc.host.Host == "" {
					tc.host.Host = "smart.test"
				}
				o.Smarthost = &tc.host
			})
			got := c.Send(t.Context(), envelope("s@martlet.test", "a@example.org", "b@example.net"), text("x\r\n"), nil)
			if short(got[0]) != tc.want || !strings.Contains(got[0].Text, tc.said) {
				t.Errorf("%+v", got[0])
			}
			if n, conns := tc.peer.got(); got[0].Code == 250 && (n != 1 || conns != 1) {
				t.Errorf("%d transactions on %d connections", n, conns)
			}
			if auth := tc.peer.commands("AUTH"); len(auth) > 0 && tc.name == "SCRAM-SHA-256 first" && !strings.HasPrefix(auth[0], "AUTH SCRAM-SHA-256 ") {
				t.Error(auth)
			}
		})
	}
}

// A password is not shown to a host that is not on this machine, unless TLS hides it.
func TestNoPasswordInTheClear(t *testing.T) {
	s := &session{c: &Courier{}, ext: map[string]string{"AUTH": "PLAIN LOGIN"}, t: target{host: "smart.test"}}
	err := s.auth(&Smarthost{Login: "alice", Password: "secret"})
	if r := resultOf(err); short(r) != "454 4.7.4" {
		t.Errorf("%+v", r)
	}
}

// A message that DATA cannot carry is refused, not cut or passed on.
func TestNUL(t *testing.T) {
	p := &peer{}
	c := courier(t, peers(t, p), oneHost, nil)
	r := c.Send(t.Context(), envelope("", "a@example.org"), text("a\r\n\x00.\r\n"), nil)[0]
	if n, _ := p.got(); short(r) != "554 5.6.3" || n != 0 {
		t.Errorf("%+v, %d taken", r, n)
	}
}
