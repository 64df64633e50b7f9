package limits

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// talk is a client that says one thing after another.
type talk struct {
	t  testing.TB
	nc net.Conn
	r  *bufio.Reader
	n  int
}

func newTalk(t testing.TB, nc net.Conn) *talk {
	k := &talk{t: t, nc: nc, r: bufio.NewReader(nc)}
	k.line()
	return k
}

// imap returns a client of IMAP that has logged in, and selected INBOX.
func (h *house) imap(t testing.TB, name string) *talk {
	t.Helper()
	k := newTalk(t, h.dial(t, "imap"))
	k.ok("LOGIN %s@example.org {%d+}\r\n%s", name, len(password), password)
	k.ok("SELECT INBOX")
	return k
}

func (k *talk) line() string {
	k.t.Helper()
	s, err := k.r.ReadString('\n')
	if err != nil {
		k.t.Fatalf("the server says %q, %v", s, err)
	}
	return strings.TrimRight(s, "\r\n")
}

// command sends a command of IMAP and returns its tag.
func (k *talk) command(format string, args ...any) string {
	k.n++
	tag := fmt.Sprintf("t%d", k.n)
	k.nc.Write(fmt.Appendf(nil, tag+" "+format+"\r\n", args...))
	return tag
}

// answer reads up to the tagged answer, which it returns with how many bytes came.
func (k *talk) answer(tag string) (last string, n int) {
	k.t.Helper()
	for {
		s, err := k.r.ReadSlice('\n')
		n += len(s)
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil {
			k.t.Fatalf("the server says %.200q, %v", s, err)
		}
		if bytes.HasPrefix(s, []byte(tag+" ")) {
			return strings.TrimRight(string(s), "\r\n"), n
		}
	}
}

// ok carries a command out that succeeds, and returns how many bytes were answered.
func (k *talk) ok(format string, args ...any) int {
	k.t.Helper()
	tag := k.command(format, args...)
	last, n := k.answer(tag)
	if !strings.HasPrefix(last, tag+" OK") {
		k.t.Fatalf("%.80s: %s", fmt.Sprintf(format, args...), last)
	}
	return n
}

// smtp has the server take in a message, from a stream that is dot-stuffed as needed.
func (h *house) smtp(t testing.TB, listener, to string, message io.Reader) {
	t.Helper()
	k := newTalk(t, h.dial(t, listener))
	hello := "EHLO"
	if listener == "lmtp" {
		hello = "LHLO"
	}
	k.say("250", "%s client.example", hello)
	k.say("250", "MAIL FROM:<sender@far.example>")
	k.say("250", "RCPT TO:<%s@example.org>", to)
	k.say("354", "DATA")
	if _, err := io.Copy(k.nc, message); err != nil {
		t.Fatal(err)
	}
	k.say("250", "\r\n.")
	k.nc.Close()
}

// say sends a command of SMTP and expects a code.
func (k *talk) say(code, format string, args ...any) {
	k.t.Helper()
	fmt.Fprintf(k.nc, format+"\r\n", args...)
	for {
		s := k.line()
		if !strings.HasPrefix(s, code) {
			k.t.Fatalf("%.60s: %s", fmt.Sprintf(format, args...), s)
		}
		if len(s) < 4 || s[3] != '-' {
			return
		}
	}
}

// deliver puts a message into an INBOX over LMTP, on one connection for all.
func (h *house) deliver(t testing.TB, to, message string) {
	t.Helper()
	if h.in == nil {
		h.in = newTalk(t, h.dial(t, "lmtp"))
		h.in.say("250", "LHLO client.example")
	}
	h.in.say("250", "MAIL FROM:<sender@far.example>")
	h.in.say("250", "RCPT TO:<%s@example.org>", to)
	h.in.say("354", "DATA")
	h.in.say("250", "%s\r\n.", message)
}
