package crash

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// talk is a conversation with a server, line by line, in the simplest way: what the
// ledger believes must not depend on a clever client.
type talk struct {
	conn net.Conn
	r    *bufio.Reader
	tag  int
}

// patience is how long a reply may take before the test calls it a failure.
const patience = 30 * time.Second

var errKilled = errors.New("the server is gone")

// answered is a reply that was not hoped for.
type answered struct{ ask, reply string }

func (a *answered) Error() string {
	return fmt.Sprintf("%.60s: answered %q", a.ask, a.reply)
}

func dial(addr string) (*talk, error) {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, errors.Join(errKilled, err)
	}
	return &talk{conn: c, r: bufio.NewReaderSize(c, 1<<16)}, nil
}

func (t *talk) close() { _ = t.conn.Close() }

func (t *talk) send(format string, args ...any) error {
	_ = t.conn.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintf(t.conn, format, args...); err != nil {
		return errors.Join(errKilled, err)
	}
	return nil
}

func (t *talk) line() (string, error) {
	l, err := t.r.ReadString('\n')
	if err != nil {
		var slow net.Error
		if errors.As(err, &slow) && slow.Timeout() {
			return "", fmt.Errorf("no reply for %v", patience)
		}
		return "", errors.Join(errKilled, err)
	}
	return strings.TrimRight(l, "\r\n"), nil
}

// reply reads one SMTP reply and returns its last line (RFC 5321, 4.2).
func (t *talk) reply() (string, error) {
	for {
		l, err := t.line()
		if err != nil || len(l) < 4 || l[3] != '-' {
			return l, err
		}
	}
}

// ask sends a line and wants a reply that begins with code.
func (t *talk) ask(code, format string, args ...any) error {
	if format != "" {
		if err := t.send(format+"\r\n", args...); err != nil {
			return err
		}
	}
	l, err := t.reply()
	if err == nil && !strings.HasPrefix(l, code) {
		err = &answered{fmt.Sprintf(format, args...), l}
	}
	return err
}

// do runs an IMAP command and returns its untagged lines and its tagged one. A
// command with a literal is given with a non-synchronising one.
func (t *talk) do(format string, args ...any) (lines []string, err error) {
	t.tag++
	tag := fmt.Sprintf("t%d ", t.tag)
	if err := t.send(tag+format+"\r\n", args...); err != nil {
		return nil, err
	}
	for {
		l, err := t.line()
		if err != nil {
			return lines, err
		}
		lines = append(lines, l)
		if done, ok := strings.CutPrefix(l, tag); ok {
			if !strings.HasPrefix(done, "OK") {
				return lines, &answered{fmt.Sprintf(format, args...), done}
			}
			return lines, nil
		}
	}
}

// mailer opens a session with an SMTP or, with hello LHLO, an LMTP server.
func mailer(addr, hello, user, password string) (*talk, error) {
	t, err := dial(addr)
	if err != nil {
		return nil, err
	}
	err = t.ask("220", "")
	if err == nil {
		err = t.ask("250", "%s crash.example", hello)
	}
	if err == nil && user != "" {
		err = t.ask("235", "AUTH PLAIN %s", base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password)))
	}
	if err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func reader(addr, user, password string) (*talk, error) {
	t, err := dial(addr)
	if err != nil {
		return nil, err
	}
	if _, err = t.line(); err == nil {
		_, err = t.do(`LOGIN "%s" "%s"`, user, password)
	}
	if err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}
