package netsrv

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Conn is one connection of a client. R, W and all methods but Wake belong to the
// goroutine of the handler.
type Conn struct {
	// R reads from the client. A read that must wait for the network first flushes
	// W, so that the answers to a pipelined group of commands leave together.
	R *bufio.Reader
	// W writes to the client. Its content leaves at Flush, before a read has to
	// wait, in Wait, and when the handler returns.
	W *bufio.Writer

	srv  *Server
	svc  Service
	id   string
	log  *slog.Logger
	peer netip.Addr
	at   time.Time

	raw  *pacedConn // the socket, with the rule of progress
	tls  *tls.Conn  // nil while in plain text
	zip  *zipped    // nil while nothing is compressed
	over string     // why the session was ended from here, for the log

	account  string // that the connection is counted under, once signedIn
	signedIn bool
	idle     time.Duration // before SetIdle

	readBuf  *bufio.Reader // owner of R's buffer; nil while released
	writeBuf *bufio.Writer // likewise
	first    [1]byte       // the byte that ended Wait, not yet read
	hasFirst bool

	mu      sync.Mutex // guards the rest
	waiting bool
	woken   bool
	stopped bool
}

func newConn(s *Server, svc Service, nc net.Conn, peer netip.Addr) *Conn {
	c := &Conn{
		R: new(bufio.Reader), W: new(bufio.Writer),
		srv: s, svc: svc, id: s.opt.NewID(), peer: peer, at: s.opt.Now(),
	}
	if c.svc.Idle <= 0 {
		c.svc.Idle = s.opt.Idle
	}
	c.idle = c.svc.Idle
	c.raw = &pacedConn{Conn: nc, stall: s.opt.Stall, minRate: s.opt.MinRate}
	c.log = s.opt.Log.With("conn", c.id, "service", svc.Name)
	return c
}

// ID names the connection in logs. It may be shown to the peer, so that a person
// can tell it to whoever reads the logs.
func (c *Conn) ID() string { return c.id }

// Log returns a logger that adds the connection's id and service to each line.
func (c *Conn) Log() *slog.Logger { return c.log }

// LogWith makes each later line of Log carry a key and value more, such as the
// account after login.
func (c *Conn) LogWith(key string, value any) { c.log = c.log.With(key, value) }

// Peer returns the client's IP address; it is not valid for unix sockets and pipes.
func (c *Conn) Peer() netip.Addr { return c.peer }

// Trusted tells whether the client's network is trusted (Options.Trusted).
func (c *Conn) Trusted() bool { return c.srv.trusts(c.peer) }

// MayLogin tells whether a password may travel: under TLS or in a trusted network.
func (c *Conn) MayLogin() bool { return c.tls != nil || c.Trusted() }

// SetIdle changes how long Wait waits, from its next call on. A protocol lengthens
// it after login (30 minutes for IMAP: RFC 9051, 5.4).
func (c *Conn) SetIdle(d time.Duration) { c.svc.Idle = d }

// Wait waits until the client has sent something. It flushes W first and holds no
// buffers while waiting. Call it before each command.
//
// input is false if Wake ended the wait. An error ends the session: kind Closed
// when the client is gone (cause io.EOF or of the network) or the server is
// stopping (see Stopping), Limited when the idle time is over.
//
// From Wait on, reading keeps a rule of progress until the next Wait: all reads
// together may wait for Options.Stall, plus a second for each MinRate bytes that
// came. So a client may pause or be slow, but one byte a minute is cut off soon,
// with an error of kind Limited. Writing keeps the same rule for each write.
func (c *Conn) Wait() (input bool, err error) {
	if c.R.Buffered() > 0 || c.hasFirst {
		c.raw.restart()
		return true, c.stopErr()
	}
	if err := c.flush(); err != nil {
		return false, err
	}
	c.release()
	c.mu.Lock()
	if c.stopped || c.woken {
		c.woken = false
		c.mu.Unlock()
		c.acquire()
		return false, c.stopErr()
	}
	c.waiting = true
	c.raw.waitUntil(time.Now().Add(c.svc.Idle))
	c.mu.Unlock()

	n, err := 0, error(nil)
	for n == 0 && err == nil { // a Read may bring nothing, and pipes do
		n, err = c.read(c.first[:])
	}

	c.mu.Lock()
	c.waiting = false
	woken := n == 0 && c.woken && !c.stopped
	if woken {
		c.woken = false
	}
	c.mu.Unlock()
	c.hasFirst = n > 0
	c.raw.restart()
	c.acquire()
	switch {
	case n > 0:
		return true, nil
	case woken && isTimeout(err):
		return false, nil
	}
	return false, c.readErr(err, "idle for too long")
}

