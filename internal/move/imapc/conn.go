package imapc

import (
	"bufio"
	"compress/flate"
	"context"
	"crypto/tls"
	"github.com/martlet-mail/martlet/internal/move/reach"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// wire is the connection with its deadlines: a read or write that takes longer than the
// timeout fails, however long the whole takes.
type wire struct {
	raw     net.Conn // the socket
	conn    net.Conn // the same or TLS over it
	timeout time.Duration
	idle    atomic.Int64 // timeout of reads while the server may be silent, 0: timeout
	stopped atomic.Bool
	in, out int64 // bytes on the socket, before compression
}

func (w *wire) Read(p []byte) (int, error) {
	d := w.timeout
	if i := w.idle.Load(); i > 0 {
		d = time.Duration(i)
	}
	w.raw.SetReadDeadline(time.Now().Add(d))
	if w.stopped.Load() {
		return 0, context.Canceled
	}
	n, err := w.conn.Read(p)
	w.in += int64(n)
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	w.raw.SetWriteDeadline(time.Now().Add(w.timeout))
	if w.stopped.Load() {
		return 0, context.Canceled
	}
	n, err := w.conn.Write(p)
	w.out += int64(n)
	return n, err
}

// stop ends what reads and writes now, and all later.
func (w *wire) stop() {
	w.stopped.Store(true)
	w.raw.SetDeadline(time.Unix(1, 0))
}

// Client is a connection to a server.
type Client struct {
	opt  Options
	wire *wire
	tls  *tls.ConnectionState // nil: no TLS
	near bool                 // the server is on this machine

	s       scanner
	outMu   sync.Mutex // IDLE's end is written by another goroutine
	w       *bufio.Writer
	deflate *flate.Writer
	unsent  bool

	tag     int
	queue   []*Pending
	caps    map[string]bool
	fresh   bool // caps are what is offered now
	preAuth bool
	signed  bool
	utf8    bool
	qresync bool
	dead    error
	bye     status
	alert   string
	news    func(News)
	sel     *Selected // of the mailbox that is being selected or is
	selName string
	noise   int64 // responses since the last tagged one
	msg     Message
	late    bool // the server sends UIDs after bodies

	plainSearch bool // its ESEARCH is not to be trusted
}

// Dial connects, protects the line and reads the greeting. It does not sign in.
func Dial(ctx context.Context, opt Options) (*Client, error) {
	opt = opt.defaults()
	conn, err := opt.Dial(ctx, "tcp", net.JoinHostPort(opt.Host, strconv.Itoa(int(opt.Port))))
	if err != nil {
		return nil, dialError(opt.Host, err)
	}
	c, err := New(ctx, conn, opt)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

func (o Options) defaults() Options {
	if o.Port == 0 {
		if o.Port = 143; o.Security == TLS {
			o.Port = 993
		}
	}
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	return o
}

// New is Dial over a connection that is there. The caller closes it if New fails.
func New(ctx context.Context, conn net.Conn, opt Options) (*Client, error) {
	opt = opt.defaults()
	c := &Client{opt: opt, near: isLoopback(conn.RemoteAddr()), wire: &wire{raw: conn, conn: conn, timeout: opt.Timeout}}
	defer c.watch(ctx)()
	if opt.Security == TLS {
		if err := c.startTLS(ctx); err != nil {
			return nil, err
		}
	}
	c.plumb(c.wire, c.wire)
	if err := c.greeting(ctx); err != nil {
		return nil, err
	}
	if opt.Security != TLS {
		if err := c.upgrade(ctx); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func isLoopback(a net.Addr) bool {
	if a == nil {
		return false
	}
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.Network() == "pipe" || a.Network() == "unix"
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

const bufferSize = 64 << 10

func (c *Client) plumb(r io.Reader, w io.Writer) {
	c.s = scanner{r: bufio.NewReaderSize(r, bufferSize)}
	c.w = bufio.NewWriterSize(w, bufferSize)
}

// startTLS protects the line from here on.
func (c *Client) startTLS(ctx context.Context) error {
	conf := &tls.Config{ServerName: c.opt.Host, RootCAs: c.opt.Roots, Time: c.opt.Now, InsecureSkipVerify: c.opt.Insecure, MinVersion: tls.VersionTLS12, NextProtos: []string{"imap"}}
	conn := tls.Client(c.wire.conn, conf)
	c.wire.raw.SetDeadline(time.Now().Add(c.opt.Timeout))
	if err := conn.HandshakeContext(ctx); err != nil {
		return tlsError(c.opt.Host, err)
	}
	state := conn.ConnectionState()
	c.tls = &state
	c.wire.conn = conn
	return nil
}

// upgrade does STARTTLS, if that is wanted. What the server said before does not count after
// it, and what it sent behind its answer, which anybody could have put there, ends the
// connection (RFC 9051, 6.2.1).
func (c *Client) upgrade(ctx context.Context) error {
	if c.preAuth && c.opt.Security == StartTLS {
		return problem(NoTLS, c.opt.Host+" begins without TLS and cannot change to it (PREAUTH)", nil)
	}
	if !c.preAuth && !c.Capable("STARTTLS") {
		if c.opt.Security == StartTLS {
			return problem(NoTLS, c.opt.Host+" does not offer TLS on that port", nil)
		}
		return nil
	}
	if c.preAuth {
		return nil
	}
	if err := c.simple(ctx, "STARTTLS", "STARTTLS"); err != nil {
		if c.opt.Security == OfferedTLS && c.dead == nil {
			return nil // it stays in the clear, where only Insecure or this machine sign in
		}
		return err
	}
	if c.s.r.Buffered() > 0 {
		return c.lose(problem(BadTLS, c.opt.Host+" sent something between STARTTLS and TLS, which may be an attack", nil))
	}
	if err := c.startTLS(ctx); err != nil {
		return c.lose(err)
	}
	c.plumb(c.wire, c.wire)
	c.caps, c.fresh = nil, false
	return c.capabilities(ctx)
}

// greeting reads the first line.
func (c *Client) greeting(ctx context.Context) error {
	c.s.begin()
	if ch := c.s.peek(); c.s.err == nil && ch != '*' {
		return c.lose(problem(Wrong, c.opt.Host+" is no IMAP server: it begins with "+strconv.Quote(clip(c.s.text())), nil))
	}
	c.s.expect('*')
	c.s.space()
	word := strings.ToUpper(c.s.atom())
	st := c.readStatus(word)
	if c.s.err != nil {
		return c.broken()
	}
	switch word {
	case "OK":
	case "PREAUTH":
		c.preAuth, c.signed = true, true
	case "BYE":
		return c.lose(c.refusal("the connection", st, false))
	default:
		return c.lose(problem(Wrong, c.opt.Host+" is no IMAP server: it greets by "+strconv.Quote(clip(word)), nil))
	}
	if !c.fresh {
		return c.capabilities(ctx)
	}
	return nil
}

func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}

// capabilities asks for them.
func (c *Client) capabilities(ctx context.Context) error {
	return c.simple(ctx, "CAPABILITY", "CAPABILITY")
}

// Capable tells whether the server offers something, such as "IDLE".
func (c *Client) Capable(name string) bool { return c.caps[name] }

// Capabilities returns all that is offered, in upper case and no order.
func (c *Client) Capabilities() (names []string) {
	for n := range c.caps {
		names = append(names, n)
	}
	return names
}

// PreAuth tells whether the server took us for somebody before any login.
func (c *Client) PreAuth() bool { return c.preAuth }

// Protected tells what protects the line: "TLS 1.3", or "" for nothing.
func (c *Client) Protected() string {
	if c.tls == nil {
		return ""
	}
	return tls.VersionName(c.tls.Version)
}

// Traffic returns how many bytes came and went on the socket, before TLS and compressed.
func (c *Client) Traffic() (in, out int64) { return c.wire.in, c.wire.out }

// Alert returns the last thing that the server wanted people to read, "" if nothing.
func (c *Client) Alert() string { return c.alert }

// watch ends the connection when ctx ends; the function it returns stops that.
func (c *Client) watch(ctx context.Context) func() bool {
	w := c.wire
	return context.AfterFunc(ctx, w.stop)
}

// compress turns COMPRESS=DEFLATE on.
func (c *Client) compress(ctx context.Context) error {
	if !c.Capable("COMPRESS=DEFLATE") || c.opt.Compress == CompressNever || c.opt.Compress == CompressFar && c.near {
		return nil
	}
	if err := c.simple(ctx, "COMPRESS", "COMPRESS DEFLATE"); err != nil {
		if c.dead == nil {
			return nil
		}
		return err
	}
	under := c.s.r
	c.s = scanner{r: bufio.NewReaderSize(flate.NewReader(under), bufferSize)}
	var err error
	if c.deflate, err = flate.NewWriter(c.wire, flate.DefaultCompression); err != nil {
		return err
	}
	c.w = bufio.NewWriterSize(c.deflate, bufferSize)
	return nil
}

// Compressed tells whether the connection is compressed.
func (c *Client) Compressed() bool { return c.deflate != nil }

// Close ends the connection without a word. It may be called at any time, by anybody.
func (c *Client) Close() error {
	c.wire.stopped.Store(true)
	return c.wire.raw.Close()
}

// Logout says good-bye and closes the connection.
func (c *Client) Logout(ctx context.Context) error {
	var err error
	if c.dead == nil {
		err = c.simple(ctx, "LOGOUT", "LOGOUT")
	}
	c.Close()
	if c.bye.word != "" { // which is what LOGOUT asks for
		return nil
	}
	return err
}

// Dead returns why the connection cannot be used any more, nil if it can.
func (c *Client) Dead() error { return c.dead }

// lose makes err what every later command fails with.
func (c *Client) lose(err error) error {
	if c.dead == nil {
		c.dead = err
		c.wire.stop()
	}
	return c.dead
}

// broken is the end of a connection after an error of the scanner or the socket.
func (c *Client) broken() error { return c.lose(c.lostError(c.s.err)) }

func (c *Client) lostError(err error) error {
	switch w, isWrong := err.(wrong); {
	case isWrong:
		return problem(Wrong, c.opt.Host+" does not speak IMAP as it should: "+w.what, nil)
	case c.bye.word != "":
		return c.refusal("", c.bye, !c.signed)
	case c.wire.stopped.Load():
		return problem(Lost, "the connection to "+c.opt.Host+" was closed here", err)
	case reach.IsTimeout(err):
		return problem(Timeout, c.opt.Host+" does not answer", err)
	}
	return problem(Lost, "the connection to "+c.opt.Host+" was lost", err)
}
