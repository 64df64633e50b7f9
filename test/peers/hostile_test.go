package peers

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/peers/martlet"
)

// attack is bytes that a client should not send, and what a server may answer.
type attack struct {
	name, door, send string
	login            bool
	want             string // pattern of the answer; "closed" is none but the end
}

var (
	deepName  = strings.Repeat("a/", 5_000) + "a"
	manyOpen  = strings.Repeat("(", 1_000_000)
	longLine  = strings.Repeat("x", 3_000_000)
	longSet   = strings.Repeat("1:*,", 20_000) + "1"
	nestedNot = strings.Repeat("NOT ", 50_000) + "ALL"
)

const (
	refused = `(?m)^a (BAD|NO)`
	either  = `(?m)^a (BAD|NO|OK)`
	err5    = `(?m)^5\d\d `
	errPOP  = `(?m)^-ERR`
	hello   = "EHLO x\r\n"
	mailTo  = hello + "MAIL FROM:<x@example.org>\r\nRCPT TO:<bob@martlet.test>\r\n"
)

var attacks = []attack{
	{"unknown command", "imap", "a XYZZY\r\n", false, refused},
	{"wrong state", "imap", "a FETCH 1 FLAGS\r\n", false, refused},
	{"wrong arguments", "imap", "a LOGIN\r\n", false, refused},
	{"no tag", "imap", "\r\na NOOP\r\n", false, `(?m)^\* BAD|^a OK`},
	{"tag *", "imap", "* NOOP\r\n", false, `(?m)^\* BAD`},
	{"NUL", "imap", "a NO\x00OP\r\n", false, `(?m)(BAD|BYE)`},
	{"overlong line", "imap", "a LOGIN " + longLine, false, `(?m)(BAD|BYE)`},
	{"overlong line after login", "imap", "a SEARCH TEXT " + longLine + "\r\n", true, `(?m)(BAD|BYE)`},
	{"literal before login", "imap", "a LOGIN {4294967295}\r\n", false, `(?m)(BAD|NO|BYE)`},
	{"literal without wait before login", "imap", "a LOGIN {2000000000+}\r\n", false, `(?m)(BAD|NO|BYE)`},
	{"literal larger than 64 bits", "imap", "a LOGIN {99999999999999999999999}\r\n", false, `(?m)(BAD|NO|BYE)`},
	{"thousand literals", "imap", "a LOGIN" + strings.Repeat(" {1+}\r\nx", 1_000) + "\r\n", false, `(?m)(BAD|BYE)`},
	{"APPEND over the limit", "imap", "a APPEND INBOX {600000000}\r\n", true, `(?m)^a NO \[TOOBIG\]`},
	{"APPEND over the limit without wait", "imap", "a APPEND INBOX {600000000+}\r\n" + longLine, true, `(?m)(NO \[TOOBIG\]|BYE)`},
	{"bad UTF-8", "imap", "a CREATE \"\xff\xfe\"\r\n", true, refused},
	{"ASCII in base64 of a name", "imap", "a CREATE \"x&AC8-y\"\r\n", true, refused},
	{"unfinished base64 of a name", "imap", "a CREATE \"x&Jjo\"\r\n", true, refused},
	{"half a surrogate", "imap", "a CREATE \"&2AA-\"\r\n", true, refused},
	{"ampersand alone", "imap", "a CREATE \"a&b\"\r\n", true, refused},
	{"name with ..", "imap", "a CREATE \"../x\"\r\n", true, refused},
	{"name with .. inside", "imap", "a CREATE \"a/../../b\"\r\n", true, refused},
	{"rename to ..", "imap", "a RENAME Archive \"../../etc\"\r\n", true, refused},
	{"name with NUL", "imap", "a CREATE {3+}\r\na\x00b\r\n", true, `(?m)(BAD|NO|BYE)`},
	{"name with CRLF", "imap", "a CREATE {4+}\r\na\r\nb\r\n", true, refused},
	{"5,000 levels", "imap", "a CREATE \"" + deepName + "\"\r\n", true, refused},
	{"empty level", "imap", "a CREATE \"a//b\"\r\n", true, refused},
	{"a million parentheses", "imap", "a FETCH 1 " + manyOpen + "\r\n", true, `(?m)(BAD|BYE)`},
	{"nested NOT", "imap", "a SELECT INBOX\r\na SEARCH " + nestedNot + "\r\n", true, `(?m)(BAD|BYE|OK SEARCH)`},
	{"endless set", "imap", "a SELECT INBOX\r\na UID SEARCH UID " + longSet + "\r\nz NOOP\r\n", true, `(?m)(BAD|BYE|^z OK)`},
	{"largest numbers", "imap", "a SELECT INBOX\r\na UID FETCH 4294967295:*,1:4294967295 FLAGS\r\nz NOOP\r\n", true, `(?m)^z OK`},
	{"number over 32 bits", "imap", "a UID FETCH 4294967296 FLAGS\r\n", true, refused},
	{"deep part", "imap", "a SELECT INBOX\r\na FETCH 1 BODY[" + strings.Repeat("1.", 1_000) + "1]\r\nz NOOP\r\n", true, `(?m)(BAD|BYE|^z OK)`},
	{"wildcards", "imap", "a LIST \"\" \"" + strings.Repeat("*%", 200) + "x\"\r\n", true, either},
	{"bad date", "imap", "a APPEND INBOX \"99-Foo-0000 99:99:99 +9999\" {1}\r\n", true, refused},
	{"a bare LF", "imap", "a NOOP\n", false, `(?m)(OK|BAD|BYE)`},
	{"SMTP: unknown command", "smtp", "XYZZY\r\n", false, err5},
	{"SMTP: wrong state", "smtp", hello + "DATA\r\n", false, `(?m)^503`},
	{"SMTP: no recipient", "smtp", hello + "MAIL FROM:<a@b.example>\r\nDATA\r\n", false, `(?m)^(503|554)`},
	{"SMTP: bad address", "smtp", hello + "MAIL FROM:<a b@c@d>\r\n", false, `(?m)^5[05]\d `},
	{"SMTP: NUL", "smtp", hello + "MAIL FROM:<a\x00@b.example>\r\n", false, `(?m)^5\d\d `},
	{"SMTP: 8-bit address without SMTPUTF8", "smtp", hello + "MAIL FROM:<\xff@b.example>\r\n", false, err5},
	{"SMTP: overlong line", "smtp", hello + "MAIL FROM:<" + longLine, false, `(?m)^(5\d\d|421)`},
	{"SMTP: BDAT of a terabyte", "smtp", mailTo + "BDAT 999999999999\r\n", false, `(?m)^(552|554|501|421)`},
	{"SMTP: BDAT over 64 bits", "smtp", mailTo + "BDAT 99999999999999999999999 LAST\r\n", false, `(?m)^(5\d\d|421)`},
	{"SMTP: SIZE over the limit", "smtp", hello + "MAIL FROM:<a@b.example> SIZE=999999999\r\n", false, `(?m)^552`},
	{"SMTP: unknown parameter", "smtp", hello + "MAIL FROM:<a@b.example> XYZZY=1\r\n", false, `(?m)^555`},
	{"SMTP: many errors", "smtp", hello + strings.Repeat("XYZZY\r\n", 200), false, `(?m)^421`},
	{"SMTP: AUTH nonsense", "submission", hello + "AUTH PLAIN !!!!\r\n", false, `(?m)^(501|535|530|538)`},
	{"LMTP: HELO", "lmtp", "HELO x\r\n", false, `(?m)^5\d\d`},
	{"POP3: unknown command", "pop3", "XYZZY\r\n", false, errPOP},
	{"POP3: wrong state", "pop3", "RETR 1\r\n", false, errPOP},
	{"POP3: overlong line", "pop3", "USER " + longLine, false, "closed"},
	{"POP3: no such message", "pop3", "RETR 99999999999999999999\r\n", true, errPOP},
	{"POP3: message 0", "pop3", "DELE 0\r\n", true, errPOP},
	{"POP3: TOP of too many lines", "pop3", "TOP 1 99999999999999999999\r\n", true, `(?m)^(-ERR|\.)`},
	{"POP3: NUL", "pop3", "US\x00ER\r\n", false, errPOP},
}