// Wake ends a Wait from another goroutine, the next one if none is running. Calls
// coalesce.
func (c *Conn) Wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.woken = true
	if c.waiting {
		c.raw.interrupt()
	}
}

// Stopping tells whether the server is stopping.
func (c *Conn) Stopping() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopped
}

func (c *Conn) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	if c.waiting {
		c.raw.interrupt()
	}
}

func (c *Conn) stopErr() error {
	if c.Stopping() {
		return fault.New(fault.Closed, "server is stopping")
	}
	return nil
}

// run is the life of a session.
func (c *Conn) run(ctx context.Context) {
	c.acquire()
	defer c.end()
	defer func() {
		if p := recover(); p != nil {
			c.srv.panics.Add(1)
			c.over = "panic"
			c.log.Error("session ended by a panic", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	c.log.Debug("session begins", "peer", c.peer, "local", c.raw.LocalAddr())
	if c.svc.TLS == ImplicitTLS {
		if c.srv.tls == nil {
			c.over = "no certificate"
			return
		}
		if err := c.handshake(ctx); err != nil {
			c.over = "handshake failed"
			return
		}
	}
	c.svc.Handle(ctx, c)
}

func (c *Conn) end() {
	c.flush()
	if c.tls != nil {
		c.raw.fixed = time.Now().Add(time.Second)
		c.tls.Close() // says close_notify
	}
	if c.over == "" {
		c.raw.finish()
	} else {
		c.raw.Close()
	}
	c.release()
	c.log.Info("session ends", "peer", c.peer, "lasted", c.srv.opt.Now().Sub(c.at).Round(time.Millisecond),
		"in", c.raw.in, "out", c.raw.out, "tls", c.tls != nil, "why", c.over)
}

// stream is what R and W stand on.
func (c *Conn) stream() net.Conn {
	if c.tls != nil {
		return c.tls
	}
	return c.raw
}

// source is the reader under R: it gives back the byte that ended Wait, flushes W
// before it waits, and turns errors of the network into faults.
type source struct{ c *Conn }

func (s source) Read(p []byte) (int, error) {
	c := s.c
	if c.hasFirst && len(p) > 0 {
		c.hasFirst = false
		p[0] = c.first[0]
		return 1, nil
	}
	if err := c.flush(); err != nil {
		return 0, err
	}
	n, err := c.read(p)
	if err != nil {
		err = c.readErr(err, "too slow")
	}
	return n, err
}

// sink is the writer under W.
type sink struct{ c *Conn }

func (s sink) Write(p []byte) (int, error) {
	n, err := s.c.write(p)
	switch {
	case err == nil:
	case isTimeout(err):
		s.c.over = "client does not read"
		err = fault.Wrap(fault.Limited, s.c.over, err)
	default:
		err = fault.Wrap(fault.Closed, "connection is gone", err)
	}
	return n, err
}

func (c *Conn) flush() error {
	if c.writeBuf == nil || c.W.Buffered() == 0 {
		return nil
	}
	return c.W.Flush()
}

// readErr gives an error of the network its kind. A clean end between commands is
// Closed with io.EOF as its cause.
func (c *Conn) readErr(err error, slow string) error {
	switch {
	case c.Stopping():
		c.over = "server stops"
		return fault.Wrap(fault.Closed, "server is stopping", err)
	case isTimeout(err):
		c.over = slow
		return fault.Wrap(fault.Limited, slow, err)
	case errors.Is(err, errDeflate):
		c.over = errDeflate.Error()
		return fault.Wrap(fault.Limited, "what you send cannot be decompressed", err)
	case errors.Is(err, io.EOF):
		return fault.Wrap(fault.Closed, "client closed the connection", io.EOF)
	}
	c.over = "connection lost"
	return fault.Wrap(fault.Closed, c.over, err)
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// describe makes a TLS version readable, without the spaces of the standard name.
func describe(version uint16) string {
	return strings.ReplaceAll(tls.VersionName(version), " ", "")
}
