package send

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/sts"
)

// What an MTA-STS policy asks for is done (RFC 8461, 5): all of it if it is to be enforced,
// and told of if it is being tested.
func TestMTASTS(t *testing.T) {
	a := newCA(t)
	good, _ := a.sign("mx1.example.org", time.Hour, true)
	wrong, _ := a.sign("elsewhere.test", time.Hour, true)
	old, _ := a.sign("mx1.example.org", -time.Hour, true)
	for _, tc := range []struct {
		name     string
		conf     *tls.Config // nil: TLS is not offered
		mode     sts.Mode
		host     string
		want     string
		proof    mail.Proof
		failure  mail.TLSFault // of the result
		observed mail.TLSFault
		optional bool
	}{
		{"enforce", good, sts.Enforce, "mx1.example.org", "250 2.0.0", mail.ProofSTS, "", "", false},
		{"enforce, wildcard", good, sts.Enforce, "*.example.org", "250 2.0.0", mail.ProofSTS, "", "", false},
		{"enforce, another host", good, sts.Enforce, "mx.example.net", "451 4.7.5", "", mail.NotValid, mail.NotValid, false},
		{"enforce, no TLS", nil, sts.Enforce, "mx1.example.org", "454 4.7.0", "", mail.NoSTARTTLS, mail.NoSTARTTLS, false},
		{"enforce, broken TLS", &tls.Config{}, sts.Enforce, "mx1.example.org", "454 4.7.5", "", mail.NotValid, mail.NotValid, false},
		{"enforce, another name", wrong, sts.Enforce, "mx1.example.org", "454 4.7.5", "", mail.HostMismatch, mail.HostMismatch, false},
		{"enforce, ended", old, sts.Enforce, "mx1.example.org", "454 4.7.5", "", mail.Expired, mail.Expired, false},
		{"testing", good, sts.Testing, "mx1.example.org", "250 2.0.0", mail.ProofSTS, "", "", false},
		{"testing, another host", good, sts.Testing, "mx.example.net", "250 2.0.0", mail.ProofSTS, "", mail.NotValid, false},
		{"testing, no TLS", nil, sts.Testing, "mx1.example.org", "250 2.0.0", "", mail.NoSTARTTLS, mail.NoSTARTTLS, false},
		{"testing, broken TLS", &tls.Config{}, sts.Testing, "mx1.example.org", "250 2.0.0", "", mail.NotValid, mail.NotValid, false},
		{"testing, another name", wrong, sts.Testing, "mx1.example.org", "250 2.0.0", mail.AnyProof, mail.HostMismatch, mail.HostMismatch, false},
		{"TLS-Required: No, another host", good, sts.Enforce, "mx.example.net", "250 2.0.0", mail.ProofSTS, "", mail.NotValid, true},
		{"TLS-Required: No, no TLS", nil, sts.Enforce, "mx1.example.org", "250 2.0.0", "", mail.NoSTARTTLS, mail.NoSTARTTLS, true},
		{"TLS-Required: No, another name", wrong, sts.Enforce, "mx1.example.org", "250 2.0.0", mail.AnyProof, mail.HostMismatch, mail.HostMismatch, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := &peer{tls: tc.conf}
			if tc.conf != nil {
				p.ext = []string{"STARTTLS"}
			}
			var seen []TLSObservation
			c := courier(t, peers(t, p), oneHost, func(o *Options) {
				o.TLS = &tls.Config{RootCAs: a.pool()}
				o.STS = policyOf(tc.mode, tc.host)
				o.Observed = func(s TLSObservation) { seen = append(seen, s) }
			})
			env := envelope("s@martlet.test", "a@example.org")
			env.TLSOptional = tc.optional
			r := once(t, c, env)
			if short(r) != tc.want || r.Code == 250 && r.Line.Verified != tc.proof || r.Line.Failure != tc.failure {
				t.Errorf("%+v", r)
			}
			if n, _ := p.got(); n == 1 != (r.Code == 250) {
				t.Errorf("%d mails", n)
			}
			if len(seen) == 0 || seen[0].Line.Failure != tc.observed || seen[0].Policy.Type != "sts" || seen[0].Policy.Domain != "example.org" ||
				!slices.Equal(seen[0].Policy.Hosts, []string{tc.host}) || len(seen[0].Policy.Strings) != 4 || seen[0].Host != "mx1.example.org" || seen[0].Receiving != netip.MustParseAddr("127.0.0.1") {
				t.Errorf("%+v", seen)
			}
		})
	}
}

