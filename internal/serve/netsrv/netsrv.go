// Package netsrv is the ground the protocol servers stand on: listeners, TLS,
// deadlines, limits, a graceful stop and one log with one id per connection.
//
// A protocol is a Handler. It reads from Conn.R, writes to Conn.W, and parks before each
// command (Conn.Park, or Conn.Wait, which keeps the goroutine); everything else (who may connect, how slow a
// peer may be, what happens on a panic or at shutdown) is decided here, alike for
// all protocols. The package knows no protocol: even the line that refuses a peer
// over the limits is given by the service.
//
// It does not authenticate, and it does not limit what a session does once it runs,
// apart from its pace and from its share of the processors: a session takes a turn of
// its account for each command (package turn), and rests while it waits for its client.
//
// RFC 8446 and 9325 (TLS), RFC 5929 and 9266 (channel bindings), RFC 4978 and 1951
// (compression), and the PROXY protocol of HAProxy, versions 1 and 2.
package netsrv

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/martlet-mail/martlet/internal/turn"
)

// Handler speaks one protocol over one connection and returns when the session is
// over; the connection is then flushed and closed. When the server stops, a handler hears
// of it from Conn.Wait; ctx ends when most of Options.Grace is over and what is still under
// way must be given up. A panic ends this session alone.
type Handler func(ctx context.Context, c *Conn)

// TLSMode says how a service comes to TLS.
type TLSMode uint8

const (
	NoTLS       TLSMode = iota // never
	StartTLS                   // by a command of the protocol, through Conn.StartTLS
	ImplicitTLS                // from the first byte
)

// Service is one protocol as one listener offers it.
type Service struct {
	Name   string // "smtp", "imaps": for logs and counters
	TLS    TLSMode
	Handle Handler

	// Refuse is written, with CRLF, to a peer that is over the limits before it is
	// closed: "421 4.7.0 too many connections". With ImplicitTLS nothing is written.
	Refuse string

	// Idle is how long Wait waits for the client; 0 means that of Options.
	Idle time.Duration

	// People is for services whose clients are to sign in: one that has not by
	// Options.Login is cut off, whatever it says meanwhile.
	People bool

	// Proxies are networks whose connections begin with a header of the PROXY protocol that
	// names the client. From others it counts for nothing.
	Proxies []netip.Prefix

	// ClientCertificates asks clients for a certificate if Options has ClientCAs. It is
	// for services of people: other hosts may show certificates that nobody here knows.
	ClientCertificates bool
}

// Options of a Server. Every field may be left zero.
type Options struct {
	Log *slog.Logger

	// Certificate chooses the certificate of a TLS connection: Certificates.Get, or
	// that of an ACME client. Without it no service offers TLS.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)

	MinVersion uint16 // of TLS; default tls.VersionTLS12, and never below

	ClientCAs *x509.CertPool // who signs clients' certificates; nil: none is asked for
	Revoked   *Revocations   // those that are void all the same; nil: none

	NoChannelBinding bool // ChannelBinding has none to give

	// Trusted networks may log in without TLS and are exempt from MaxPerAddress. Nil
	// means loopback. Peers without an IP address (unix sockets, pipes) are trusted.
	Trusted []netip.Prefix

	// Scarce tells whether a connection has taken one of the last file descriptors that
	// the process may have, which are for files: it is refused. Nil: there are enough.
	Scarce func(net.Conn) bool

	MaxConns      int // over all services; default 20,000
	MaxPerAddress int // before login, per IPv4 address or IPv6 /64; default 100
	MaxPerAccount int // after login, over all services and addresses; default 100

	Idle      time.Duration // default of Service.Idle: 5 minutes (RFC 5321, 4.5.3.2.7)
	Login     time.Duration // from the first byte to SignIn, see Service.People; default 3 minutes
	Stall     time.Duration // see Conn.Wait; default 2 minutes
	MinRate   int           // bytes per second, see Conn.Wait; default 100
	Handshake time.Duration // for a whole TLS handshake; default 30 seconds
	Grace     time.Duration // from stop to hard close; default 4 seconds

	Processors int // that sessions share (package turn); default: all of this process

	Now   func() time.Time // for certificates and tickets of TLS; default the one of package tls
	NewID func() string    // names a connection; default a running number
}

// Server runs services under common limits.
type Server struct {
	opt    Options
	tls    *tls.Config // nil: no certificate
	mutual *tls.Config // the same, asking for the client's; nil: nobody is asked

	mu        sync.Mutex
	conns     int
	byAddr    map[netip.Prefix]int
	byAccount map[string]int

	gate  *turn.Gate
	lot   lot   // of connections that wait
	calls calls // those of them that were woken

	accepted, refused, panics, handshakes atomic.Int64
}

// Stats are counters since the start, but for Open.
type Stats struct {
	Open     int   // connections now
	Accepted int64 // connections handed to a handler
	Refused  int64 // connections over the limits
	Panics   int64 // sessions ended by a panic
	BadTLS   int64 // failed handshakes
}