// TestBadInput sends each attack over a connection of its own, to a server on which
// somebody else works all the time.
func TestBadInput(t *testing.T) {
	t.Parallel()
	if against() != "" {
		t.Skip("the answers are ours")
	}
	s := start(t, martlet.Options{Set: map[string]string{"smtp.idle_timeout": `"10s"`}, Accounts: []string{"mallory"}})
	fill(t, dialIMAP(t, s, "mallory"), "INBOX", "mallory", 100)
	witness := dialIMAP(t, s, "bob")
	witness.ok("SELECT INBOX")
	slow := startSlow(s)
	memory := watchMemory(s.pid)
	for _, a := range attacks {
		a.run(t, s)
		witness.SetDeadline(time.Now().Add(time.Minute))
		witness.ok("NOOP")
	}
	t.Run("never reads", func(t *testing.T) { neverReads(t, s) })
	t.Run("half closed", func(t *testing.T) { halfClosed(t, s) })
	t.Run("broken off", func(t *testing.T) { brokenOff(t, s) })
	t.Run("smuggling", func(t *testing.T) { smuggling(t, s) })
	t.Run("STARTTLS", func(t *testing.T) { startTLSInjection(t, s) })
	t.Run("too large", func(t *testing.T) { tooLarge(t, s) })
	witness.ok("NOOP")
	if m := s.mention(t, "bob", "Subject: smuggled"); m != nil {
		t.Errorf("a refused message is there all the same\n%s", m)
	}
	arrive(t, s, "bob", 1)
	silent(t, s)
	slow.check(t)
	memory.check(t, 300<<20)
}

