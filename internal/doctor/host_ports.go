package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"strings"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/publish"
)

const startServer = "start the server: martlet serve, or systemctl start martlet"

func (d *Doctor) adminSocket(ctx context.Context) finding {
	if d.Machine.Socket == nil {
		return skip("nothing is known of the admin socket")
	}
	if err := d.Machine.Socket(ctx); err != nil {
		return fail(startServer, "no server answers on the admin socket: %v", err)
	}
	return ok("the server runs and can be administered")
}

func (d *Doctor) port25Listen(ctx context.Context) finding {
	l, found := d.listener("smtp")
	if !found {
		return fail("add to the configuration: [[listen]] protocol = \"smtp\" address = \":25\"", "the configuration has no listener for smtp, so no mail can come")
	}
	_, port, _ := net.SplitHostPort(l.Address)
	if door := d.smtp(ctx); door.err != nil {
		return fail(startServer, "nothing answers on %s: %v", l.Address, door.err)
	}
	if port != "25" {
		return fail("set address = \":25\" for smtp in the configuration, or hand port 25 on to port "+port, "smtp is served on port %s, and other hosts come to port 25", port)
	}
	return ok("port 25 answers")
}

// port25In comes to the public addresses, as far as that can be done from here.
func (d *Doctor) port25In(ctx context.Context) finding {
	if len(d.Site.Addresses) == 0 {
		return skip("nothing is known of the addresses of this server")
	}
	for _, a := range d.Site.Addresses {
		c, err := d.dial(ctx, net.JoinHostPort(a.String(), "25"))
		if err != nil {
			return warn("let TCP port 25 in: in the firewall of this machine and of the provider; if a router translates addresses, have it hand port 25 on",
				"port 25 of %s does not answer from this machine (%v); a router may not let it come back to itself, so try from outside, too", a, err)
		}
		_, _, err = c.reply()
		c.close()
		if err != nil {
			return warn("see what listens on port 25 of this address", "port 25 of %s gives no greeting: %v", a, err)
		}
	}
	return ok("port 25 of each address answers from this machine; whether a firewall outside lets it in, a message from elsewhere shows")
}

// port25Out comes to mail hosts that are known to answer.
func (d *Doctor) port25Out(ctx context.Context) finding {
	if d.Site.Smarthost != "" {
		return skip("all mail goes out through %s", d.Site.Smarthost)
	}
	fix := "ask the provider to open outgoing port 25 (many do so on request), or send through a smarthost: [queue.smarthost]"
	var last error
	for _, domain := range d.Probe {
		hosts, _, err := d.Resolver.LookupMX(ctx, domain)
		if err != nil {
			continue
		}
		for _, h := range hosts[:min(2, len(hosts))] {
			addrs, _, err := d.Resolver.LookupIP(ctx, h.Host, false)
			if err != nil {
				addrs, _, err = d.Resolver.LookupIP(ctx, h.Host, true)
			}
			if err != nil || len(addrs) == 0 {
				continue
			}
			if last = d.greeted(ctx, addrs[0]); last == nil {
				return ok("port 25 of other hosts can be reached (%s)", h.Host)
			}
			last = errors.Join(errors.New(h.Host), last)
			if ctx.Err() != nil {
				return fail(fix, "port 25 of other hosts does not answer (%s)", oneLine(last))
			}
		}
	}
	if last == nil {
		return skip("no mail host of %s could be looked up", strings.Join(d.Probe, ", "))
	}
	return fail(fix, "port 25 of other hosts does not answer (%s)", oneLine(last))
}

