package traffic

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// Patience is how long a reply may take before a client gives up.
const Patience = 30 * time.Second

// End is how a session has ended that did not end by itself.
type End struct {
	Refused bool   // there was no connection at all
	Mid     bool   // something was begun that the server has not answered
	Said    string // the server's last word: a 421, a BYE, an -ERR; "" if it said none
	Err     error
}

func (e *End) Error() string {
	when := "between transactions"
	if e.Mid {
		when = "in the middle of a transaction"
	}
	if e.Refused {
		when = "at the connection"
	}
	return fmt.Sprintf("ended %s, the server said %q: %v", when, e.Said, e.Err)
}

// Gone tells whether an error is that the server has ended without a word.
func Gone(err error) bool {
	var e *End
	return errors.As(err, &e) && e.Said == "" && !errors.Is(e.Err, os.ErrDeadlineExceeded)
}

// Refusal is a reply that is not the one wanted; the session goes on.
type Refusal struct{ Asked, Text string }

func (r *Refusal) Error() string { return fmt.Sprintf("%s: answered %q", r.Asked, r.Text) }

// Temporary tells whether the server asks to try again: 4xx, a NO that names a state that
// passes, an -ERR of that kind.
func (r *Refusal) Temporary() bool {
	for _, p := range []string{"4", "NO [OVERQUOTA]", "NO [UNAVAILABLE]", "NO [LIMIT]", "NO [INUSE]", "-ERR [SYS/TEMP]", "-ERR [IN-USE]"} {
		if strings.HasPrefix(r.Text, p) {
			return true
		}
	}
	return false
}

// Talk is a conversation with a server, line by line, in the simplest way: what the
// ledger believes must not depend on a clever client.
type Talk struct {
	conn net.Conn
	r    *bufio.Reader
	tag  int
	mid  bool   // see End
	bye  string // how the line begins with which the server ends the session
}

// Dial connects.
func Dial(addr string) (*Talk, error) {
	c, err := net.DialTimeout("tcp", addr, Patience)
	if err != nil {
		return nil, &End{Refused: true, Err: err}
	}
	return &Talk{conn: c, r: bufio.NewReaderSize(c, 1<<16)}, nil
}

// Close closes the connection without a word.
func (t *Talk) Close() { t.conn.Close() }

// Send writes, and does not wait for anything.
func (t *Talk) Send(format string, args ...any) error {
	t.conn.SetDeadline(time.Now().Add(Patience))
	if _, err := fmt.Fprintf(t.conn, format, args...); err != nil {
		// What the server said before it hung up may still be there to be read.
		if last, bye := t.lastWord(); bye {
			return t.end(last, err)
		}
		return t.end("", err)
	}
	return nil
}

func (t *Talk) lastWord() (string, bool) {
	for {
		l, err := t.r.ReadString('\n')
		if t.isBye(l) {
			return strings.TrimSpace(l), true
		}
		if err != nil {
			return "", false
		}
	}
}

func (t *Talk) isBye(line string) bool { return t.bye != "" && strings.HasPrefix(line, t.bye) }

func (t *Talk) end(said string, err error) error { return &End{Mid: t.mid, Said: said, Err: err} }

var errBye = errors.New("the server said goodbye")

// Line reads one line.
func (t *Talk) Line() (string, error) {
	l, err := t.r.ReadString('\n')
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = fmt.Errorf("no reply for %v: %w", Patience, err)
		}
		return "", t.end("", err)
	}
	l = strings.TrimRight(l, "\r\n")
	if t.isBye(l) {
		return l, t.end(l, errBye)
	}
	return l, nil
}

// Reply reads one SMTP reply and returns its last line (RFC 5321, 4.2).
func (t *Talk) Reply() (string, error) {
	for {
		l, err := t.Line()
		if err != nil || len(l) < 4 || l[3] != '-' {
			return l, err
		}
	}
}

// Ask sends a line, or none, and wants a reply that begins with a code.
func (t *Talk) Ask(code, format string, args ...any) error {
	_, err := t.answer(code, format, args...)
	return err
}

func (t *Talk) answer(code, format string, args ...any) (string, error) {
	asked := fmt.Sprintf(format, args...)
	if format != "" {
		if err := t.Send("%s\r\n", asked); err != nil {
			return "", err
		}
	}
	l, err := t.Reply()
	if err == nil && !strings.HasPrefix(l, code) {
		err = &Refusal{asked, l}
	}
	return l, err
}

// Do runs an IMAP command and returns its untagged lines and its tagged one. A literal
// is given as a non-synchronising one.
func (t *Talk) Do(format string, args ...any) (lines []string, err error) {
	t.tag++
	tag := fmt.Sprintf("t%d ", t.tag)
	t.mid = true
	if err := t.Send(tag+format+"\r\n", args...); err != nil {
		return nil, err
	}
	for {
		l, err := t.Line()
		if err != nil {
			return lines, err
		}
		lines = append(lines, l)
		done, ok := strings.CutPrefix(l, tag)
		if !ok {
			continue
		}
		t.mid = false
		if !strings.HasPrefix(done, "OK") {
			verb, _, _ := strings.Cut(format, "\r\n")
			return lines, &Refusal{verb, done}
		}
		return lines, nil
	}
}

// Mailer opens a session with an SMTP or, with hello LHLO, an LMTP server.
func Mailer(addr, hello, user, password string) (*Talk, error) {
	return open(addr, "421", func(t *Talk) error {
		err := t.Ask("220", "")
		if err == nil {
			err = t.Ask("250", "%s traffic.example", hello)
		}
		if err == nil && user != "" {
			err = t.Ask("235", "AUTH PLAIN %s", base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password)))
		}
		return err
	})
}

// Reader opens a session with an IMAP server.
func Reader(addr, user, password string) (*Talk, error) {
	return open(addr, "* BYE", func(t *Talk) error {
		_, err := t.Line()
		if err == nil {
			_, err = t.Do(`LOGIN "%s" "%s"`, user, password)
		}
		return err
	})
}

// Popper opens a session with a POP3 server.
func Popper(addr, user, password string) (*Talk, error) {
	return open(addr, "-ERR [SYS/TEMP] the server is stopping", func(t *Talk) error {
		err := t.Ask("+OK", "")
		if err == nil {
			err = t.Ask("+OK", "USER %s", user)
		}
		if err == nil {
			err = t.Ask("+OK", "PASS %s", password)
		}
		return err
	})
}

func open(addr, bye string, hello func(*Talk) error) (*Talk, error) {
	t, err := Dial(addr)
	if err != nil {
		return nil, err
	}
	t.bye = bye
	t.conn.SetDeadline(time.Now().Add(Patience))
	if err := hello(t); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}
