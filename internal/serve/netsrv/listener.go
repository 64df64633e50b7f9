package netsrv

import (
	"net"
	"net/netip"
	"sync"
)

// Listener is ln with the limits on connections that sessions have, in one count with
// them: for a server, such as that of net/http, that runs its connections itself.
// Connections over the limits are closed without a word.
func (s *Server) Listener(ln net.Listener) net.Listener { return limitedListener{ln, s} }

type limitedListener struct {
	net.Listener
	srv *Server
}

func (l limitedListener) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		peer := peerAddr(nc)
		why := l.srv.admit(nc, peer)
		if why == "" {
			l.srv.accepted.Add(1)
			return &countedConn{Conn: nc, srv: l.srv, peer: peer}, nil
		}
		l.srv.refused.Add(1)
		l.srv.opt.Log.Warn("connection refused: "+why, "address", l.Addr(), "peer", peer)
		nc.Close()
	}
}

// countedConn is counted until it is closed.
type countedConn struct {
	net.Conn
	srv  *Server
	peer netip.Addr
	once sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.srv.leave(&Conn{srv: c.srv, peer: c.peer}) })
	return c.Conn.Close()
}