// smarthost sees whether the relay answers.
func (d *Doctor) smarthost(ctx context.Context) finding {
	if d.Smarthost == "" {
		return ok("mail goes out to the hosts that the DNS names")
	}
	conn, err := d.dialName(ctx, "tcp", d.Smarthost)
	if err != nil {
		return fail("see host and port in [queue.smarthost], and whether outgoing connections to that port are let through", "the smarthost %s does not answer: %s", d.Smarthost, oneLine(err))
	}
	conn.Close()
	return ok("the smarthost %s answers", d.Smarthost)
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

func (d *Doctor) greeted(ctx context.Context, a netip.Addr) error {
	c, err := d.dial(ctx, net.JoinHostPort(a.String(), "25"))
	if err != nil {
		return err
	}
	defer c.close()
	if _, _, err = c.reply(); err == nil {
		_, _ = c.conn.Write([]byte("QUIT\r\n")) // out of courtesy
	}
	return err
}

func (d *Doctor) greets(ctx context.Context) finding {
	door := d.smtp(ctx)
	switch {
	case door.err != nil:
		return skip("port 25 does not answer")
	case door.code != "220":
		return fail("see the server's log", "port 25 greets with %s, and turns everybody away", door.code)
	case !strings.EqualFold(door.greeting, d.Site.Hostname):
		return warn("see what else listens on port 25 of this machine: ss -ltnp 'sport = :25'", "port 25 greets as %q, not as %s; is it another program?", door.greeting, d.Site.Hostname)
	}
	return ok("port 25 greets as %s", d.Site.Hostname)
}

func (d *Doctor) startTLS(ctx context.Context) finding {
	door := d.smtp(ctx)
	switch {
	case door.err != nil:
		return skip("port 25 does not answer")
	case !door.starttls:
		return fail("give the server a certificate: [tls.acme] enabled = true, or certificate and key in [tls]; and leave tls = \"none\" out of the listener for smtp", "port 25 offers no STARTTLS; mail comes in the clear")
	case door.tlsErr != nil:
		return fail("see the server's log for why the handshake fails", "STARTTLS on port 25 fails: %v", door.tlsErr)
	}
	return ok("port 25 speaks %s", tls.VersionName(door.tls.Version))
}

// tlsVersions tries what has been given up (RFC 8996).
func (d *Doctor) tlsVersions(ctx context.Context) finding {
	l, found := d.listener("submissions", "imaps", "pop3s", "https")
	if !found {
		return skip("there is no listener with TLS from the first byte")
	}
	c, err := d.dial(ctx, l.Address)
	if err != nil {
		return skip("%s does not answer: %v", l.Address, err)
	}
	defer c.close()
	if state, err := d.handshake(ctx, c.conn, d.Site.Hostname, tls.VersionTLS11); err == nil {
		return fail("set min_version = \"1.2\" in [tls]", "old %s is spoken on %s", tls.VersionName(state.Version), l.Address)
	}
	return ok("TLS 1.0 and 1.1 are not spoken")
}

// people looks at a listener of people's programs.
func (d *Doctor) people(ctx context.Context, what, fix string, protocols ...string) finding {
	l, found := d.listener(protocols...)
	if !found {
		return warn(fix, "there is no listener for %s", what)
	}
	c, err := d.dial(ctx, l.Address)
	if err != nil {
		return fail(startServer, "%s on %s does not answer: %v", l.Protocol, l.Address, err)
	}
	defer c.close()
	if l.Implicit {
		t := tls.Client(c.conn, &tls.Config{ServerName: d.Site.Hostname, Time: d.Now, InsecureSkipVerify: true}) // certificate-chain judges
		if err := t.HandshakeContext(ctx); err != nil {
			return fail("see the server's log for why the handshake fails", "TLS on %s fails: %v", l.Address, err)
		}
		c = newClient(t)
	}
	text, err := c.line()
	if err != nil {
		return fail("see the server's log", "%s on %s gives no greeting: %v", l.Protocol, l.Address, err)
	}
	if !strings.HasPrefix(text, "220") && !strings.HasPrefix(text, "* OK") && !strings.HasPrefix(text, "+OK") {
		return fail("see the server's log", "%s on %s greets with %q", l.Protocol, l.Address, text)
	}
	return ok("%s answers on %s", l.Protocol, l.Address)
}

func (d *Doctor) submission(ctx context.Context) finding {
	return d.people(ctx, "sending mail by people's programs", "add to the configuration: [[listen]] protocol = \"submissions\" address = \":465\"", "submissions", "submission")
}

func (d *Doctor) mailboxes(ctx context.Context) finding {
	return d.people(ctx, "reading mail by people's programs", "add to the configuration: [[listen]] protocol = \"imaps\" address = \":993\"", "imaps", "imap", "pop3s", "pop3")
}

// relayWays are spellings of an address elsewhere by which servers were led to send mail on
// for strangers. HOST stands for the name of this server.
var relayWays = []string{
	"<relay-test@relay-test.invalid>",
	"<relay-test%relay-test.invalid@HOST>",
	"<@HOST:relay-test@relay-test.invalid>",
	"<\"relay-test@relay-test.invalid\"@HOST>",
	"<relay-test.invalid!relay-test@HOST>",
	"<relay-test@[192.0.2.1]>",
	"<relay-test@[IPv6:2001:db8::1]>",
	"<relay-test%relay-test.invalid@[127.0.0.1]>",
}

func (d *Doctor) openRelay(ctx context.Context) finding {
	l, found := d.listener("smtp")
	if !found || d.smtp(ctx).err != nil {
		return skip("port 25 does not answer")
	}
	c, err := d.dial(ctx, l.Address)
	if err != nil {
		return skip("port 25 does not answer: %v", err)
	}
	defer c.close()
	if _, _, err = c.reply(); err == nil {
		_, _, err = c.say("EHLO " + d.Site.Hostname)
	}
	if err == nil {
		_, _, err = c.say("MAIL FROM:<>")
	}
	if err != nil {
		return skip("port 25 does not answer: %v", err)
	}
	for _, way := range relayWays {
		rcpt := strings.ReplaceAll(way, "HOST", d.Site.Hostname)
		code, lines, err := c.say("RCPT TO:" + rcpt)
		if err != nil {
			break // turned away, which is as good as refused
		}
		if strings.HasPrefix(code, "2") && !d.local(ctx, rcpt) {
			return fail("see what listens on port 25 of this machine; this server relays for nobody who has not logged in", "a stranger may send mail on to %s (%s %s)", rcpt, code, strings.Join(lines, " "))
		}
	}
	return ok("nobody can send mail on to others without a login")
}

// local tells whether a spelling is an address here, be it by a catch-all.
func (d *Doctor) local(ctx context.Context, path string) bool {
	addr, err := mail.ParseAddress(strings.Trim(path, "<>"))
	if err != nil || d.Exists == nil {
		return false
	}
	found, err := d.Exists(ctx, addr)
	return err == nil && found
}

func (d *Doctor) loop(ctx context.Context, dom publish.Domain) finding {
	if d.Loop == nil {
		return skip("no message can be sent and found again from here")
	}
	if err := d.Loop(ctx, dom.Name); err != nil {
		return fail("see the server's log, and: martlet trace postmaster@"+dom.Name, "a message to postmaster@%s over port 25 did not arrive: %v", dom.Name, err)
	}
	return ok("a message to postmaster@%s came in over port 25 and was in its mailbox", dom.Name)
}
