package smtpd

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/martlet-mail/martlet/internal/guard"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
)

// stranger is a client that says lines and returns the answers.
type stranger struct {
	t  *testing.T
	c  net.Conn
	in *bufio.Reader
}

func (w *world) stranger(t *testing.T, o Options, from string) *stranger {
	c := w.connect(o, netsrv.NoTLS, from)
	s := &stranger{t, c, bufio.NewReader(c)}
	s.read()
	return s
}

func (s *stranger) read() (last string) {
	s.t.Helper()
	for {
		line, err := s.in.ReadString('\n')
		if err != nil {
			s.t.Fatal(err)
		}
		if len(line) > 3 && line[3] == ' ' {
			return strings.TrimSpace(line)
		}
	}
}

// end waits until the server has closed.
func (s *stranger) end() { s.in.ReadByte() }

func (s *stranger) say(format string, args ...any) string {
	s.t.Helper()
	if _, err := fmt.Fprintf(s.c, format+"\r\n", args...); err != nil {
		s.t.Fatal(err)
	}
	return s.read()
}

// A stranger is asked to come again, and one of too many messages later; whom the
// configuration trusts, and LMTP, never meet this.
func TestGuard(t *testing.T) {
	w := newWorld(t)
	now := start
	o := w.options
	o.Guard = guard.New(guard.Options{Engine: w.disk, Now: func() time.Time { return now }, Greylist: 5 * time.Minute, PerAddress: 2})
	const far = "203.0.113.5"
	talk := func(from string, kind Kind) []string {
		o := o
		o.Kind = kind
		s := w.stranger(t, o, from)
		hello := "EHLO far.test"
		if kind == LMTP {
			hello = "LHLO far.test"
		}
		s.say("%s", hello)
		said := []string{s.say("MAIL FROM:<x@far.test>")}
		if said[0][0] == '2' {
			said = append(said, s.say("RCPT TO:<nobody@here.test>"), s.say("RCPT TO:<alice@here.test>"))
		}
		if got := s.say("QUIT"); got[:3] != "221" {
			t.Errorf("QUIT: %s", got)
		}
		s.end()
		return said
	}
	want := func(got []string, codes string) {
		t.Helper()
		var all []string
		for _, line := range got {
			all = append(all, line[:9])
		}
		if strings.Join(all, ", ") != codes {
			t.Errorf("answered %q, want %s", got, codes)
		}
	}
	want(talk(far, Relay), "250 2.1.0, 550 5.1.1, 450 4.7.1")
	want(talk("127.0.0.1", Relay), "250 2.1.0, 550 5.1.1, 250 2.1.5")
	want(talk(far, LMTP), "250 2.1.0, 550 5.1.1, 250 2.1.5")
	now = now.Add(6 * time.Minute)
	want(talk(far, Relay), "250 2.1.0, 550 5.1.1, 250 2.1.5")
	want(talk(far, Relay), "250 2.1.0, 550 5.1.1, 250 2.1.5")
	want(talk(far, Relay), "450 4.7.1")
}

// Each refused command of a stranger takes its time, and no other does.
func TestTarpit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		o := w.options
		o.Tarpit = 10 * time.Second
		for from, want := range map[string]time.Duration{"203.0.113.5": 10 * time.Second, "127.0.0.1": 0} {
			s := w.stranger(t, o, from)
			begin := time.Now()
			s.say("EHLO far.test")
			s.say("MAIL FROM:<x@far.test>")
			s.say("RCPT TO:<alice@here.test>")
			if took := time.Since(begin); took != 0 {
				t.Errorf("good commands of %s took %v", from, took)
			}
			s.say("RCPT TO:<nobody@here.test>")
			if took := time.Since(begin); took != want {
				t.Errorf("a refused one of %s took %v, want %v", from, took, want)
			}
			s.c.Close()
		}
		w.stop()
		w.done.Wait()
	})
}
