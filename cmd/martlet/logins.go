package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/token"
)

// What proves who somebody is, besides passwords: tokens of an issuer and certificates.

// issuer returns who checks access tokens, nil if none are taken.
func issuer(c conf.OAuth, log *slog.Logger) (directory.Tokens, error) {
	if c.Issuer == "" {
		return nil, nil
	}
	secret, err := c.Secret(files)
	if err != nil {
		return nil, misconfigured(err)
	}
	roots, _, err := authorities(c.CA)
	if err != nil {
		return nil, misconfigured(err)
	}
	i, err := token.New(token.Options{
		Issuer: string(c.Issuer), Audience: c.Audience, Scope: c.Scope, Claim: c.Claim, Domain: string(c.Domain),
		KeysURL: string(c.JWKSURL), Introspect: c.Check == "introspection", IntrospectURL: string(c.IntrospectionURL),
		Now: time.Now, Dial: new(net.Dialer).DialContext, Proxy: http.ProxyFromEnvironment,
		ClientID: c.ClientID, ClientSecret: secret, Roots: roots, Log: log,
	})
	if err != nil {
		return nil, misconfigured(err)
	}
	return i, nil
}

// authorities reads certificates of authorities, as a pool and one by one; no file means
// nil.
func authorities(file conf.Path) (*x509.CertPool, []*x509.Certificate, error) {
	if file == "" {
		return nil, nil, nil
	}
	text, err := files.ReadFile(string(file))
	if err != nil {
		return nil, nil, fault.Wrap(fault.Unavailable, "cannot read the authorities in "+string(file), err)
	}
	pool := x509.NewCertPool()
	var all []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, nil, fault.Wrap(fault.Invalid, "cannot read the authorities in "+string(file), err)
		}
		pool.AddCert(cert)
		all = append(all, cert)
	}
	if len(all) == 0 {
		return nil, nil, fault.Newf(fault.Invalid, "%s holds no certificate of an authority", file)
	}
	return pool, all, nil
}

// certificateNames maps the subjects of clients' certificates to accounts.
func certificateNames(list []conf.Client) map[string]string {
	names := map[string]string{}
	for _, c := range list {
		names[c.Subject] = string(c.Account)
	}
	return names
}

// submitter returns what tells accounts that are submission servers from others.
func (h *house) submitter() func(mail.AccountID) bool { return h.among(h.cfg.IMAP.Submitters) }

// administrator returns what tells accounts that may set quotas from others.
func (h *house) administrator() func(mail.AccountID) bool { return h.among(h.cfg.IMAP.Admins) }

// among returns what tells accounts with one of these addresses from others; nil if there
// are no addresses. They are looked up each time: an account may be made after the server
// has started.
func (h *house) among(list []conf.EmailAddress) func(mail.AccountID) bool {
	if len(list) == 0 {
		return nil
	}
	return func(id mail.AccountID) bool {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		for _, text := range list {
			addr, err := mail.ParseAddress(string(text))
			if err != nil {
				continue // conf has checked it
			}
			a, err := h.directory.Lookup(ctx, addr)
			if err != nil && !fault.Is(err, fault.NotFound) {
				h.log.Warn("an account of the configuration could not be looked up", "account", addr, "err", err)
			}
			if err == nil && a.ID == id {
				return true
			}
		}
		return false
	}
}
