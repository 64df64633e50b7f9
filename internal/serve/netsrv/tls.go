package netsrv

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// tlsConfig returns the configuration of every service: TLS 1.2 and 1.3 with Go's
// choice of suites, which is that of RFC 9325. No client is asked for a certificate.
func tlsConfig(o Options) *tls.Config {
	if o.Certificate == nil {
		return nil
	}
	return &tls.Config{
		Time:       o.Now,
		MinVersion: max(o.MinVersion, tls.VersionTLS12),
		// Small records at first are for pages that are shown as they come. They cost a
		// write each.
		DynamicRecordSizingDisabled: true,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert, err := o.Certificate(hello)
			if raw, ok := hello.Conn.(*pacedConn); ok && err == nil && cert != nil {
				raw.leaf = cert
			}
			return cert, err
		},
	}
}

// CanStartTLS tells whether the protocol may offer its STARTTLS command now.
func (c *Conn) CanStartTLS() bool {
	return c.svc.TLS == StartTLS && c.srv.tls != nil && c.tls == nil
}

// StartTLS begins TLS after the protocol has written its go-ahead, which it
// flushes. Bytes that came before the handshake could have been put there by
// anybody on the path; if R holds any, StartTLS does nothing but fail with kind
// Invalid. After an error the handler must return. Bytes read before are forgotten
// by netsrv; what the protocol itself knows of the client it must forget too.
func (c *Conn) StartTLS(ctx context.Context) error {
	if !c.CanStartTLS() {
		return fault.New(fault.Unsupported, "TLS is not available")
	}
	if c.R.Buffered() > 0 || c.hasFirst {
		c.over = "plain bytes after STARTTLS"
		return fault.New(fault.Invalid, "nothing may follow STARTTLS before the handshake")
	}
	if err := c.flush(); err != nil {
		return err
	}
	if err := c.handshake(ctx); err != nil {
		return err
	}
	c.release()
	c.acquire()
	return nil
}

// maxHandshake is how many bytes a client may send in a handshake. Package tls keeps up to
// 64 KB of each message; a hello has one or two, with a chain of certificates ten.
const maxHandshake = 24 << 10

var errHandshakeSize = errors.New("a handshake of more than 24 KB")

// handshake runs under one deadline for all of it, so that a peer cannot keep it
// going by single bytes.
func (c *Conn) handshake(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.srv.opt.Handshake)
	defer cancel()
	c.raw.fixed = time.Now().Add(c.srv.opt.Handshake)
	c.raw.most = c.raw.in + maxHandshake
	config := c.srv.tls
	if c.svc.ClientCertificates && c.srv.mutual != nil {
		config = c.srv.mutual
	}
	tc := tls.Server(&c.raw, config)
	err := tc.HandshakeContext(ctx)
	c.raw.fixed, c.raw.most = time.Time{}, 0
	c.raw.restart()
	if err != nil {
		c.srv.handshakes.Add(1)
		c.over = "handshake failed"
		c.Log().Info("TLS handshake failed", "peer", c.peer, "err", err)
		return fault.Wrap(fault.Closed, "TLS handshake failed", err)
	}
	c.tls = tc
	st := tc.ConnectionState()
	c.Log().Debug("TLS begins", "version", describe(st.Version), "suite", tls.CipherSuiteName(st.CipherSuite),
		"name", st.ServerName, "resumed", st.DidResume, "certificate", len(st.VerifiedChains) > 0)
	return nil
}

// TLS returns the state of TLS; ok is false in plain text.
func (c *Conn) TLS() (st tls.ConnectionState, ok bool) {
	if c.tls == nil {
		return st, false
	}
	return c.tls.ConnectionState(), true
}

// asking returns a configuration that asks clients for a certificate of one of the
// authorities. A client may have none; one of another authority, or one that is over or
// revoked, ends the handshake.
func asking(plain *tls.Config, o Options) *tls.Config {
	if plain == nil || o.ClientCAs == nil {
		return nil
	}
	c := plain.Clone()
	c.ClientAuth, c.ClientCAs = tls.VerifyClientCertIfGiven, o.ClientCAs
	if o.Revoked != nil {
		c.VerifyConnection = o.Revoked.refuse
	}
	return c
}

// ClientCertificate returns the certificate whose key the client has proven to have and
// which one of Options.ClientCAs has signed, nil if there is none.
func (c *Conn) ClientCertificate() *x509.Certificate {
	if c.tls == nil {
		return nil
	}
	if st := c.tls.ConnectionState(); len(st.VerifiedChains) > 0 {
		return st.PeerCertificates[0]
	}
	return nil
}