// A host that the policy does not name is passed over, not the message.
func TestMTASTSNextHost(t *testing.T) {
	a := newCA(t)
	good, _ := a.sign("mx2.example.org", time.Hour, true)
	p1, p2 := &peer{}, &peer{tls: good, ext: []string{"STARTTLS"}}
	c := courier(t, peers(t, p1, p2), twoHosts, func(o *Options) {
		o.TLS = &tls.Config{RootCAs: a.pool()}
		o.STS = policyOf(sts.Enforce, "mx2.example.org")
	})
	r := once(t, c, envelope("", "a@example.org"))
	if _, conns := p1.got(); r.Code != 250 || r.Host != "mx2.example.org" || conns != 0 {
		t.Errorf("%+v, %d connections to the other", r, conns)
	}
}

// A policy that is on its way keeps the mail here; one that cannot be had is observed, and
// keeps nothing.
func TestMTASTSTroubles(t *testing.T) {
	p := &peer{}
	var seen []TLSObservation
	port := peers(t, p)
	open := func(found sts.Found, err error) *Courier {
		return courier(t, port, oneHost, func(o *Options) {
			o.STS = func(context.Context, string) (sts.Found, error) { return found, err }
			o.Observed = func(s TLSObservation) { seen = append(seen, s) }
		})
	}
	r := once(t, open(sts.Found{}, fault.New(fault.Unavailable, "the policy is still being fetched")), envelope("", "a@example.org"))
	if short(r) != "451 4.7.5" || r.Text != "the policy is still being fetched" {
		t.Errorf("%+v", r)
	}
	r = once(t, open(sts.Found{Failure: mail.STSPolicyInvalid, Why: "no mode"}, nil), envelope("", "a@example.org"))
	if r.Code != 250 || len(seen) != 2 || seen[0].Line.Failure != mail.STSPolicyInvalid || seen[0].Policy.Type != "sts" || seen[0].Host != "" || seen[1].Policy.Type != "no-policy-found" {
		t.Errorf("%+v, %+v", r, seen)
	}
}

// Policies concern names, not addresses, and not hosts of the configuration.
func TestMTASTSNotAsked(t *testing.T) {
	p := &peer{}
	asked := 0
	c := courier(t, peers(t, p), oneHost, func(o *Options) {
		o.STS = func(context.Context, string) (sts.Found, error) { asked++; return sts.Found{}, nil }
		o.Routes = []Route{{Domain: "routed.test", Host: "mx1.example.org"}, {Domain: "easy.test", Host: "mx1.example.org", TLS: TLSOpportunistic}}
	})
	for _, domain := range []string{"[127.0.0.1]", "routed.test", "easy.test"} {
		env := mail.Envelope{To: []mail.Recipient{{Address: mail.Address{Local: "a", Domain: domain}}}}
		if r := once(t, c, env); r.Code != 250 {
			t.Errorf("%s: %+v", domain, r)
		}
	}
	if asked != 0 {
		t.Errorf("asked %d times", asked)
	}
}

