package bench

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// patience bounds the wait for one reply; longer means that the server hangs.
const patience = 5 * time.Minute

// transfer is one of the two protocols that hand over mail.
type transfer struct {
	name, hello string
	each        bool // each recipient gets a reply to the message (RFC 2033, 4.2)
}

var (
	lmtp = transfer{"LMTP", "LHLO", true}
	smtp = transfer{"SMTP", "EHLO", false}
)

// mailConn is one LMTP or SMTP session (RFC 2033, RFC 5321).
type mailConn struct {
	net.Conn
	transfer
	r        *bufio.Reader
	head     []byte // commands before the message
	buf      []byte // next message
	letters  *letters
	rcpts    []string
	sender   string
	pipeline bool
}

// dialMail opens a session that delivers to rcpts.
func (r *runner) dialMail(ctx context.Context, p transfer, l *letters, rcpts ...string) (*mailConn, error) {
	addr, sec := r.target.LMTP, r.security(p)
	if p.name == smtp.name {
		addr = r.target.SMTP
	}
	nc, err := r.target.connect(ctx, p.name, addr, sec)
	if err != nil {
		return nil, err
	}
	c := &mailConn{Conn: nc, transfer: p, letters: l, rcpts: rcpts, sender: r.target.Sender}
	if err := c.begin(ctx, r.target, addr, sec == StartTLS); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// begin reads the greeting, says hello, and goes over to TLS if that is wanted.
func (c *mailConn) begin(ctx context.Context, t Target, addr string, tls bool) error {
	c.SetDeadline(time.Now().Add(patience))
	c.r = bufio.NewReaderSize(c.Conn, 4096)
	if _, err := c.reply('2'); err != nil {
		return err
	}
	if err := c.sayHello(); err != nil || !tls {
		return err
	}
	if _, err := c.Write([]byte("STARTTLS\r\n")); err != nil {
		return err
	}
	if _, err := c.reply('2'); err != nil {
		return fault.Wrap(fault.Unsupported, "the "+c.name+" server does not begin TLS", err)
	}
	nc, err := t.secure(ctx, c.Conn, c.name, addr)
	if err != nil {
		return err
	}
	c.Conn = nc
	c.r.Reset(nc)
	return c.sayHello()
}

func (c *mailConn) sayHello() error {
	if _, err := c.Write([]byte(c.hello + " bench.example\r\n")); err != nil {
		return err
	}
	text, err := c.reply('2')
	c.pipeline = bytes.Contains(bytes.ToUpper(text), []byte("PIPELINING"))
	return err
}

// prepare makes the n-th message.
func (c *mailConn) prepare(n int) {
	c.head = append(append(append(c.head[:0], "MAIL FROM:<"...), c.sender...), ">\r\n"...)
	for _, rcpt := range c.rcpts {
		c.head = append(append(append(c.head, "RCPT TO:<"...), rcpt...), ">\r\n"...)
	}
	c.head = append(c.head, "DATA\r\n"...)
	c.buf = append(c.letters.append(c.buf[:0], n), ".\r\n"...)
}

// deliver sends the message that has been prepared (RFC 5321, 3.3; RFC 2920).
func (c *mailConn) deliver() (int, string, error) {
	c.SetDeadline(time.Now().Add(patience))
	head, last := c.head, len(c.rcpts)+1
	for i := range last + 1 {
		if i == 0 || !c.pipeline {
			part := head
			if !c.pipeline {
				end := bytes.IndexByte(head, '\n') + 1
				part, head = head[:end], head[end:]
			}
			if _, err := c.Write(part); err != nil {
				return 0, "", err
			}
		}
		want := byte('2')
		if i == last {
			want = '3'
		}
		if text, err := c.reply(want); err != nil {
			if text == nil {
				return 0, "", err
			}
			refusal := string(text)
			return 0, refusal, c.reset(i, last)
		}
	}
	if _, err := c.Write(c.buf); err != nil {
		return 0, "", err
	}
	refusal, err := c.verdicts()
	if err != nil || refusal != "" {
		return 0, refusal, err
	}
	return len(c.buf) - len(".\r\n"), "", nil
}

// verdicts reads the replies to a message and returns the first that is not success.
func (c *mailConn) verdicts() (refusal string, err error) {
	replies := 1
	if c.each {
		replies = len(c.rcpts)
	}
	for range replies {
		if text, err := c.reply('2'); err != nil {
			if text == nil {
				return "", err
			}
			if refusal == "" {
				refusal = string(text)
			}
		}
	}
	return refusal, nil
}

// reset leaves a transaction whose command number at was refused; MAIL has number 0,
// DATA has number last. The replies to what was pipelined behind it still have to be
// read.
func (c *mailConn) reset(at, last int) error {
	accepted := max(at-1, 0) // recipients
	for i := at + 1; c.pipeline && i <= last; i++ {
		text, err := c.reply('2')
		if text == nil {
			return err
		}
		switch {
		case err == nil:
			accepted++
		case i == last && text[0] == '3': // DATA was accepted all the same: end it
			if err := c.endEmpty(accepted); err != nil {
				return err
			}
		}
	}
	if _, err := c.Write([]byte("RSET\r\n")); err != nil {
		return err
	}
	_, err := c.reply('2')
	return err
}

// endEmpty ends a message before its first byte.
func (c *mailConn) endEmpty(recipients int) error {
	if _, err := c.Write([]byte(".\r\n")); err != nil {
		return err
	}
	replies := 1
	if c.each {
		replies = max(recipients, 1)
	}
	for range replies {
		if text, err := c.reply('2'); text == nil {
			return err
		}
	}
	return nil
}

// reply reads a reply of one or more lines. If its first digit is not want, it is
// returned with an error; a broken connection is an error without text.
func (c *mailConn) reply(want byte) ([]byte, error) {
	var text []byte
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return nil, fault.Wrap(fault.Unavailable, "the "+c.name+" server ended the connection", err)
		}
		if text == nil && (len(line) < 4 || line[3] != '-') {
			text = line // of one line, as nearly all are
			break
		}
		text = append(text, line...)
		if len(line) < 4 || line[3] != '-' {
			break
		}
	}
	text = bytes.TrimRight(text, "\r\n")
	if len(text) == 0 {
		return nil, fault.Newf(fault.Invalid, "the %s server sent an empty reply", c.name)
	}
	if text[0] != want {
		return text, fault.Newf(fault.Unavailable, "the %s server said %q", c.name, text)
	}
	return text, nil
}

// transfers returns the scenario that delivers with each number of connections.
func transfers(name string, p transfer) func(context.Context, *runner) error {
	return func(ctx context.Context, r *runner) error {
		for _, n := range r.opt.Connections {
			l := newLetters(r.nextSeed(name), r.opt.Sizes)
			res := Result{Scenario: name, Sizes: r.opt.Sizes, TLS: r.security(p)}
			err := r.deliveries(ctx, res, n, func(i int) (worker, error) {
				return r.dialMail(ctx, p, l, r.target.Recipients[i%len(r.target.Recipients)])
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// security returns how connections of the protocol get their TLS.
func (r *runner) security(p transfer) Security {
	if p.name == smtp.name {
		return r.target.TLS.SMTP
	}
	return r.target.TLS.LMTP
}
