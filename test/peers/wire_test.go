package peers

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The clients here hide nothing: they hand on the bytes as they came, which libraries
// do not.

// wire is a connection that reads lines.
type wire struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, addr string) *wire {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	return &wire{t, c, bufio.NewReaderSize(c, 1<<16)}
}

func (w *wire) send(format string, args ...any) {
	w.t.Helper()
	if _, err := fmt.Fprintf(w, format, args...); err != nil {
		w.t.Fatalf("sending: %v", err)
	}
}

// line reads one line without its end.
func (w *wire) line() string {
	w.t.Helper()
	s, err := w.r.ReadString('\n')
	if err != nil {
		w.t.Fatalf("reading a line: %v, after %q", err, s)
	}
	return strings.TrimRight(s, "\r\n")
}

// imapWire is an IMAP session.
type imapWire struct {
	*wire
	tag  int
	user string
}

func dialIMAP(t *testing.T, s *subject, name string) *imapWire {
	t.Helper()
	w := &imapWire{wire: dial(t, s.addr("imap")), user: name}
	if l := w.line(); !strings.HasPrefix(l, "* OK") {
		t.Fatalf("greeting %q", l)
	}
	a := s.account(t, name)
	w.ok("LOGIN %q %q", a.Address, a.Password)
	return w
}

// response is one untagged response. Literals are cut out of the text, where {n}
// remains.
type response struct {
	text     string
	literals [][]byte
}

var literalEnd = regexp.MustCompile(`\{(\d+)\}$`)

// response reads one response of whatever kind.
func (w *imapWire) response() response {
	w.t.Helper()
	var r response
	for {
		l := w.line()
		r.text += l
		m := literalEnd.FindStringSubmatch(l)
		if m == nil {
			return r
		}
		n, _ := strconv.Atoi(m[1])
		b := make([]byte, n)
		if _, err := io.ReadFull(w.r, b); err != nil {
			w.t.Fatalf("reading a literal of %d bytes: %v", n, err)
		}
		r.literals = append(r.literals, b)
	}
}

// do runs a command and returns the untagged responses and the tagged one without its
// tag.
func (w *imapWire) do(format string, args ...any) ([]response, string) {
	w.t.Helper()
	w.tag++
	w.send("t%d %s\r\n", w.tag, fmt.Sprintf(format, args...))
	return w.finish()
}

func (w *imapWire) finish() ([]response, string) {
	w.t.Helper()
	var all []response
	for {
		r := w.response()
		if rest, ok := strings.CutPrefix(r.text, fmt.Sprintf("t%d ", w.tag)); ok {
			return all, rest
		}
		all = append(all, r)
	}
}

// ok is do for a command that must be answered with OK.
func (w *imapWire) ok(format string, args ...any) []response {
	w.t.Helper()
	all, status := w.do(format, args...)
	if !strings.HasPrefix(status, "OK") {
		w.t.Fatalf("%s: %s", fmt.Sprintf(format, args...), status)
	}
	return all
}

// append stores a message; literal is "" or "~" for literal8 (RFC 3516).
func (w *imapWire) append(box, args, literal string, data []byte) string {
	w.t.Helper()
	w.tag++
	w.send("t%d APPEND %s %s%s{%d}\r\n", w.tag, box, args, literal, len(data))
	if r := w.response(); !strings.HasPrefix(r.text, "+") {
		return strings.TrimPrefix(r.text, fmt.Sprintf("t%d ", w.tag))
	}
	w.Write(data)
	w.send("\r\n")
	_, status := w.finish()
	return status
}

var uidOf = regexp.MustCompile(`\bUID (\d+)`)

// bodies returns the bytes of all messages of the selected mailbox by UID, in order.
func (w *imapWire) bodies(item string) (uids []int, bodies [][]byte) {
	w.t.Helper()
	for _, r := range w.ok("UID FETCH 1:* (UID %s)", item) {
		m := uidOf.FindStringSubmatch(r.text)
		if m == nil || !strings.Contains(r.text, " FETCH (") {
			continue
		}
		n, _ := strconv.Atoi(m[1])
		uids = append(uids, n)
		switch {
		case len(r.literals) > 0:
			bodies = append(bodies, r.literals[len(r.literals)-1])
		default: // quoted, or empty
			_, rest, _ := strings.Cut(r.text, "] ")
			bodies = append(bodies, []byte(strings.Trim(strings.TrimSuffix(rest, ")"), `"`)))
		}
	}
	return uids, bodies
}