// run sends and reads up to the wanted answer or the end.
func (a attack) run(t *testing.T, s *subject) {
	t.Helper()
	c, err := net.DialTimeout("tcp", s.addr(a.door), 10*time.Second)
	if err != nil {
		t.Errorf("%s: %v", a.name, err)
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	intro := ""
	if acc := s.account(t, "mallory"); a.login && a.door == "imap" {
		intro = fmt.Sprintf("l LOGIN %s %s\r\n", acc.Address, acc.Password)
	} else if a.login {
		intro = fmt.Sprintf("USER %s\r\nPASS %s\r\n", acc.Address, acc.Password)
	}
	go io.WriteString(c, intro+a.send)
	pattern := regexp.MustCompile(a.want)
	var got []byte
	for b := make([]byte, 1<<16); ; {
		n, err := c.Read(b)
		if got = append(got, b[:n]...); pattern.Match(got) {
			return
		}
		if len(got) > 1<<20 {
			got = got[len(got)-1<<16:]
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: no answer that matches %s within 20 s, only\n%s", a.name, a.want, tail(string(got)))
			return
		} else if err != nil && a.want != "closed" {
			t.Errorf("%s: the connection ended (%v) without an answer that matches %s\n%s", a.name, err, a.want, tail(string(got)))
			return
		} else if err != nil {
			return
		}
	}
}

// smuggling ends the data with anything but CRLF.CRLF. It must not end there, and
// bare line ends must be refused (CVE-2023-51764 and its like).
func smuggling(t *testing.T, s *subject) {
	for _, door := range []string{"smtp", "lmtp"} {
		for _, end := range []string{"\n.\n", "\r\n.\n", "\n.\r\n", "\r.\r", "\r\n.\r", "\r.\r\n"} {
			w := dialSMTP(t, s.addr(door), door == "lmtp")
			w.expect(2, "MAIL FROM:<x@example.org>")
			w.expect(2, "RCPT TO:<bob@martlet.test>")
			w.expect(3, "DATA")
			w.send("Subject: smuggled\r\n\r\nx%sMAIL FROM:<evil@example.org>\r\nRCPT TO:<bob@martlet.test>\r\n.\r\n", end)
			if code, text := w.reply(); code/100 != 5 {
				t.Errorf("%s with the end %q: %s", door, end, text)
			}
			if code, text := w.cmd("NOOP"); code != 250 {
				t.Errorf("%s with the end %q: after that NOOP gives %s", door, end, text)
			}
		}
	}
}

// neverReads asks for everything again and again and reads nothing.
func neverReads(t *testing.T, s *subject) {
	w := dialIMAP(t, s, "alice")
	w.ok("CREATE big")
	blob := bytes.Repeat([]byte(strings.Repeat("x", 70)+"\r\n"), 70_000)
	for range 4 {
		if status := w.append("big", "", "", blob); !strings.HasPrefix(status, "OK") {
			t.Fatal(status)
		}
	}
	before := residentMemory(s.pid)
	var conns []*imapWire
	for range 20 {
		c := dialIMAP(t, s, "alice")
		c.ok("SELECT big")
		c.send("%s", strings.Repeat("x FETCH 1:* BODY.PEEK[]\r\n", 500))
		conns = append(conns, c)
	}
	time.Sleep(3 * time.Second)
	if grown := residentMemory(s.pid) - before; grown > 128<<20 {
		t.Errorf("20 clients that read nothing cost %d MB", grown>>20)
	}
	w.ok("NOOP")
	for _, c := range conns {
		c.Close()
	}
}

// halfClosed ends its own direction in several states and waits for the server to end
// the other.
func halfClosed(t *testing.T, s *subject) {
	a := s.account(t, "mallory")
	login := fmt.Sprintf("l LOGIN %s %s\r\n", a.Address, a.Password)
	for name, c := range map[string][2]string{
		"at once": {"imap", ""}, "after a command": {"imap", "a NOOP\r\n"}, "within a command": {"imap", "a NO"},
		"within a literal": {"imap", login + "a APPEND INBOX {1000+}\r\nhalf"}, "in IDLE": {"imap", login + "s SELECT INBOX\r\na IDLE\r\n"},
		"SMTP at once": {"smtp", ""}, "SMTP within data": {"smtp", mailTo + "DATA\r\nSubject: half\r\n"},
		"SMTP within BDAT": {"smtp", mailTo + "BDAT 100\r\nhalf"}, "POP3": {"pop3", "USER x\r\n"}, "LMTP": {"lmtp", "LHLO x\r\n"},
		"TLS": {"imaps", "\x16\x03\x01"},
	} {
		conn, err := net.Dial("tcp", s.addr(c[0]))
		must(t, err)
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(conn, c[1])
		conn.(*net.TCPConn).CloseWrite()
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the server does not end a connection whose client has ended", name)
		}
		conn.Close()
	}
	if s.mention(t, "bob", "Subject: half") != nil {
		t.Error("half a message was delivered")
	}
}