// A message with REQUIRETLS goes where the host is vouched for, proves its name and knows
// REQUIRETLS; else it goes back (RFC 8689, 4.2.1).
func TestRequireTLS(t *testing.T) {
	a := newCA(t)
	good, leaf := a.sign("mx1.example.org", time.Hour, true)
	wrong, _ := a.sign("elsewhere.test", time.Hour, true)
	full := []string{"STARTTLS", "REQUIRETLS"}
	signed := oneHost + "! ad example.org\n"
	for _, tc := range []struct {
		name   string
		peer   *peer
		zone   string
		policy sts.Mode
		from   string
		want   string
	}{
		{"DANE", &peer{tls: good, ext: full}, "DANE", "", "s@martlet.test", "250 2.0.0"},
		{"signed list of hosts, known authority", &peer{tls: good, ext: full}, signed, "", "s@martlet.test", "250 2.0.0"},
		{"policy", &peer{tls: good, ext: full}, oneHost, sts.Enforce, "s@martlet.test", "250 2.0.0"},
		{"policy that is being tested", &peer{tls: good, ext: full}, oneHost, sts.Testing, "s@martlet.test", "250 2.0.0"},
		{"nobody vouches", &peer{tls: good, ext: full}, oneHost, "", "s@martlet.test", "550 5.7.10"},
		{"not offered", &peer{tls: good, ext: full[:1]}, signed, "", "s@martlet.test", "550 5.7.30"},
		{"no TLS", &peer{ext: full[1:]}, signed, "", "s@martlet.test", "550 5.7.10"},
		{"another name", &peer{tls: wrong, ext: full}, signed, "", "s@martlet.test", "550 5.7.10"},
		{"another name, policy that is being tested", &peer{tls: wrong, ext: full}, oneHost, sts.Testing, "s@martlet.test", "550 5.7.10"},
		{"cannot be reached", &peer{tls: good, ext: full, dropAt: "CONNECT"}, signed, "", "s@martlet.test", "421 4.4.2"},
		{"report, not offered", &peer{tls: good, ext: full[:1]}, signed, "", "", "250 2.0.0"},
		{"report, offered", &peer{tls: good, ext: full}, oneHost, "", "", "250 2.0.0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			port := peers(t, tc.peer)
			if tc.zone == "DANE" {
				tc.zone = signedZone(port, tlsaOf(3, 1, 1, leaf))
			}
			c := courier(t, port, tc.zone, func(o *Options) {
				o.TLS = &tls.Config{RootCAs: a.pool()}
				if tc.policy != "" {
					o.STS = policyOf(tc.policy, "mx1.example.org")
				}
			})
			env := envelope(tc.from, "a@example.org")
			env.RequireTLS, env.TLSOptional = true, true // the first counts (RFC 8689, 4.1)
			r := once(t, c, env)
			if short(r) != tc.want {
				t.Errorf("%+v", r)
			}
			offered := slices.Contains(tc.peer.ext, "REQUIRETLS")
			for _, m := range tc.peer.commands("MAIL") {
				if strings.Contains(m, " REQUIRETLS") != offered {
					t.Error(m)
				}
			}
			if n, _ := tc.peer.got(); n == 1 != (r.Code == 250) {
				t.Errorf("%d mails", n)
			}
		})
	}
}

// All hosts are tried before a message with REQUIRETLS goes back, and it does not as long
// as one could not be reached.
func TestRequireTLSManyHosts(t *testing.T) {
	a := newCA(t)
	c1, _ := a.sign("mx1.example.org", time.Hour, true)
	c2, _ := a.sign("mx2.example.org", time.Hour, true)
	for _, tc := range []struct {
		second *peer
		want   string
	}{
		{&peer{tls: c2, ext: []string{"STARTTLS", "REQUIRETLS"}}, "250 2.0.0"},
		{&peer{tls: c2, ext: []string{"STARTTLS"}}, "550 5.7.30"},
		{&peer{tls: c2, ext: []string{"STARTTLS"}, greeting: "421 4.3.2 later"}, "421 4.3.2"},
	} {
		first := &peer{tls: c1, ext: []string{"STARTTLS"}}
		c := courier(t, peers(t, first, tc.second), twoHosts+"! ad example.org\n", func(o *Options) { o.TLS = &tls.Config{RootCAs: a.pool()} })
		env := envelope("s@martlet.test", "a@example.org")
		env.RequireTLS = true
		if r := once(t, c, env); short(r) != tc.want {
			t.Errorf("%+v, want %s", r, tc.want)
		}
	}
}

// stalling offers TLS and never gets on with it.
func stalling(conn net.Conn) {
	r := bufio.NewReader(conn)
	io.WriteString(conn, "220 x\r\n")
	r.ReadString('\n')
	io.WriteString(conn, "250-x\r\n250-REQUIRETLS\r\n250 STARTTLS\r\n")
	r.ReadString('\n')
	io.WriteString(conn, "220 go\r\n")
	io.Copy(io.Discard, conn)
}

// A message with REQUIRETLS does not go back because we were stopped, or a host was too slow,
// during a handshake: that says nothing of the host.
func TestRequireTLSStoppedInHandshake(t *testing.T) {
	for name, tc := range map[string]struct {
		limit time.Duration // for the handshake; 0: we are stopped
		want  string
		seen  int // failures that reports tell of
	}{"stopped": {0, "421 4.4.2", 0}, "too slow": {100 * time.Millisecond, "454 4.7.5", 1}} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		p := &peer{raw: stalling}
		seen := 0
		c := courier(t, peers(t, p), oneHost+"! ad example.org\n", func(o *Options) {
			o.Timeouts.TLS = tc.limit
			o.Observed = func(TLSObservation) { seen++ }
		})
		if tc.limit == 0 {
			time.AfterFunc(200*time.Millisecond, cancel)
		}
		env := envelope("s@martlet.test", "a@example.org")
		env.RequireTLS = true
		if r := c.Send(ctx, env, text("Subject: x\r\n\r\nx\r\n"), nil)[0]; short(r) != tc.want || seen != tc.seen {
			t.Errorf("%s: %+v, %d observed", name, r, seen)
		}
	}
}

