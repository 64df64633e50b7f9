package cluster

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// patience is how long a client waits for an answer: longer than a server is to hold it.
const patience = 3 * time.Minute

// talk is a conversation line by line.
type talk struct {
	c net.Conn
	r *bufio.Reader
}

// dial connects from the client's machine.
func (l *Lab) dial(address string, secure bool) (*talk, error) {
	c, err := l.Client.Dial(address)
	if err != nil {
		return nil, err
	}
	if secure {
		c = tls.Client(c, &tls.Config{ServerName: "mx." + Domain, RootCAs: l.World.CA.Pool()})
	}
	return &talk{c: c, r: bufio.NewReaderSize(c, 16<<10)}, nil
}

func (t *talk) send(text string) error {
	t.c.SetDeadline(time.Now().Add(patience))
	_, err := io.WriteString(t.c, text)
	return err
}

// line reads a response of IMAP with its literals, which stand in it as \x00.
func (t *talk) line() (text string, literals []string, err error) {
	t.c.SetReadDeadline(time.Now().Add(patience))
	for {
		part, err := t.r.ReadString('\n')
		if err != nil {
			return text, literals, err
		}
		part = strings.TrimRight(part, "\r\n")
		open := strings.LastIndexByte(part, '{')
		if open < 0 || !strings.HasSuffix(part, "}") {
			return text + part, literals, nil
		}
		n, err := strconv.Atoi(part[open+1 : len(part)-1])
		if err != nil {
			return text + part, literals, nil
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(t.r, b); err != nil {
			return text, literals, err
		}
		literals = append(literals, string(b))
		text += part[:open] + "\x00"
	}
}

// refusal is an answer that is no success; the conversation goes on.
type refusal struct{ asked, answer string }

func (r *refusal) Error() string { return r.asked + " was answered " + r.answer }

// ask sends a line of SMTP, or nothing, and wants an answer that begins so.
func (t *talk) ask(want, format string, args ...any) error {
	asked := fmt.Sprintf(format, args...)
	t.c.SetDeadline(time.Now().Add(patience))
	if format != "" {
		if err := t.send(asked + "\r\n"); err != nil {
			return err
		}
	}
	if len(asked) > 40 {
		asked = asked[:40]
	}
	for {
		l, err := t.r.ReadString('\n')
		if err != nil {
			return err
		}
		l = strings.TrimRight(l, "\r\n")
		if len(l) > 3 && l[3] == '-' {
			continue
		}
		if !strings.HasPrefix(l, want) {
			return &refusal{asked, l}
		}
		return nil
	}
}

// temporary tells whether an error is an answer that says to come again.
func temporary(err error) bool {
	var r *refusal
	return errors.As(err, &r) && strings.HasPrefix(r.answer, "4")
}

// permanent tells whether an error is an answer that says never.
func permanent(err error) bool {
	var r *refusal
	return errors.As(err, &r) && !strings.HasPrefix(r.answer, "4")
}

// startTLS goes on in TLS.
func (t *talk) startTLS(l *Lab) error {
	if err := t.ask("220", "STARTTLS"); err != nil {
		return err
	}
	t.c = tls.Client(t.c, &tls.Config{ServerName: "mx." + Domain, RootCAs: l.World.CA.Pool()})
	t.r = bufio.NewReaderSize(t.c, 16<<10)
	return t.ask("250", "EHLO client.%s", Domain)
}