// exists returns how many messages a mailbox has.
func (w *imapWire) exists(box string) int {
	w.t.Helper()
	for _, r := range w.ok("STATUS %s (MESSAGES)", box) {
		if _, rest, ok := strings.Cut(r.text, "MESSAGES "); ok {
			n, _ := strconv.Atoi(strings.Trim(rest, ") "))
			return n
		}
	}
	w.t.Fatal("STATUS gave no number of messages")
	return 0
}

// pop3Wire is a POP3 session.
type pop3Wire struct{ *wire }

func dialPOP3(t *testing.T, s *subject, name string) pop3Wire {
	t.Helper()
	w := pop3Wire{dial(t, s.addr("pop3"))}
	w.must(w.line())
	a := s.account(t, name)
	w.ok("USER %s", a.Address)
	w.ok("PASS %s", a.Password)
	return w
}

func (w pop3Wire) must(l string) string {
	w.t.Helper()
	if !strings.HasPrefix(l, "+OK") {
		w.t.Fatalf("POP3 said %q", l)
	}
	return l
}

func (w pop3Wire) ok(format string, args ...any) string {
	w.t.Helper()
	w.send(format+"\r\n", args...)
	return w.must(w.line())
}

// multi runs a command with an answer of several lines and returns it with the dots
// taken away (RFC 1939, 3). Only CRLF ends a line.
func (w pop3Wire) multi(format string, args ...any) []byte {
	w.t.Helper()
	w.ok(format, args...)
	var out bytes.Buffer
	start := true
	for {
		chunk, err := w.r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			w.t.Fatalf("reading lines: %v", err)
		}
		if start {
			if string(chunk) == ".\r\n" {
				return out.Bytes()
			}
			chunk = bytes.TrimPrefix(chunk, []byte("."))
		}
		out.Write(chunk)
		start = bytes.HasSuffix(out.Bytes(), []byte("\r\n"))
	}
}

// smtpWire is a session of SMTP or LMTP.
type smtpWire struct {
	*wire
	lmtp bool
	ext  string // the answer to EHLO
}

func dialSMTP(t *testing.T, addr string, lmtp bool) *smtpWire {
	t.Helper()
	w := &smtpWire{wire: dial(t, addr), lmtp: lmtp}
	if code, text := w.reply(); code != 220 {
		t.Fatalf("greeting: %s", text)
	}
	hello := "EHLO"
	if lmtp {
		hello = "LHLO"
	}
	w.ext = w.expect(2, "%s client.example", hello)
	return w
}

// reply reads a reply of one or more lines.
func (w *smtpWire) reply() (int, string) {
	w.t.Helper()
	var text strings.Builder
	for {
		l := w.line()
		text.WriteString(l + "\n")
		if len(l) < 4 || l[3] != '-' {
			code, err := strconv.Atoi(l[:min(3, len(l))])
			if err != nil {
				w.t.Fatalf("the reply has no code: %q", l)
			}
			return code, strings.TrimSpace(text.String())
		}
	}
}

// cmd sends a command and reads the reply.
func (w *smtpWire) cmd(format string, args ...any) (int, string) {
	w.t.Helper()
	w.send(format+"\r\n", args...)
	return w.reply()
}

func (w *smtpWire) expect(class int, format string, args ...any) string {
	w.t.Helper()
	code, text := w.cmd(format, args...)
	if code/100 != class {
		w.t.Fatalf("%s: %s", fmt.Sprintf(format, args...), text)
	}
	return text
}

// deliver sends a message in CRLF form and returns the last reply.
func (w *smtpWire) deliver(from, to string, data []byte) (int, string) {
	w.t.Helper()
	params := ""
	if strings.Contains(w.ext, "8BITMIME") {
		params = " BODY=8BITMIME"
	}
	w.expect(2, "MAIL FROM:<%s>%s", from, params)
	w.expect(2, "RCPT TO:<%s>", to)
	w.expect(3, "DATA")
	w.Write(stuffed(data))
	return w.reply()
}

// stuffed returns a message as it goes into DATA (RFC 5321, 4.5.2).
func stuffed(data []byte) []byte {
	out := make([]byte, 0, len(data)+len(data)/80+8)
	start := true
	for _, b := range data {
		if start && b == '.' {
			out = append(out, '.')
		}
		out = append(out, b)
		start = b == '\n'
	}
	return append(out, ".\r\n"...)
}

// smtpLogin authenticates with PLAIN.
func (w *smtpWire) login(user, password string) {
	w.t.Helper()
	w.expect(2, "AUTH PLAIN %s", base64Of("\x00"+user+"\x00"+password))
}
