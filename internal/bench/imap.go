package bench

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// imapConn is one IMAP session. It is for one goroutine.
type imapConn struct {
	net.Conn
	wire
	buf  []byte // next command
	msg  []byte // message that goes into it
	cuts []int  // places in buf to wait for a continuation request at
	tag  int
	caps string // capabilities after login, in upper case, with a space around each
}

// Sizes of the read buffer: of a session that gets large replies, and of one of many.
const (
	wide   = 1 << 20
	narrow = 1 << 12
)

// dialIMAP opens a session and logs in.
func dialIMAP(ctx context.Context, t Target) (*imapConn, error) {
	c, err := greetIMAP(ctx, t, wide)
	if err != nil {
		return nil, err
	}
	err = c.do("CAPABILITY", func(line []byte) {
		if rest, ok := bytes.CutPrefix(line, []byte("* CAPABILITY")); ok {
			c.caps = strings.ToUpper(string(bytes.TrimRight(rest, "\r\n"))) + " "
		}
	})
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// greetIMAP opens a session with a read buffer of the size, and logs in.
func greetIMAP(ctx context.Context, t Target, buffer int) (*imapConn, error) {
	nc, err := t.connect(ctx, "IMAP", t.IMAP, t.TLS.IMAP)
	if err != nil {
		return nil, err
	}
	c := &imapConn{Conn: nc, wire: wire{src: nc, buf: make([]byte, buffer)}}
	for i := 0; i < buffer; i += 4096 {
		c.wire.buf[i] = 0 // no page of it is to be fetched from the system while the clock runs
	}
	if err := c.begin(ctx, t); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// begin reads the greeting, goes over to TLS if that is wanted, and logs in.
func (c *imapConn) begin(ctx context.Context, t Target) error {
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.line(); err != nil {
		return err
	}
	if t.TLS.IMAP == StartTLS {
		if err := c.do("STARTTLS", nil); err != nil {
			return fault.Wrap(fault.Unsupported, "the IMAP server does not begin TLS", err)
		}
		nc, err := t.secure(ctx, c.Conn, "IMAP", t.IMAP)
		if err != nil {
			return err
		}
		c.Conn, c.src = nc, nc
		c.from, c.to = 0, 0 // what came before TLS is nobody's word (RFC 9051, 6.2.1)
	}
	if err := c.do("LOGIN "+quote(t.User)+" "+quote(t.Password), nil); err != nil {
		return fault.Wrap(fault.Unauthenticated, "the IMAP server refused the login of "+t.User, err)
	}
	return nil
}

func (c *imapConn) has(capability string) bool { return strings.Contains(c.caps, " "+capability+" ") }

func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// do sends a command and reads its responses; each, the untagged ones and the last,
// without literals, is shown to see.
func (c *imapConn) do(command string, see func(line []byte)) error {
	if err := c.send(command); err != nil {
		return err
	}
	return c.finish(see)
}

// send sends a command.
func (c *imapConn) send(command string) error {
	c.tag++
	c.buf = fmt.Appendf(c.buf[:0], "b%d %s\r\n", c.tag, command)
	c.SetDeadline(time.Now().Add(patience))
	_, err := c.Write(c.buf)
	return err
}

// refusal is a tagged NO or BAD.
type refusal string

func (e refusal) Error() string { return "the IMAP server said " + strconv.Quote(string(e)) }

// finish reads responses until that with the tag of the last command.
func (c *imapConn) finish(see func(line []byte)) error {
	for {
		line, err := c.line()
		if err != nil {
			return err
		}
		if see != nil {
			see(line)
		}
		switch {
		case line[0] == '*':
			continue
		case line[0] != 'b':
			return fault.Newf(fault.Invalid, "the IMAP server sent %q", bytes.TrimSpace(line))
		}
		_, rest, _ := bytes.Cut(line, []byte(" "))
		if !bytes.HasPrefix(rest, []byte("OK")) {
			return refusal(bytes.TrimSpace(rest))
		}
		return nil
	}
}

// append stores the messages with the given numbers in box, in one command.
func (c *imapConn) append(box string, l *letters, from, to int, flags func(n int) string) (int, error) {
	size := c.prepare(box, l, from, to, flags)
	return size, c.transmit()
}

// prepare makes the command that appends messages (RFC 3502 for more than one) and
// returns the bytes of the messages. flags returns the flag list of a message, with a
// space behind, or "".
func (c *imapConn) prepare(box string, l *letters, from, to int, flags func(n int) string) int {
	c.tag++
	c.cuts = c.cuts[:0]
	c.buf = fmt.Appendf(c.buf[:0], "b%d APPEND %s", c.tag, quote(box))
	every, little := c.has("LITERAL+"), c.has("LITERAL-")
	size := 0
	for n := from; n < to; n++ {
		c.buf = append(c.buf, ' ')
		c.buf = append(c.buf, flags(n)...)
		c.msg = l.append(c.msg[:0], n)
		size += len(c.msg)
		if every || little && len(c.msg) <= 4096 {
			c.buf = fmt.Appendf(c.buf, "{%d+}\r\n", len(c.msg))
		} else {
			c.buf = fmt.Appendf(c.buf, "{%d}\r\n", len(c.msg))
			c.cuts = append(c.cuts, len(c.buf))
		}
		c.buf = append(c.buf, c.msg...)
	}
	c.buf = append(c.buf, "\r\n"...)
	return size
}

// transmit sends the command that has been prepared, and waits for the answer.
func (c *imapConn) transmit() error {
	c.SetDeadline(time.Now().Add(patience))
	sent := 0
	for _, cut := range c.cuts {
		if err := c.goAhead(c.buf[sent:cut]); err != nil {
			return err
		}
		sent = cut
	}
	if _, err := c.Write(c.buf[sent:]); err != nil {
		return err
	}
	return c.finish(nil)
}

// goAhead sends something and waits for a continuation request.
func (c *imapConn) goAhead(b []byte) error {
	if _, err := c.Write(b); err != nil {
		return err
	}
	for {
		line, err := c.line()
		if err != nil {
			return err
		}
		switch line[0] {
		case '+':
			return nil
		case '*':
		default:
			return refusal(bytes.TrimSpace(line))
		}
	}
}