// New returns a server that listens on nothing yet.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Trusted == nil {
		o.Trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	}
	o.MaxConns = orInt(o.MaxConns, 20_000)
	o.MaxPerAddress = orInt(o.MaxPerAddress, 100)
	o.MaxPerAccount = orInt(o.MaxPerAccount, 100)
	o.MinRate = orInt(o.MinRate, 100)
	o.Idle = orTime(o.Idle, 5*time.Minute)
	o.Login = orTime(o.Login, 3*time.Minute)
	o.Stall = orTime(o.Stall, 2*time.Minute)
	o.Handshake = orTime(o.Handshake, 30*time.Second)
	o.Grace = orTime(o.Grace, 4*time.Second)
	if o.NewID == nil {
		var last atomic.Uint64
		o.NewID = func() string { return strconv.FormatUint(last.Add(1), 10) }
	}
	plain := tlsConfig(o)
	return &Server{
		opt: o, tls: plain, mutual: asking(plain, o),
		byAddr: map[netip.Prefix]int{}, byAccount: map[string]int{}, gate: turn.NewGate(o.Processors),
	}
}

// Stats returns the counters as they are now.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	open := s.conns
	s.mu.Unlock()
	return Stats{
		Open: open, Accepted: s.accepted.Load(), Refused: s.refused.Load(),
		Panics: s.panics.Load(), BadTLS: s.handshakes.Load(),
	}
}

// Serve runs svc on what ln accepts until ctx ends or ln is closed. It then closes
// ln, lets sessions finish the command they are at, and what they are held for, closes by
// force what is left after Options.Grace, and returns when every session has ended. Its
// error is that of ln, or nil if ctx ended.
func (s *Server) Serve(ctx context.Context, ln net.Listener, svc Service) error {
	sessions, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	unhook := context.AfterFunc(ctx, func() { ln.Close() })
	defer unhook()

	s.lot.begin()
	defer s.lot.end()
	open := newOpenConns()
	err := s.acceptAll(ctx, ln, func(nc net.Conn) {
		open.add(nc)
		go s.begin(sessions, nc, &svc, open)
	})
	ln.Close()
	open.stop(false)
	open.drain(s.opt.Grace, giveUp)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// ServeConn runs svc on one connection and returns when the session is over and
// the connection closed.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn, svc Service) {
	s.lot.begin()
	defer s.lot.end()
	open := newOpenConns()
	open.empty = make(chan struct{})
	open.add(nc)
	session, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	unhook := context.AfterFunc(ctx, func() {
		open.stop(false)
		time.AfterFunc(s.opt.Grace/4*3, func() { giveUp(); open.stop(true) })
	})
	defer unhook()
	s.begin(session, nc, &svc, open)
	<-open.empty
}

// begin runs svc on one connection. The session may be over when it returns, or be
// parked; open knows.
func (s *Server) begin(ctx context.Context, nc net.Conn, svc *Service, open *openConns) {
	peer := peerAddr(nc)
	if svc.isProxy(peer) {
		var err error
		if peer, err = client(nc, peer); err != nil {
			s.refused.Add(1)
			s.opt.Log.Warn("connection of a proxy refused", "service", svc.Name, "proxy", peer, "err", err, "fix", "let it send the header of the PROXY protocol, or take it out of proxies")
			nc.Close()
			open.remove(nc)
			return
		}
	}
	if why := s.admit(nc, peer); why != "" {
		s.refused.Add(1)
		s.opt.Log.Warn("connection refused: "+why, "service", svc.Name, "peer", peer)
		if svc.TLS != ImplicitTLS && svc.Refuse != "" {
			nc.SetWriteDeadline(time.Now().Add(time.Second))
			nc.Write([]byte(svc.Refuse + "\r\n"))
		}
		nc.Close()
		open.remove(nc)
		return
	}
	s.accepted.Add(1)
	c := newConn(s, svc, open, nc, peer)
	open.know(nc, c)
	c.run(ctx)
}

// admit counts a connection, or tells why it is refused.
func (s *Server) admit(nc net.Conn, peer netip.Addr) (why string) {
	switch {
	case s.opt.Scarce != nil && s.opt.Scarce(nc):
		return "few file descriptors are left"
	case !s.enter(peer):
		return "over the limits"
	}
	return ""
}

// counted returns the block of addresses that peer is counted under, if it is. One
// IPv6 customer has a /64 at least, so that is what counts as one address.
func (s *Server) counted(peer netip.Addr) (block netip.Prefix, limited bool) {
	if s.trusts(peer) {
		return block, false
	}
	bits := 32
	if peer.Is6() {
		bits = 64
	}
	block, err := peer.Prefix(bits)
	return block, err == nil
}

func (s *Server) trusts(peer netip.Addr) bool {
	if !peer.IsValid() {
		return true
	}
	for _, p := range s.opt.Trusted {
		if p.Contains(peer) {
			return true
		}
	}
	return false
}

// peerAddr returns the IP address at the far end, or the zero Addr if it has none.
func peerAddr(nc net.Conn) netip.Addr {
	if nc.RemoteAddr() == nil {
		return netip.Addr{}
	}
	ap, err := netip.ParseAddrPort(nc.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

func orInt(v, def int) int {
	if v > 0 {
		return v
	}
	return def
}

func orTime(v, def time.Duration) time.Duration {
	if v > 0 {
		return v
	}
	return def
}
