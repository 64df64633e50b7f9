package netsrv

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/turn"
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

	srv   *Server
	svc   *Service
	open  *openConns // that the connection is one of
	id    string
	log   *slog.Logger // nil while parked: most sessions that wait have nothing to log
	with  []any        // what LogWith was told
	peer  netip.Addr
	began time.Time

	raw  pacedConn // the socket, with the rule of progress
	tls  *tls.Conn // nil while in plain text
	zip  *zipped   // nil while nothing is compressed
	over string    // why the session was ended from here, for the log

	account  string // that the connection is counted under, once signedIn
	signedIn bool
	block    string // of addresses, under which it was counted before; "" if it was not
	onBehalf string // of whom it works just now; "" is of itself
	work     turn.Turn
	idle     time.Duration // how long a wait may take

	reader   bufio.Reader  // what R and W point to
	writer   bufio.Writer  //
	readBuf  *bufio.Reader // owner of R's buffer; nil while released
	writeBuf *bufio.Writer // likewise
	first    [1]byte       // the byte that ended Wait, not yet read
	hasFirst bool

	parking

	mu      sync.Mutex // guards the rest
	waiting bool       // a read of listen is under way
	woken   bool
	stopped bool // the server stops
	held    bool // not while the client is in the middle of something
	hurried bool // for which there is no more time
	parked  bool // no goroutine: whoever clears this owns the connection
	armed   bool // the lot will tell of input
}

func newConn(s *Server, svc *Service, open *openConns, nc net.Conn, peer netip.Addr) *Conn {
	c := &Conn{
		srv: s, svc: svc, open: open, id: s.opt.NewID(), peer: peer, began: time.Now(),
		raw: pacedConn{Conn: nc, stall: s.opt.Stall, minRate: s.opt.MinRate},
	}
	c.R, c.W = &c.reader, &c.writer
	c.idle = c.usualIdle()
	c.work = s.gate.Turn()
	if block, limited := s.counted(peer); limited {
		c.block = block.String()
	}
	c.raw.by = c.signInBy()
	boundUnsent(nc)
	return c
}

// usualIdle is how long a wait may take before SetIdle.
func (c *Conn) usualIdle() time.Duration {
	return orTime(c.svc.Idle, c.srv.opt.Idle)
}

// signInBy is when a client that begins now must have signed in; zero: never.
func (c *Conn) signInBy() time.Time {
	if !c.svc.People {
		return time.Time{}
	}
	return time.Now().Add(c.srv.opt.Login)
}

// ID names the connection in logs. It may be shown to the peer, so that a person
// can tell it to whoever reads the logs.
func (c *Conn) ID() string { return c.id }

// Log returns a logger that adds the connection's id and service to each line.
func (c *Conn) Log() *slog.Logger {
	if c.log == nil {
		c.log = c.srv.opt.Log.With("conn", c.id, "service", c.svc.Name).With(c.with...)
	}
	return c.log
}

// LogWith makes each later line of Log carry a key and value more, such as the
// account after login.
func (c *Conn) LogWith(key string, value any) {
	c.with, c.log = append(c.with[:len(c.with):len(c.with)], key, value), nil
}

// Peer returns the client's IP address; it is not valid for unix sockets and pipes.
func (c *Conn) Peer() netip.Addr { return c.peer }

// Trusted tells whether the client's network is trusted (Options.Trusted).
func (c *Conn) Trusted() bool { return c.srv.trusts(c.peer) }

// MayLogin tells whether a password may travel: under TLS or in a trusted network.
func (c *Conn) MayLogin() bool { return c.tls != nil || c.Trusted() }

// stream is what R and W stand on.
func (c *Conn) stream() net.Conn {
	if c.tls != nil {
		return c.tls
	}
	return &c.raw
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
	c.drained = false
	c.work.Rest()
	if !c.signedIn {
		c.releaseWriter() // a stranger may be slow, and there may be many of them
	}
	n, err := c.read(p)
	c.acquire()
	c.work.Resume()
	if err != nil {
		err = c.readErr(err, tooSlow)
	}
	return n, err
}

// sink is the writer under W.
type sink struct{ c *Conn }

func (s sink) Write(p []byte) (int, error) {
	s.c.work.Rest()
	n, err := s.c.write(p)
	s.c.work.Resume()
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
		c.over = stopsNow
		return fault.Wrap(fault.Closed, "server is stopping", err)
	case isTimeout(err):
		if by := c.raw.by; !by.IsZero() && !time.Now().Before(by) {
			slow = noLogin
		}
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
