package storecopy

import (
	"bufio"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// wire is a connection of a line-based protocol.
type wire struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
	n    int
}

func dial(t *testing.T, addr string) *wire {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	w := &wire{t: t, conn: c, r: bufio.NewReader(c)}
	w.line()
	return w
}

func (w *wire) line() string {
	w.t.Helper()
	l, err := w.r.ReadString('\n')
	if err != nil {
		w.t.Fatalf("the server broke off: %v", err)
	}
	return l
}

var literal = regexp.MustCompile(`\{(\d+)\}\r\n$`)

// imap sends a command and returns all lines of its answer but the last, which must say OK.
func (w *wire) imap(format string, args ...any) string {
	w.t.Helper()
	w.n++
	tag := fmt.Sprintf("t%d", w.n)
	command := fmt.Sprintf(format, args...)
	fmt.Fprintf(w.conn, "%s %s\r\n", tag, command)
	var all strings.Builder
	for {
		l := w.line()
		if strings.HasPrefix(l, tag+" ") {
			if !strings.HasPrefix(l, tag+" OK") {
				w.t.Fatalf("%.80s: %s", command, l)
			}
			return all.String()
		}
		all.WriteString(l)
		for m := literal.FindStringSubmatch(l); m != nil; m = literal.FindStringSubmatch(l) {
			n, _ := strconv.Atoi(m[1])
			b := make([]byte, n)
			for at := 0; at < n; {
				k, err := w.r.Read(b[at:])
				if err != nil {
					w.t.Fatal(err)
				}
				at += k
			}
			all.Write(b)
			l = w.line()
			all.WriteString(l)
		}
	}
}

// add appends a message.
func (w *wire) add(mailbox, flags, text string) {
	w.t.Helper()
	w.imap("APPEND %s (%s) \"01-Feb-2026 03:04:05 +0000\" {%d+}\r\n%s", mailbox, flags, len(text), text)
}

// pop sends a command of POP3 and returns the answer; many lines of it end with a dot.
func (w *wire) pop(command string, many bool) string {
	w.t.Helper()
	fmt.Fprintf(w.conn, "%s\r\n", command)
	first := w.line()
	if !strings.HasPrefix(first, "+OK") {
		w.t.Fatalf("%s: %s", command, first)
	}
	all := ""
	for many {
		l := w.line()
		if l == ".\r\n" {
			break
		}
		all += l
	}
	return all
}

// send delivers a message over SMTP or LMTP.
func send(t *testing.T, addr, hello, to, text string) {
	t.Helper()
	w := dial(t, addr)
	for _, step := range []string{hello + " there", "MAIL FROM:<sender@example.net>", "RCPT TO:<" + to + ">", "DATA", text + "\r\n.", "QUIT"} {
		fmt.Fprintf(w.conn, "%s\r\n", step)
		for {
			l := w.line()
			if l[0] != '2' && l[0] != '3' {
				t.Fatalf("%.40s: %s", step, l)
			}
			if l[3] == ' ' {
				break
			}
		}
	}
}