// endsAfter is a connection that ends something with what it reads after last is closed.
type endsAfter struct {
	net.Conn
	last chan struct{}
	end  func()
}

func (e *endsAfter) Read(b []byte) (int, error) {
	n, err := e.Conn.Read(b)
	select {
	case <-e.last:
		e.end()
	default:
	}
	return n, err
}

// Nor does it as long as there is a host that was not asked: because we were stopped before
// its turn, because others had all the attempts of one call, or because its address cannot
// be looked up now.
func TestRequireTLSHostsNotTried(t *testing.T) {
	a := newCA(t)
	c1, _ := a.sign("mx1.example.org", time.Hour, true)
	c2, _ := a.sign("mx2.example.org", time.Hour, true)
	env := envelope("s@martlet.test", "a@example.org")
	env.RequireTLS = true
	roots := func(o *Options) { o.TLS = &tls.Config{RootCAs: a.pool()} }
	second := func() *peer { return &peer{tls: c2, ext: []string{"STARTTLS", "REQUIRETLS"}} }

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	last := make(chan struct{})
	first := &peer{tls: c1, ext: []string{"STARTTLS"}, answers: map[string]func(int, string) string{"EHLO": func(n int, _ string) string {
		if n == 2 {
			close(last)
		}
		return ""
	}}}
	c := courier(t, peers(t, first, second()), twoHosts+"! ad example.org\n", func(o *Options) {
		roots(o)
		dial := o.Dial
		o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			return &endsAfter{conn, last, cancel}, err
		}
	})
	if r := c.Send(ctx, env, text("Subject: x\r\n\r\nx\r\n"), nil)[0]; r.Code/100 != 4 {
		t.Errorf("stopped: %+v", r)
	}

	zone := "! ad example.org\nmx2.example.org. IN A 127.0.0.2\nexample.org. IN MX 100 mx2.example.org.\n"
	for i := range maxAttempts {
		zone += fmt.Sprintf("example.org. IN MX %d m%d.example.org.\nm%d.example.org. IN A 127.0.0.1\n", i, i, i)
	}
	c = courier(t, peers(t, &peer{tls: c1, ext: []string{"STARTTLS"}}, second()), zone, roots)
	if r := once(t, c, env); r.Code/100 != 4 {
		t.Errorf("one host more than attempts: %+v", r)
	}
	c = courier(t, peers(t, &peer{tls: c1, ext: []string{"STARTTLS"}}, second()), strings.Replace(zone, "example.org. IN MX 100 mx2.example.org.\n", "", 1), roots)
	if r := once(t, c, env); short(r) != "550 5.7.10" {
		t.Errorf("as many hosts as attempts: %+v", r)
	}

	c = courier(t, peers(t, &peer{tls: c1, ext: []string{"STARTTLS"}}, second()), twoHosts+"! ad example.org\n! servfail mx2.example.org\n", roots)
	if r := once(t, c, env); short(r) != "450 4.7.30" {
		t.Errorf("address not known: %+v", r)
	}
}

// Nor does it while nobody can know whether the domain has a policy that vouches for its host.
func TestRequireTLSPolicyUnknown(t *testing.T) {
	a := newCA(t)
	good, _ := a.sign("mx1.example.org", time.Hour, true)
	for _, tc := range []struct {
		found sts.Found
		want  string
	}{
		{sts.Found{Unknown: true}, "451 4.7.5"},
		{sts.Found{Failure: mail.STSFetchError, Why: "no connection"}, "451 4.7.5"},
		{sts.Found{Failure: mail.STSPolicyInvalid, Why: "no mode"}, "550 5.7.10"},
		{sts.Found{}, "550 5.7.10"},
	} {
		p := &peer{tls: good, ext: []string{"STARTTLS", "REQUIRETLS"}}
		c := courier(t, peers(t, p), oneHost, func(o *Options) {
			o.TLS = &tls.Config{RootCAs: a.pool()}
			o.STS = func(context.Context, string) (sts.Found, error) { return tc.found, nil }
		})
		env := envelope("s@martlet.test", "a@example.org")
		env.RequireTLS = true
		if r := once(t, c, env); short(r) != tc.want {
			t.Errorf("%+v: %+v", tc.found, r)
		}
		env.RequireTLS = false
		if r := once(t, c, env); r.Code != 250 {
			t.Errorf("%+v, without REQUIRETLS: %+v", tc.found, r)
		}
	}
}