// brokenOff leaves in the middle of a message, many times.
func brokenOff(t *testing.T, s *subject) {
	before := dialIMAP(t, s, "mallory").exists("INBOX")
	for range 50 {
		w := dialIMAP(t, s, "mallory")
		w.send("a APPEND INBOX {100000+}\r\n%s", strings.Repeat("x", 50_000))
		w.Close()
	}
	if n := dialIMAP(t, s, "mallory").exists("INBOX"); n != before {
		t.Errorf("%d messages came of APPENDs that were broken off", n-before)
	}
}

// startTLSInjection sends a command in the same packet as STARTTLS. It came in plain
// and must not be answered in TLS (RFC 3207, 6; CVE-2011-0411).
func startTLSInjection(t *testing.T, s *subject) {
	for _, c := range []struct{ door, intro, start, injected, probe, bad string }{
		{"imap", "", "a STARTTLS\r\n", "b CAPABILITY\r\n", "c NOOP\r\n", "b OK"},
		{"smtp", hello, "STARTTLS\r\n", "VRFY injected\r\n", "NOOP\r\n", "25"},
		{"submission", hello, "STARTTLS\r\n", "RSET\r\n", "NOOP\r\n", ""},
		{"pop3", "", "STLS\r\n", "CAPA\r\n", "NOOP\r\n", "UIDL"},
	} {
		w := dial(t, s.addr(c.door))
		w.SetDeadline(time.Now().Add(20 * time.Second))
		w.line()
		if c.intro != "" {
			w.send("%s", c.intro)
			for strings.HasPrefix(w.line(), "250-") {
			}
		}
		w.send("%s%s", c.start, c.injected)
		w.line()
		tc := tls.Client(w.Conn, s.trust(t))
		if err := tc.Handshake(); err != nil {
			continue // the server ended it: as good
		}
		io.WriteString(tc, c.probe)
		b := make([]byte, 1024)
		n, _ := tc.Read(b)
		if first := string(b[:n]); n > 0 && (c.bad != "" && strings.Contains(first, c.bad) && c.door != "smtp" || strings.Count(first, "\r\n") > 1) {
			t.Errorf("%s answers in TLS what came before it: %q", c.door, first)
		}
		tc.Close()
		plain := dial(t, s.addr(c.door))
		plain.SetDeadline(time.Now().Add(20 * time.Second))
		plain.line()
		plain.send("%s", c.intro+c.start)
		for l := plain.line(); strings.HasPrefix(l, "250"); {
			l = plain.line()
		}
		plain.send("a NOOP\r\nNOOP\r\nthis is not TLS\r\n\r\n")
		rest, err := io.ReadAll(plain.r)
		if errors.Is(err, os.ErrDeadlineExceeded) || bytes.Contains(rest, []byte("OK")) || bytes.Contains(rest, []byte("250 ")) {
			t.Errorf("%s after STARTTLS answers plain bytes with %q, %v", c.door, rest, err)
		}
	}
}

