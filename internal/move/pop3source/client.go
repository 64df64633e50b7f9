package pop3source

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Bounds of what a server may say. RFC 1939 has lines of 512 bytes, RFC 2449 too; more is
// taken of what some send.
const (
	maxLine  = 8 << 10
	maxCapas = 200
)

// client is a session.
type client struct {
	opt    Options
	ctx    context.Context // of the call under way
	conn   net.Conn
	in     *bufio.Reader
	out    *bufio.Writer
	secure bool // TLS
	near   bool // the server is on this machine
	stamp  string
	capas  map[string]string
	dead   error
}

// dial connects and protects the line.
func dial(ctx context.Context, opt Options) (*client, error) {
	address := net.JoinHostPort(opt.Host, strconv.Itoa(int(opt.Port)))
	conn, err := opt.Dial(ctx, "tcp", address)
	if err != nil {
		return nil, dialError(opt.Host, err)
	}
	c := &client{opt: opt, ctx: ctx, conn: conn, near: isNear(conn.RemoteAddr())}
	if err := c.begin(ctx); err != nil {
		_ = c.conn.Close()
		return nil, err
	}
	return c, nil
}

func isNear(a net.Addr) bool {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	}
	return false
}

func (c *client) begin(ctx context.Context) error {
	if c.opt.Security == TLS {
		if err := c.protect(ctx); err != nil {
			return err
		}
	}
	c.attach()
	greeting, err := c.reply()
	if err != nil {
		return err
	}
	if i := strings.IndexByte(greeting, '<'); i >= 0 {
		if j := strings.IndexByte(greeting[i:], '>'); j > 0 {
			c.stamp = greeting[i : i+j+1]
		}
	}
	if err := c.capa(); err != nil || c.opt.Security == TLS {
		return err
	}
	if !c.has("STLS") {
		if c.opt.Security == StartTLS {
			return fault.New(fault.Denied, c.opt.Host+" offers no TLS on this port (STLS); port 995 may have it")
		}
		return nil
	}
	return c.startTLS(ctx)
}

// startTLS begins TLS. What the server sent behind its answer came from whoever is between,
// and is not read as if it were protected (RFC 2595, 4).
func (c *client) startTLS(ctx context.Context) error {
	if _, err := c.command("STLS"); err != nil {
		return err
	}
	if c.in.Buffered() > 0 {
		return fault.New(fault.Denied, "somebody on the line to "+c.opt.Host+" has put words behind the beginning of TLS")
	}
	if err := c.protect(ctx); err != nil {
		return err
	}
	c.attach()
	c.capas = nil
	return c.capa() // what was offered before may be a lie (RFC 2595, 4)
}

func (c *client) protect(ctx context.Context) error {
	t := tls.Client(c.conn, &tls.Config{
		ServerName: c.opt.Host, RootCAs: c.opt.Roots, Time: c.opt.Now, MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.opt.Insecure,
	})
	ctx, cancel := context.WithTimeout(ctx, c.opt.Timeout)
	defer cancel()
	if err := t.HandshakeContext(ctx); err != nil {
		return tlsError(c.opt.Host, err)
	}
	c.conn, c.secure = t, true
	return nil
}

func (c *client) attach() {
	w := &watched{c}
	c.in, c.out = bufio.NewReaderSize(w, 64<<10), bufio.NewWriterSize(w, 8<<10)
}

// watched moves the deadline along with the bytes.
type watched struct{ c *client }

