package provider

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/test/house"
)

// Gmail makes an account such as Gmail has it, with mailboxes and labels, and puts n messages
// into it: message i has the Message-ID <gmail.i@example.org>, and labels by LabelsOf. It
// returns the login name.
func (p *Provider) Gmail(t testing.TB, local string, n int) string {
	t.Helper()
	p.House.Account(t, local)
	user := local + "@" + house.Domain
	c := p.talk(t, user)
	for _, cmd := range []string{
		`RENAME Sent "[Gmail]/Sent Mail"`, `RENAME Drafts "[Gmail]/Drafts"`, `RENAME Junk "[Gmail]/Spam"`, `RENAME Trash "[Gmail]/Trash"`,
		`DELETE Archive`, `CREATE "[Gmail]/All Mail" (USE (\All))`, `CREATE Work`, `CREATE Work/Projects`, `CREATE "Reis&AOk-n"`, `CREATE Empty`, `DELETE "[Gmail]"`,
		`SUBSCRIBE "[Gmail]/All Mail"`, `SUBSCRIBE Work`, `SELECT "[Gmail]/All Mail"`,
	} {
		c.do(cmd)
	}
	for i := range n {
		c.append("[Gmail]/All Mail", Flags(i), Message(i))
		c.do(fmt.Sprintf("UID STORE %d +X-GM-LABELS.SILENT (%s)", i+1, strings.Join(LabelsOf(i), " ")))
	}
	for i := range max(n/50, 1) {
		c.append("[Gmail]/Spam", "", Message(n+i))
		c.append("[Gmail]/Trash", `\Seen`, Message(2*n+i))
	}
	c.do("LOGOUT")
	return user
}

// Add puts message i into All Mail of an account.
func (p *Provider) Add(t testing.TB, user string, i int) {
	t.Helper()
	c := p.talk(t, user)
	c.append("[Gmail]/All Mail", Flags(i), Message(i))
	c.do("LOGOUT")
}

// LabelsOf returns the labels of a message as a client writes them. Every tenth has none.
func LabelsOf(i int) []string {
	switch i % 10 {
	case 0:
		return nil
	case 1, 2:
		return []string{`\Inbox`, "Work"}
	case 3:
		return []string{`\Sent`}
	case 4:
		return []string{`\Inbox`, `\Important`, "Work/Projects", "Reis&AOk-n"}
	case 5:
		return []string{`\Draft`}
	}
	return []string{`\Inbox`}
}

// Flags returns the flags of a message.
func Flags(i int) string {
	return [...]string{"", `\Seen`, `\Seen \Flagged`, `\Answered $Forwarded`, `\Seen NonJunk`}[i%5]
}

// Message returns a message, of between 300 bytes and some kilobytes.
func Message(i int) string {
	return fmt.Sprintf("From: someone@example.net\r\nTo: me@example.org\r\nSubject: message %d\r\nDate: Tue, 3 Feb 2009 04:05:06 +0100\r\n"+
		"Message-ID: <gmail.%d@example.org>\r\n\r\n%s\r\n", i, i, strings.Repeat(fmt.Sprintf("line of message %d\r\n", i), 5+i%97))
}

// talk is a plain conversation with the house itself.
type talk struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
	n    int
}

func (p *Provider) talk(t testing.TB, user string) *talk {
	t.Helper()
	conn, err := net.Dial("tcp", p.House.Addr("imap"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &talk{t: t, conn: conn, r: bufio.NewReader(conn)}
	c.do(fmt.Sprintf("LOGIN %q %q", user, house.Password))
	return c
}

func (c *talk) do(cmd string) {
	c.t.Helper()
	c.n++
	tag := fmt.Sprintf("t%d ", c.n)
	io.WriteString(c.conn, tag+cmd+"\r\n")
	for {
		l, err := c.r.ReadString('\n')
		if err != nil {
			c.t.Fatalf("%s: %v", cmd, err)
		}
		if rest, ok := strings.CutPrefix(l, tag); ok {
			if cmd != "LOGOUT" && !strings.HasPrefix(rest, "OK") {
				c.t.Fatalf("%s: %s", cmd, rest)
			}
			return
		}
	}
}

func (c *talk) append(box, flags, text string) {
	c.t.Helper()
	c.do(fmt.Sprintf("APPEND %q (%s) \"03-Feb-2009 04:05:06 +0100\" {%d+}\r\n%s", box, flags, len(text), text))
}
