package backup

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"
)

// The programs that work while backups are made. Each notes in the ledger what it tries and
// what it was told.

// pause keeps the store small enough for a hundred restores.
const pause = 10 * time.Millisecond

// talk is a conversation line by line.
type talk struct {
	net.Conn
	r   *bufio.Reader
	tag int
}

func dial(addr string) (*talk, error) {
	c, err := net.DialTimeout("tcp", addr, 30*time.Second)
	if err != nil {
		return nil, err
	}
	return &talk{Conn: c, r: bufio.NewReader(c)}, nil
}

func (t *talk) line() (string, error) {
	_ = t.SetDeadline(time.Now().Add(30 * time.Second))
	l, err := t.r.ReadString('\n')
	return strings.TrimRight(l, "\r\n"), err
}

// ask sends a line and wants the code; "" sends nothing.
func (t *talk) ask(code, format string, args ...any) error {
	if format != "" {
		if _, err := fmt.Fprintf(t, format+"\r\n", args...); err != nil {
			return err
		}
	}
	for {
		l, err := t.line()
		if err != nil {
			return err
		}
		if len(l) > 3 && l[3] == '-' {
			continue
		}
		if !strings.HasPrefix(l, code) {
			return fmt.Errorf("%.60s: answered %q", fmt.Sprintf(format, args...), l)
		}
		return nil
	}
}

// do runs an IMAP command and returns its untagged lines.
func (t *talk) do(format string, args ...any) (lines []string, err error) {
	t.tag++
	tag := fmt.Sprintf("t%d ", t.tag)
	if _, err := fmt.Fprintf(t, tag+format+"\r\n", args...); err != nil {
		return nil, err
	}
	for {
		l, err := t.line()
		if err != nil {
			return lines, err
		}
		if done, ok := strings.CutPrefix(l, tag); ok {
			if !strings.HasPrefix(done, "OK") {
				err = fmt.Errorf("%.60s: answered %q", fmt.Sprintf(format, args...), done)
			}
			return lines, err
		}
		lines = append(lines, l)
	}
}

func text(rng *rand.Rand, token string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "From: <a@load.example>\r\nSubject: %s\r\nMessage-ID: <%s@load.example>\r\n%s%s\r\n\r\n", token, token, tokenField, token)
	lines := rng.IntN(300)
	if rng.IntN(40) == 0 {
		lines = 5000
	}
	for range lines {
		fmt.Fprintf(&b, "%x%x%x\r\n", rng.Uint64(), rng.Uint64(), rng.Uint64())
	}
	return b.String()
}

func ended(stop <-chan struct{}) bool {
	select {
	case <-stop:
		return true
	case <-time.After(pause):
		return false
	}
}

// deliver brings mail to one account.
func (r *run) deliver(name string, rng *rand.Rand, stop <-chan struct{}) error {
	c, err := dial(r.server.Addr("lmtp"))
	if err != nil {
		return err
	}
	defer c.Close()
	err = c.ask("220", "")
	if err == nil {
		err = c.ask("250", "LHLO load.example")
	}
	for err == nil && !ended(stop) {
		err = r.mail(c, rng, name, "a@load.example", r.server.Account(name).Address)
	}
	return err
}

// mail sends one message of a stream.
func (r *run) mail(c *talk, rng *rand.Rand, stream, from, to string) error {
	token := r.ledger.try(stream)
	if strings.Contains(to, "%s") {
		to = fmt.Sprintf(to, token)
	}
	err := c.ask("250", "MAIL FROM:<%s>", from)
	if err == nil {
		err = c.ask("250", "RCPT TO:<%s>", to)
	}
	if err == nil {
		err = c.ask("354", "DATA")
	}
	if err == nil {
		err = c.ask("250", "%s.", text(rng, token))
	}
	if err == nil {
		r.ledger.said(stream)
	}
	return err
}

// submit sends mail for another host, of which nobody knows where it is.
func (r *run) submit(stop <-chan struct{}) error {
	a := r.server.Account("alice")
	c, err := dial(r.server.Addr("submission"))
	if err != nil {
		return err
	}
	defer c.Close()
	err = c.ask("220", "")
	if err == nil {
		err = c.ask("250", "EHLO load.example")
	}
	if err == nil {
		err = c.ask("235", "AUTH PLAIN %s", base64.StdEncoding.EncodeToString([]byte("\x00"+a.Address+"\x00"+a.Password)))
	}
	rng := rand.New(rand.NewPCG(3, 99))
	for err == nil && !ended(stop) {
		err = r.mail(c, rng, "queue", a.Address, "%s@far.example")
	}
	return err
}

// remove is a mail program that deletes about every third message of an account.
func (r *run) remove(name string, stop <-chan struct{}) error {
	a := r.server.Account(name)
	c, err := dial(r.server.Addr("imap"))
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err = c.line(); err == nil {
		_, err = c.do(`LOGIN "%s" "%s"`, a.Address, a.Password)
	}
	if err == nil {
		_, err = c.do("SELECT INBOX")
	}
	for uid := 2; err == nil && !ended(stop); uid += 3 {
		var lines []string
		for len(lines) == 0 && err == nil && !ended(stop) {
			lines, err = c.do("UID FETCH %d (BODY.PEEK[HEADER.FIELDS (X-Ledger)])", uid)
			lines = only(lines, tokenField)
		}
		if err != nil || len(lines) == 0 {
			break
		}
		r.ledger.deletes(strings.TrimPrefix(lines[0], tokenField))
		if _, err = c.do(`UID STORE %d +FLAGS.SILENT (\Deleted)`, uid); err == nil {
			_, err = c.do("UID EXPUNGE %d", uid)
		}
	}
	return err
}

func only(lines []string, prefix string) (out []string) {
	for _, l := range lines {
		if strings.HasPrefix(l, prefix) {
			out = append(out, l)
		}
	}
	return out
}
