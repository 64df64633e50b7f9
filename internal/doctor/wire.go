package doctor

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
)

// maxLines and maxReply bound what a server may say to one command.
const (
	maxLines = 100
	maxReply = 1 << 10 // bytes of a line that are kept
)

// client speaks as much SMTP as the checks need.
type client struct {
	conn net.Conn
	in   *bufio.Reader
}

// dial opens a connection that ends with ctx.
func (d *Doctor) dial(ctx context.Context, address string) (*client, error) {
	conn, err := d.Dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	return newClient(conn), nil
}

func newClient(conn net.Conn) *client {
	return &client{conn, bufio.NewReaderSize(conn, 4<<10)}
}

func (c *client) close() { c.conn.Close() }

// line reads one line, whose end beyond maxReply is lost.
func (c *client) line() (string, error) {
	var text []byte
	for {
		part, err := c.in.ReadSlice('\n') // ReadLine takes an end in the middle of a line for its end
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return "", err
		}
		if len(text) < maxReply {
			text = append(text, part...)
		}
		if err == nil {
			return strings.TrimRight(string(text), "\r\n"), nil
		}
	}
}

// reply reads the answer to a command: its code, and its lines without the code.
func (c *client) reply() (code string, lines []string, err error) {
	for range maxLines {
		text, err := c.line()
		if err != nil {
			return "", lines, err
		}
		if len(text) < 3 {
			return "", lines, fmt.Errorf("%q is no reply of SMTP", text)
		}
		lines = append(lines, strings.TrimSpace(text[min(4, len(text)):]))
		if len(text) < 4 || text[3] != '-' {
			return text[:3], lines, nil
		}
	}
	return "", lines, fmt.Errorf("the reply has no end")
}

// say sends a command and reads the answer.
func (c *client) say(command string) (code string, lines []string, err error) {
	if _, err := c.conn.Write([]byte(command + "\r\n")); err != nil {
		return "", nil, err
	}
	return c.reply()
}

// smtpDoor is what port 25 of this server shows.
type smtpDoor struct {
	err      error  // it does not answer
	greeting string // the name it greets with
	code     string
	starttls bool
	tls      *tls.ConnectionState
	tlsErr   error
}

// listener returns the first one of a protocol.
func (d *Doctor) listener(protocols ...string) (Listener, bool) {
	for _, p := range protocols {
		for _, l := range d.Listeners {
			if l.Protocol == p {
				return l, true
			}
		}
	}
	return Listener{}, false
}

// smtp looks at port 25 once for all checks.
func (d *Doctor) smtp(ctx context.Context) *smtpDoor {
	d.door.Do(func() { d.greeting = d.look(ctx) })
	return &d.greeting
}

func (d *Doctor) look(ctx context.Context) (door smtpDoor) {
	l, found := d.listener("smtp")
	if !found {
		return smtpDoor{err: fmt.Errorf("there is no [[listen]] block for smtp")}
	}
	c, err := d.dial(ctx, l.Address)
	if err != nil {
		return smtpDoor{err: err}
	}
	defer c.close()
	code, lines, err := c.reply()
	if err != nil {
		return smtpDoor{err: err}
	}
	door.code = code
	door.greeting, _, _ = strings.Cut(strings.Join(lines, " "), " ")
	_, lines, err = c.say("EHLO " + d.Site.Hostname)
	if err != nil {
		door.err = err
		return door
	}
	for _, word := range lines {
		door.starttls = door.starttls || strings.EqualFold(word, "STARTTLS")
	}
	if !door.starttls {
		return door
	}
	if code, lines, err = c.say("STARTTLS"); err != nil || code != "220" {
		door.tlsErr = fmt.Errorf("it answers %s %s %v", code, strings.Join(lines, " "), err)
		return door
	}
	state, err := d.handshake(ctx, c.conn, d.Site.Hostname, 0)
	door.tls, door.tlsErr = state, err
	return door
}

// handshake does TLS without judging the certificate; most is the newest version that is
// offered, 0 for any.
func (d *Doctor) handshake(ctx context.Context, conn net.Conn, name string, most uint16) (*tls.ConnectionState, error) {
	t := tls.Client(conn, &tls.Config{
		ServerName: name, Time: d.Now, MaxVersion: most, MinVersion: tls.VersionTLS10,
		InsecureSkipVerify: true, // others judge
	})
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	state := t.ConnectionState()
	return &state, nil
}