func (w *watched) Read(p []byte) (int, error) {
	if err := w.c.ctx.Err(); err != nil {
		return 0, err
	}
	_ = w.c.conn.SetReadDeadline(time.Now().Add(w.c.opt.Timeout))
	stop := context.AfterFunc(w.c.ctx, func() { _ = w.c.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	n, err := w.c.conn.Read(p)
	if err != nil && w.c.ctx.Err() != nil {
		err = w.c.ctx.Err()
	}
	return n, err
}

func (w *watched) Write(p []byte) (int, error) {
	_ = w.c.conn.SetWriteDeadline(time.Now().Add(w.c.opt.Timeout))
	return w.c.conn.Write(p)
}

// lose ends the session for a reason.
func (c *client) lose(err error) error {
	if c.dead == nil {
		c.dead = lineError(c.opt.Host, err)
		_ = c.conn.Close()
	}
	return c.dead
}

// line reads a line without its end.
func (c *client) line() (string, error) {
	b, err := c.in.ReadSlice('\n')
	if err == bufio.ErrBufferFull || err == nil && len(b) > maxLine {
		err = fault.New(fault.Invalid, c.opt.Host+" sends lines without end")
	}
	if err != nil {
		return "", c.lose(err)
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

// reply reads a status line (RFC 1939, 3).
func (c *client) reply() (string, error) {
	line, err := c.line()
	if err != nil {
		return "", err
	}
	switch {
	case strings.HasPrefix(line, "+OK"):
		return strings.TrimSpace(line[3:]), nil
	case strings.HasPrefix(line, "-ERR"):
		return "", refusal(c.opt.Host, strings.TrimSpace(line[4:]))
	}
	return "", c.lose(fault.New(fault.Invalid, c.opt.Host+" does not speak POP3"))
}

// send writes a line, which goes out with the next flush.
func (c *client) send(line string) error {
	if c.dead != nil {
		return c.dead
	}
	if strings.ContainsAny(line, "\r\n\x00") {
		return fault.New(fault.Invalid, "a name or password has a line end or a NUL byte, which POP3 cannot carry")
	}
	if _, err := c.out.WriteString(line + "\r\n"); err != nil {
		return c.lose(err)
	}
	return nil
}

func (c *client) flush() error {
	if err := c.out.Flush(); err != nil {
		return c.lose(err)
	}
	return nil
}

// command sends a line and reads the status.
func (c *client) command(line string) (string, error) {
	if err := c.send(line); err != nil {
		return "", err
	}
	if err := c.flush(); err != nil {
		return "", err
	}
	return c.reply()
}

// lines reads a list of lines to its end (RFC 1939, 3).
func (c *client) lines(fn func(line string) error) error {
	for {
		line, err := c.line()
		if err != nil {
			return err
		}
		if line == "." {
			return nil
		}
		if err := fn(strings.TrimPrefix(line, ".")); err != nil {
			return c.lose(err)
		}
	}
}

// capa asks what the server can (RFC 2449, 5). One that does not know the command can little.
func (c *client) capa() error {
	c.capas = map[string]string{}
	if _, err := c.command("CAPA"); err != nil {
		return c.dead // nil if it was refused
	}
	return c.lines(func(line string) error {
		name, args, _ := strings.Cut(line, " ")
		if c.capas[strings.ToUpper(name)] = args; len(c.capas) > maxCapas {
			return fault.New(fault.Invalid, c.opt.Host+" lists capabilities without end")
		}
		return nil
	})
}

// has tells whether the server said it can. Where there is no CAPA, UIDL and TOP are tried.
func (c *client) has(name string) bool {
	_, ok := c.capas[name]
	return ok || len(c.capas) == 0 && (name == "UIDL" || name == "TOP" || name == "USER")
}

// quit says goodbye, without caring for the answer: nothing was marked for removal.
func (c *client) quit() error {
	if c.dead == nil {
		if c.send("QUIT") == nil {
			_ = c.flush()
		}
	}
	_ = c.conn.Close()
	return nil
}

// end says goodbye, and what was marked is removed (RFC 1939, 6).
func (c *client) end() error {
	_, err := c.command("QUIT")
	if err != nil && c.dead != nil {
		err = fault.Wrap(fault.Unknown, "the connection to "+c.opt.Host+" broke while messages were removed there; what is still there will be removed next time", err)
	}
	_ = c.conn.Close()
	return err
}

var errEnd = errors.New("the message goes on without end")

// text reads a message to its end: dots are taken away, lines end in CRLF as they came
// (RFC 1939, 3).
type text struct {
	c      *client
	left   int64 // bytes that may still come
	count  int64 // bytes that came
	buf    []byte
	within bool // a line
	last   byte // of the piece before
	done   bool
	// endless: more came than can be of one message
	endless bool
}

func (t *text) Read(p []byte) (int, error) {
	for len(t.buf) == 0 {
		if t.done {
			return 0, io.EOF
		}
		piece, err := t.c.in.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			return 0, t.c.lose(err)
		}
		t.buf = t.line(piece)
		t.count += int64(len(t.buf))
		if t.left -= int64(len(t.buf)); t.left < 0 {
			t.endless = true
			return 0, t.c.lose(fault.Wrap(fault.TooLarge, "a message of "+t.c.opt.Host+" goes on far beyond its size", errEnd))
		}
	}
	n := copy(p, t.buf)
	t.buf = t.buf[n:]
	return n, nil
}

// line takes a dot away, and gives a line that ends in LF alone its CR.
func (t *text) line(piece []byte) []byte {
	begins := !t.within
	t.within = piece[len(piece)-1] != '\n'
	if begins && piece[0] == '.' {
		if !t.within && len(piece) <= 3 && (len(piece) == 2 || piece[1] == '\r') {
			t.done = true
			return nil
		}
		piece = piece[1:]
	}
	n, before := len(piece), t.last
	if n == 0 {
		return nil
	}
	if n > 1 {
		before = piece[n-2]
	}
	if t.last = piece[n-1]; !t.within && (before != '\r' || n == 1 && begins) {
		return append(append(make([]byte, 0, n+1), piece[:n-1]...), '\r', '\n')
	}
	return piece
}

// drain reads what nobody wanted to read.
func (t *text) drain() error {
	_, err := io.Copy(io.Discard, struct{ io.Reader }{t})
	return err
}