// What a host says of itself for now is not what it lacks, even if its TLSA records are of no
// use.
func TestRequireTLSHostBusy(t *testing.T) {
	a := newCA(t)
	good, _ := a.sign("mx1.example.org", time.Hour, true)
	p := &peer{tls: good, ext: []string{"STARTTLS", "REQUIRETLS"}, answers: map[string]func(int, string) string{"EHLO": func(n int, _ string) string {
		if n == 2 {
			return "450 4.3.2 later"
		}
		return ""
	}}}
	port := peers(t, p)
	c := courier(t, port, signedZone(port, "0 0 1 00"), func(o *Options) { o.TLS = &tls.Config{RootCAs: a.pool()} })
	env := envelope("s@martlet.test", "a@example.org")
	env.RequireTLS = true
	if r := once(t, c, env); short(r) != "450 4.3.2" {
		t.Errorf("%+v", r)
	}
}

// A smarthost, too, must prove its name and know REQUIRETLS, whatever the configuration lets
// it get away with.
func TestRequireTLSSmarthost(t *testing.T) {
	a := newCA(t)
	good, _ := a.sign("smart.test", time.Hour, true)
	wrong, _ := a.sign("elsewhere.test", time.Hour, true)
	full := []string{"STARTTLS", "REQUIRETLS"}
	for _, tc := range []struct {
		name string
		peer *peer
		host Smarthost
		want string
	}{
		{"all is well", &peer{tls: good, ext: full}, Smarthost{}, "250 2.0.0"},
		{"does not know it", &peer{tls: good, ext: full[:1]}, Smarthost{}, "550 5.7.30"},
		{"any certificate is allowed", &peer{tls: wrong, ext: full}, Smarthost{AnyCert: true}, "550 5.7.10"},
		{"no TLS is allowed", &peer{ext: full[1:]}, Smarthost{TLS: SmarthostPlain}, "550 5.7.10"},
	} {
		tc.host.Host, tc.host.Port = "smart.test", peers(t, tc.peer)
		c := courier(t, 1, "smart.test. IN A 127.0.0.1\n", func(o *Options) {
			o.TLS, o.Smarthost = &tls.Config{RootCAs: a.pool()}, &tc.host
		})
		env := envelope("s@martlet.test", "a@example.org")
		env.RequireTLS = true
		r := once(t, c, env)
		if n, _ := tc.peer.got(); short(r) != tc.want || n == 1 != (r.Code == 250) {
			t.Errorf("%s: %+v, %d mails", tc.name, r, n)
		}
	}
}

// TLS-Required: No is for telling of broken certificates: neither DANE nor a lookup that fails
// keeps it.
func TestTLSOptionalDANE(t *testing.T) {
	a := newCA(t)
	good, leaf := a.sign("mx1.example.org", time.Hour, true)
	for name, tc := range map[string]struct {
		peer *peer
		zone string
	}{
		"no match":     {&peer{tls: good, ext: []string{"STARTTLS"}}, signedZone(0, tlsaOf(3, 1, 1, a.cert))},
		"broken TLS":   {&peer{tls: &tls.Config{}, ext: []string{"STARTTLS"}}, signedZone(0, tlsaOf(3, 1, 1, leaf))},
		"no TLS":       {&peer{}, signedZone(0, tlsaOf(3, 1, 1, leaf))},
		"bogus answer": {&peer{tls: good, ext: []string{"STARTTLS"}}, signedZone(0, tlsaOf(3, 1, 1, leaf)) + "! servfail _0._tcp.mx1.example.org\n"},
	} {
		for _, optional := range []bool{true, false} {
			port := peers(t, tc.peer)
			c := courier(t, port, strings.ReplaceAll(tc.zone, "_0.", fmt.Sprintf("_%d.", port)), nil)
			env := envelope("s@martlet.test", "a@example.org")
			env.TLSOptional = optional
			if r := once(t, c, env); r.Code == 250 != optional {
				t.Errorf("%s, %v: %+v", name, optional, r)
			}
		}
	}
}

