package bench

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/martlet-mail/martlet/internal/fault"
)

// connect opens a connection to addr, over TLS from the first byte if sec says so.
func (t Target) connect(ctx context.Context, protocol, addr string, sec Security) (net.Conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, "cannot reach the "+protocol+" server at "+addr, err)
	}
	nc = newPrompt(nc)
	if sec != Implicit {
		return nc, nil
	}
	return t.secure(ctx, nc, protocol, addr)
}

// secure begins TLS on a connection, which is closed if that fails.
func (t Target) secure(ctx context.Context, nc net.Conn, protocol, addr string) (net.Conn, error) {
	conf := &tls.Config{}
	if t.TLS.Config != nil {
		conf = t.TLS.Config.Clone()
	}
	if conf.ServerName == "" {
		conf.ServerName, _, _ = net.SplitHostPort(addr)
	}
	tc := tls.Client(nc, conf)
	if err := tc.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, fault.Wrap(fault.Unavailable, "no TLS with the "+protocol+" server at "+addr, err)
	}
	return tc, nil
}
