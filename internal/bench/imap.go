package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
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
	r    *bufio.Reader
	buf  []byte
	tag  int
	caps string // capabilities after login, in upper case, with a space around each
	read int64  // bytes of responses so far
}

// dialIMAP opens a session and logs in.
func dialIMAP(ctx context.Context, t Target) (*imapConn, error) {
	return dialIMAPBuffered(ctx, t, 1<<17)
}

func dialIMAPBuffered(ctx context.Context, t Target, buffer int) (*imapConn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", t.IMAP)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, "cannot reach the IMAP server at "+t.IMAP, err)
	}
	c := &imapConn{Conn: nc, r: bufio.NewReaderSize(nc, buffer)}
	if err := c.login(t.User, t.Password); err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

func (c *imapConn) login(user, password string) error {
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.line(); err != nil {
		return err
	}
	if err := c.do("LOGIN "+quote(user)+" "+quote(password), nil); err != nil {
		return err
	}
	return c.do("CAPABILITY", func(line []byte) {
		if rest, ok := bytes.CutPrefix(line, []byte("* CAPABILITY")); ok {
			c.caps = strings.ToUpper(string(bytes.TrimRight(rest, "\r\n"))) + " "
		}
	})
}

func (c *imapConn) has(capability string) bool { return strings.Contains(c.caps, " "+capability+" ") }

func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// do sends a command and reads its responses; each, the untagged ones and the last,
// cut off after the buffer's size and without literals, is shown to see.
func (c *imapConn) do(command string, see func(line []byte)) error {
	c.tag++
	c.buf = append(c.buf[:0], 'b')
	c.buf = strconv.AppendInt(c.buf, int64(c.tag), 10)
	c.buf = append(c.buf, ' ')
	c.buf = append(c.buf, command...)
	c.buf = append(c.buf, "\r\n"...)
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(c.buf); err != nil {
		return err
	}
	return c.finish(see)
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

// line reads one response with its literals and returns the bytes of its first line,
// good until the next call.
func (c *imapConn) line() ([]byte, error) {
	first, tail, err := c.piece()
	if err != nil {
		return nil, err
	}
	n := literal(tail)
	if n < 0 {
		return first, nil
	}
	first = bytes.Clone(first)
	for n >= 0 {
		if _, err := c.r.Discard(n); err != nil {
			return nil, err
		}
		c.read += int64(n)
		if _, tail, err = c.piece(); err != nil {
			return nil, err
		}
		n = literal(tail)
	}
	return first, nil
}

// piece reads up to a line feed. A line longer than the buffer comes back as its
// beginning and its end.
func (c *imapConn) piece() (first, tail []byte, err error) {
	first, err = c.r.ReadSlice('\n')
	tail = first
	for errors.Is(err, bufio.ErrBufferFull) {
		first = bytes.Clone(first)
		c.read += int64(len(tail))
		tail, err = c.r.ReadSlice('\n')
	}
	c.read += int64(len(tail))
	if err != nil {
		return nil, nil, fault.Wrap(fault.Unavailable, "the IMAP server ended the connection", err)
	}
	return first, tail, nil
}

// literal returns the size of the literal that line announces, or -1
// (RFC 9051, 4.3).
func literal(line []byte) int {
	line = bytes.TrimRight(line, "\r\n")
	if !bytes.HasSuffix(line, []byte("}")) {
		return -1
	}
	i := bytes.LastIndexByte(line, '{')
	if i < 0 {
		return -1
	}
	n, err := strconv.Atoi(string(line[i+1 : len(line)-1]))
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// append stores the messages with the given numbers in box, in one command
// (RFC 3502 for more than one). flags returns the flag list of a message, with a
// space behind, or "".
func (c *imapConn) append(box string, l *letters, from, to int, flags func(n int) string) (int, error) {
	c.tag++
	c.SetDeadline(time.Now().Add(patience))
	c.buf = fmt.Appendf(c.buf[:0], "b%d APPEND %s", c.tag, quote(box))
	var msg []byte
	size := 0
	for n := from; n < to; n++ {
		msg = l.append(msg[:0], n)
		size += len(msg)
		c.buf = fmt.Appendf(c.buf, " %s{%d", flags(n), len(msg))
		if c.has("LITERAL+") {
			c.buf = append(c.buf, "+}\r\n"...)
		} else {
			c.buf = append(c.buf, "}\r\n"...)
			if err := c.goAhead(); err != nil {
				return 0, err
			}
		}
		c.buf = append(c.buf, msg...)
	}
	c.buf = append(c.buf, "\r\n"...)
	if _, err := c.Write(c.buf); err != nil {
		return 0, err
	}
	return size, c.finish(nil)
}

// goAhead sends what has been gathered and waits for a continuation request.
func (c *imapConn) goAhead() error {
	if _, err := c.Write(c.buf); err != nil {
		return err
	}
	c.buf = c.buf[:0]
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