// tooLarge sends more than the limit although it was not announced.
func tooLarge(t *testing.T, s *subject) {
	for _, door := range []string{"smtp", "lmtp"} {
		w := dialSMTP(t, s.addr(door), door == "lmtp")
		w.expect(2, "MAIL FROM:<x@example.org>")
		w.expect(2, "RCPT TO:<bob@martlet.test>")
		w.expect(3, "DATA")
		block := bytes.Repeat([]byte(strings.Repeat("y", 70)+"\r\n"), 10_000)
		go func() {
			for range 80 { // 57 MB; the limit is 50
				if _, err := w.Write(block); err != nil {
					return
				}
			}
			io.WriteString(w, ".\r\n")
		}()
		if code, text := w.reply(); code != 552 {
			t.Errorf("%s: a message over the limit is answered with %s", door, text)
		}
	}
}

// slowClients send a byte every few seconds, in several states, from their start on.
type slowClients struct {
	wg   sync.WaitGroup
	mu   sync.Mutex
	open map[string]bool
}

// slowLimit is how long a server may bear a client that trickles, and some more.
const slowLimit = 165 * time.Second

func startSlow(s *subject) *slowClients {
	sc := &slowClients{open: map[string]bool{}}
	for name, c := range map[string][2]string{
		"command": {"imap", "a NOOP"}, "SMTP command": {"smtp", "EHLO"}, "SMTP data": {"smtp", mailTo + "DATA\r\n"},
		"POP3 command": {"pop3", "USER "}, "TLS handshake": {"imaps", "\x16"}, "HTTP header": {"http", "GET / HTTP/1.1\r\nHost: x\r\nX: "},
	} {
		sc.open[name] = true
		sc.wg.Go(func() {
			conn, err := net.Dial("tcp", s.addr(c[0]))
			if err != nil {
				return
			}
			defer conn.Close()
			io.WriteString(conn, c[1])
			gone := make(chan struct{})
			go func() { io.Copy(io.Discard, conn); close(gone) }()
			for end := time.Now().Add(slowLimit); time.Now().Before(end); {
				select {
				case <-gone:
					sc.mu.Lock()
					delete(sc.open, name)
					sc.mu.Unlock()
					return
				case <-time.After(3 * time.Second):
					io.WriteString(conn, "x")
				}
			}
		})
	}
	return sc
}

func (sc *slowClients) check(t *testing.T) {
	t.Helper()
	sc.wg.Wait()
	for name := range sc.open {
		t.Errorf("%s: a client that sends a byte every 3 s is still there after %s", name, slowLimit)
	}
}

// silent says nothing for longer than the configuration allows (RFC 5321, 4.5.3.2.7).
func silent(t *testing.T, s *subject) {
	w := dialSMTP(t, s.addr("smtp"), false)
	w.SetDeadline(time.Now().Add(40 * time.Second))
	if code, text := w.reply(); code != 421 {
		t.Errorf("a silent client is sent away with %s", text)
	}
}

// residentMemory returns the memory of a process in bytes.
func residentMemory(pid int) int64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	var kb int64
	fmt.Sscan(rest, &kb)
	return kb << 10
}

// memoryWatch looks at the memory of a process several times a second.
type memoryWatch struct {
	stop, done  chan struct{}
	first, peak int64
	samples     int
}

func watchMemory(pid int) *memoryWatch {
	m := &memoryWatch{stop: make(chan struct{}), done: make(chan struct{}), first: residentMemory(pid)}
	go func() {
		defer close(m.done)
		for {
			m.peak = max(m.peak, residentMemory(pid))
			m.samples++
			select {
			case <-m.stop:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	return m
}

func (m *memoryWatch) check(t *testing.T, limit int64) {
	t.Helper()
	close(m.stop)
	<-m.done
	t.Logf("memory: %d MB before, %d MB at most, %d samples", m.first>>20, m.peak>>20, m.samples)
	if m.peak-m.first > limit {
		t.Errorf("the server's memory grew from %d MB to %d MB", m.first>>20, m.peak>>20)
	}
}
