package main

import (
	"context"
	"crypto/x509"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/internal/discover/format"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/guard"
	"github.com/martlet-mail/martlet/internal/serve/autoconf"
)

// This file says what mail programs are told of this server.

// settings answers programs that ask for them.
func (h *house) settings() *autoconf.Server {
	a := h.cfg.Autoconfig
	ask := guard.New(guard.Options{Now: time.Now, PerAddress: a.Requests, PerNetwork: 5 * a.Requests})
	own := sync.OnceValue(addressesHere)
	near := func(peer netip.Addr) bool {
		return peer.IsLoopback() || slices.Contains(own(), peer) || slices.ContainsFunc(h.cfg.Trusted, func(p netip.Prefix) bool { return p.Contains(peer) })
	}
	o := autoconf.Options{
		Hostname: asciiName(string(h.cfg.Hostname)), Services: announced(h.cfg), Provider: announcedProvider(h.cfg), Web: webBase(h.cfg),
		Secure: publicHTTPS(h.cfg), IsLocal: h.directory.IsLocal, Any: h.trying, Now: time.Now, Log: h.log,
		Sign: h.profileSigner(),
		Near: near,
		Allow: func(peer netip.Addr) error {
			if near(peer) { // the doctor, too, asks much at once
				return nil
			}
			return ask.Begin(peer)
		},
	}
	return autoconf.New(o)
}

// profileSigner signs profiles for Apple's devices, if the configuration wants that: by default
// only with a certificate that devices know, as they show others as broken.
func (h *house) profileSigner() func(context.Context, []byte) ([]byte, error) {
	how := h.cfg.Autoconfig.Sign
	if how == "never" {
		return nil
	}
	return func(_ context.Context, profile []byte) ([]byte, error) {
		cert, chain, err := h.mailKeyPair()
		if err != nil {
			return nil, err
		}
		if len(chain) == 0 {
			return nil, fault.New(fault.NotFound, "there is no certificate yet")
		}
		if how == "auto" {
			between := x509.NewCertPool()
			for _, c := range chain[1:] {
				between.AddCert(c)
			}
			if _, err := chain[0].Verify(x509.VerifyOptions{Intermediates: between, CurrentTime: time.Now(), DNSName: announcedHost(h.cfg)}); err != nil {
				return nil, fault.Wrap(fault.NotFound, "the authorities of this system do not vouch for the certificate", err)
			}
		}
		return format.Sign(profile, chain, cert.PrivateKey)
	}
}

// peoplesProtocols are those that people's programs speak, in the order in which they are
// told of them, and what each is called there.
var peoplesProtocols = []struct{ listener, protocol conf.Protocol }{
	{"imaps", "imap"}, {"imap", "imap"}, {"pop3s", "pop3"}, {"pop3", "pop3"}, {"submissions", "smtp"}, {"submission", "smtp"},
}

// announced are the services of a configuration, those with TLS from the first byte first. A
// protocol without TLS is told of only where nobody else can listen.
func announced(cfg *conf.Config) (all []discover.Service) {
	auth := []string{"password"}
	if cfg.Autoconfig.OAuth {
		auth = append(auth, "oauth2")
	}
	for _, p := range peoplesProtocols {
		l, security, ok := announcedListener(cfg, p.listener)
		if !ok {
			continue
		}
		all = append(all, discover.Service{
			Protocol: string(p.protocol), Host: announcedHost(cfg), Port: announcedPort(cfg, l), Security: security,
			Username: format.WholeAddress, Auth: auth, Source: "own", Confidence: discover.Verified,
		})
	}
	return all
}

// announcedListener is the listener of a protocol that all are told of, whichever way they ask,
// and its security: the first that can be used, one on loopback only if no other can. Those for
// old programs are for whoever knows of them.
func announcedListener(cfg *conf.Config, protocol conf.Protocol) (found conf.Listen, security string, ok bool) {
	hasTLS := cfg.TLS.Certificate != "" || cfg.TLS.ACME.Enabled
	for _, l := range cfg.Listen {
		if l.Protocol != protocol || l.Legacy || announcedPort(cfg, l) == 0 {
			continue
		}
		var how string
		switch {
		case l.TLS == conf.Implicit:
			how = discover.TLS
		case l.TLS == conf.StartTLS && hasTLS:
			how = discover.StartTLS
		case loopback(l.Address) && announcedHost(cfg) == "localhost":
			how = "none"
		default:
			continue
		}
		if !loopback(l.Address) {
			return l, how, true
		}
		if !ok {
			found, security, ok = l, how, true
		}
	}
	return found, security, ok
}

// announcedPort is where clients reach a listener.
func announcedPort(cfg *conf.Config, l conf.Listen) int {
	if port := cfg.Autoconfig.Port(l.Protocol); port > 0 {
		return port
	}
	_, port, _ := net.SplitHostPort(string(l.Address))
	n, _ := strconv.Atoi(port)
	return n
}

// announcedHost is the name that clients are told, which has a certificate for sure.
func announcedHost(cfg *conf.Config) string {
	switch host := string(cfg.Autoconfig.Host); {
	case host != "":
		return asciiName(host)
	case onlyHere(cfg):
		return "localhost"
	}
	return asciiName(string(cfg.Hostname))
}

// onlyHere tells whether a server can be reached on this machine alone: everything listens on
// loopback, and no name service ever knows its name (RFC 6761).
func onlyHere(cfg *conf.Config) bool {
	name := string(cfg.Hostname)
	unknown := name == "localhost" || strings.HasSuffix(name, ".localhost") || strings.HasSuffix(name, ".test") || strings.HasSuffix(name, ".invalid")
	return unknown && !slices.ContainsFunc(cfg.Listen, func(l conf.Listen) bool { return !loopback(l.Address) })
}

func announcedProvider(cfg *conf.Config) format.Provider {
	a, o := cfg.Autoconfig, cfg.OAuth
	p := format.Provider{Name: a.Name, Help: string(a.Help), MX: asciiName(string(cfg.Hostname))}
	if a.OAuth {
		p.OAuth = &format.OAuth{Issuer: string(o.Issuer), Authorization: string(a.OAuthAuthorizationURL), Token: string(a.OAuthTokenURL), Scope: o.Scope}
	}
	return p
}

// publicHTTPS is the port of https at which strangers reach this server, 0 if they do not: on
// loopback only somebody in front of it could bring them, whose port is in the configuration.
func publicHTTPS(cfg *conf.Config) int {
	l, _, ok := announcedListener(cfg, "https")
	if !ok || loopback(l.Address) && cfg.Autoconfig.HTTPS == 0 {
		return 0
	}
	return announcedPort(cfg, l)
}

// webBase is where URLs that lead here begin, "" without https.
func webBase(cfg *conf.Config) string {
	l, _, ok := announcedListener(cfg, "https")
	if !ok {
		return ""
	}
	host := announcedHost(cfg)
	if port := announcedPort(cfg, l); port != 443 {
		host = net.JoinHostPort(host, strconv.Itoa(port))
	}
	return "https://" + host
}