// It is about what the recipient's side publishes: what the administrator asks for on a route
// stands (RFC 8689, 4.2.2).
func TestTLSOptionalAndRoutes(t *testing.T) {
	a := newCA(t)
	good, leaf := a.sign("mx1.example.org", time.Hour, true)
	wrong, _ := a.sign("elsewhere.test", time.Hour, true)
	offered := []string{"STARTTLS"}
	for name, tc := range map[string]struct {
		mode TLSMode
		peer *peer
		zone string
		want string
	}{
		"required, no TLS":            {TLSRequired, &peer{}, oneHost, "454 4.7.0"},
		"required, any certificate":   {TLSRequired, &peer{tls: wrong, ext: offered}, oneHost, "250 2.0.0"},
		"verified, no TLS":            {TLSVerified, &peer{}, oneHost, "454 4.7.0"},
		"verified, wrong certificate": {TLSVerified, &peer{tls: wrong, ext: offered}, oneHost, "454 4.7.5"},
		"verified, broken TLS":        {TLSVerified, &peer{tls: &tls.Config{}, ext: offered}, oneHost, "454 4.7.5"},
		"dane, no records":            {TLSDANE, &peer{tls: good, ext: offered}, oneHost, "451 4.7.5"},
		"dane, no match":              {TLSDANE, &peer{tls: good, ext: offered}, signedZone(0, tlsaOf(3, 1, 1, a.cert)), "454 4.7.5"},
		"dane, bogus answer":          {TLSDANE, &peer{}, signedZone(0, tlsaOf(3, 1, 1, leaf)) + "! servfail _0._tcp.mx1.example.org\n", "451 4.7.5"},
		"auto, no match":              {TLSAuto, &peer{tls: good, ext: offered}, signedZone(0, tlsaOf(3, 1, 1, a.cert)), "250 2.0.0"},
		"opportunistic, no TLS":       {TLSOpportunistic, &peer{}, oneHost, "250 2.0.0"},
	} {
		port := peers(t, tc.peer)
		c := courier(t, port, strings.ReplaceAll(tc.zone, "_0.", fmt.Sprintf("_%d.", port)), func(o *Options) {
			o.TLS = &tls.Config{RootCAs: a.pool()}
			o.Routes = []Route{{Domain: "example.org", TLS: tc.mode}}
		})
		env := envelope("s@martlet.test", "a@example.org")
		env.TLSOptional = true
		r := once(t, c, env)
		if n, _ := tc.peer.got(); short(r) != tc.want || n == 1 != (r.Code == 250) {
			t.Errorf("%s: %+v, %d mails", name, r, n)
		}
	}
}

// What the administrator says of a domain counts before what DNS says.
func TestOwnRoutes(t *testing.T) {
	a := newCA(t)
	good, _ := a.sign("mx2.example.org", time.Hour, true)
	p1, p2 := &peer{}, &peer{tls: good, ext: []string{"STARTTLS"}}
	port := peers(t, p1, p2)
	zone := oneHost + "sub.example.org. IN MX 1 mx1.example.org.\nother.test. IN MX 1 mx1.example.org.\n"
	c := courier(t, port, zone, func(o *Options) {
		o.TLS = &tls.Config{RootCAs: a.pool()}
		o.AllowPrivate = false
		o.Routes = []Route{
			{Domain: "Example.ORG", Host: "MX2.example.org", TLS: TLSVerified},
			{Domain: ".example.org", Host: "127.0.0.1"},
			{Domain: "bad.test", Host: "missing.test"},
			{Domain: "*", Host: "127.0.0.2", TLS: TLSVerified},
		}
	})
	for domain, want := range map[string]string{
		"example.org":          "250 2.0.0 mx2.example.org pkix",
		"sub.example.org":      "250 2.0.0 127.0.0.1 ",
		"deep.sub.example.org": "250 2.0.0 127.0.0.1 ",
		"bad.test":             "451 4.3.5  ",
		"other.test":           "454 4.7.5  opportunistic", // its certificate is not for an address
	} {
		r := once(t, c, envelope("", "a@"+domain))
		if got := fmt.Sprintf("%s %s %s", short(r), r.Host, r.Line.Verified); got != want {
			t.Errorf("%s: %s, want %s (%+v)", domain, got, want, r)
		}
	}
	if _, err := New(Options{Resolver: c.opt.Resolver, Hostname: "x.test", Routes: []Route{{Domain: "a b"}}}); !fault.Is(err, fault.Invalid) {
		t.Errorf("%v", err)
	}
}
