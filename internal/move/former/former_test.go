package former

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/fault"
)

// old is an IMAP server that knows LOGIN and says to it what it is told to say.
type old struct {
	listener net.Listener
	greeting string
	answer   func(user, password string) string // tagged, or untagged if it begins with "*"

	mu     sync.Mutex
	dialed int
	now    time.Time
}

func newOld(t *testing.T, answer func(user, password string) string) *old {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	o := &old{listener: l, greeting: "* OK [CAPABILITY IMAP4rev1] ready", answer: answer, now: time.Unix(1_800_000_000, 0)}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go o.serve(c)
		}
	}()
	return o
}

func (o *old) serve(c net.Conn) {
	defer c.Close()
	o.mu.Lock()
	greeting := o.greeting
	o.mu.Unlock()
	fmt.Fprintf(c, "%s\r\n", greeting)
	for in := bufio.NewScanner(c); in.Scan(); {
		f := strings.Fields(in.Text())
		switch {
		case len(f) == 4 && f[1] == "LOGIN":
			a := o.answer(strings.Trim(f[2], `"`), strings.Trim(f[3], `"`))
			if strings.HasPrefix(a, "*") {
				fmt.Fprintf(c, "%s\r\n", a)
				return
			}
			fmt.Fprintf(c, "%s %s\r\n", f[0], a)
		case len(f) == 2 && f[1] == "CAPABILITY":
			fmt.Fprintf(c, "* CAPABILITY IMAP4rev1\r\n%s OK\r\n", f[0])
		default:
			fmt.Fprintf(c, "%s OK\r\n", f[0])
		}
	}
}

func (o *old) servers(parallel int) *Servers {
	return New(context.Background(), Options{
		Parallel: parallel, Timeout: 5 * time.Second, Random: rand.Reader, Deadline: context.WithTimeout,
		Now: func() time.Time { o.mu.Lock(); defer o.mu.Unlock(); return o.now },
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			o.mu.Lock()
			o.dialed++
			o.mu.Unlock()
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	})
}

func (o *old) at() directory.Origin {
	return directory.Origin{Server: "imap://" + o.listener.Addr().String()}
}

func TestVerdicts(t *testing.T) {
	for answer, want := range map[string]fault.Kind{
		"OK":                           fault.Internal, // none
		"OK [CAPABILITY IMAP4rev1] in": fault.Internal,
		"NO":                           fault.Unauthenticated,
		"NO wrong":                     fault.Unauthenticated,
		"NO [AUTHENTICATIONFAILED] no": fault.Unauthenticated,
		"NO [EXPIRED] change it":       fault.Unauthenticated,
		"NO [UNAVAILABLE] Temporary authentication failure.":     fault.Unavailable,
		"NO [SERVERBUG] oops":                                    fault.Unavailable,
		"NO [CONTACTADMIN] ask":                                  fault.Unavailable,
		"NO [PRIVACYREQUIRED] TLS":                               fault.Unavailable,
		"NO [LIMIT] too many":                                    fault.Unavailable,
		"NO [ALERT] Application-specific password required":      fault.Unavailable,
		"NO Maximum number of connections from user+IP exceeded": fault.Unavailable,
		"BAD what":       fault.Unavailable,
		"* BYE shutting": fault.Unavailable,
		"* OK nothing":   fault.Unavailable,
	} {
		o := newOld(t, func(string, string) string { return answer })
		err := o.servers(1).Check(context.Background(), o.at(), "anna", "Veilchen")
		if (err == nil) != strings.HasPrefix(answer, "OK") || err != nil && fault.Of(err) != want {
			t.Errorf("%s: %v (%v), want %v", answer, err, fault.Of(err), want)
		}
	}
}

// Whether the password was sent is told apart: what a server says to it may be anything.
func TestPasswordWasShown(t *testing.T) {
	for answer, want := range map[string]bool{"BAD what": true, "* BYE shutting": true, "NO [LIMIT] no": true, "NO [WHATEVER] no": true, "* OK nothing": true} {
		o := newOld(t, func(string, string) string { return answer })
		if err := o.servers(1).Check(context.Background(), o.at(), "anna", "x"); shown(err) != want {
			t.Errorf("%s: %v", answer, err)
		}
	}
	for _, greeting := range []string{"* BYE busy", "* OK [CAPABILITY IMAP4rev1 LOGINDISABLED] no way", "* OK [CAPABILITY IMAP4rev1 LOGINDISABLED AUTH=XOAUTH2] no passwords", "* PREAUTH [CAPABILITY IMAP4rev1] in"} {
		o := newOld(t, func(string, string) string { return "OK" })
		o.greeting = greeting
		if err := o.servers(1).Check(context.Background(), o.at(), "anna", "x"); err == nil || shown(err) || fault.Is(err, fault.Unauthenticated) {
			t.Errorf("%s: %v", greeting, err)
		}
	}
}

// shown tells whether Check says that the password was sent.
func shown(err error) bool {
	mark := reflect.TypeOf(directory.Shown(nil))
	for ; err != nil; err = errors.Unwrap(err) {
		if reflect.TypeOf(err) == mark {
			return true
		}
	}
	return false
}

// A server that takes everybody who connects proves nothing, and neither does a question
// without a password.
func TestAttackNobodyIsProven(t *testing.T) {
	o := newOld(t, func(string, string) string { return "OK" })
	s := o.servers(1)
	for _, c := range [][2]string{{"", "x"}, {"anna", ""}} {
		if err := s.Check(context.Background(), o.at(), c[0], c[1]); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("%q: %v", c, err)
		}
	}
	if o.dialed != 0 {
		t.Error("asked without a name or a password")
	}
	greet := func(text string) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.greeting = text
	}
	greet("* PREAUTH [CAPABILITY IMAP4rev1] welcome, whoever you are")
	if err := s.Check(context.Background(), o.at(), "anna", "wrong"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("PREAUTH: %v", err)
	}
	greet("* OK ready")
	if err := s.Check(context.Background(), o.at(), "anna", "right"); err != nil {
		t.Errorf("the control: %v", err)
	}
}

// The password does not leave this machine in the clear.
func TestAttackPasswordInTheClear(t *testing.T) {
	heard := make(chan string, 10)
	o := newOld(t, func(_, password string) string { heard <- password; return "OK" })
	s := o.servers(1)
	far := s.opt
	far.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := s.opt.Dial(ctx, network, o.listener.Addr().String())
		if err != nil {
			return nil, err
		}
		return elsewhere{c}, nil
	}
	err := New(context.Background(), far).Check(context.Background(), directory.Origin{Server: "imap://old.example"}, "anna", "Veilchen")
	if err == nil || fault.Is(err, fault.Unauthenticated) || len(heard) != 0 {
		t.Errorf("%v, heard %d passwords", err, len(heard))
	}
	if err := s.Check(context.Background(), o.at(), "anna", "Veilchen"); err != nil || len(heard) != 1 {
		t.Errorf("the control: %v", err)
	}
}

// elsewhere is a connection to another machine.
type elsewhere struct{ net.Conn }

func (elsewhere) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 143} }

// A server that is down is asked once, and again after a while; a no and a yes are asked for
// each time.
func TestOutageIsShort(t *testing.T) {
	o := newOld(t, func(_, p string) string {
		if p == "Veilchen" {
			return "OK"
		}
		return "NO"
	})
	s := o.servers(2)
	for i := range 4 {
		s.Check(context.Background(), o.at(), "anna", []string{"Veilchen", "x"}[i%2])
	}
	if o.dialed != 4 {
		t.Errorf("%d questions for four logins", o.dialed)
	}
	o.listener.Close()
	for range 10 {
		if err := s.Check(context.Background(), o.at(), "anna", "Veilchen"); !fault.Is(err, fault.Unavailable) {
			t.Fatal(err)
		}
	}
	if o.dialed != 5 {
		t.Errorf("%d questions, while it is down", o.dialed)
	}
	for _, step := range []time.Duration{coolDown, -time.Hour} { // a clock that is set back holds nobody up
		o.now = o.now.Add(step)
		was := o.dialed
		s.Check(context.Background(), o.at(), "anna", "Veilchen")
		if o.dialed != was+1 {
			t.Errorf("not asked again after %v", step)
		}
	}
}

// A client that goes away before the answer says nothing of the server.
func TestClientThatGoesAway(t *testing.T) {
	ctx, leave := context.WithCancel(context.Background())
	over := make(chan struct{})
	o := newOld(t, func(string, string) string { leave(); <-over; return "OK" })
	s := o.servers(2)
	if err := s.Check(ctx, o.at(), "anna", "Veilchen"); err == nil {
		t.Error("there was an answer")
	}
	close(over)
	if err := s.Check(context.Background(), o.at(), "bert", "Nelken"); err != nil {
		t.Error(err)
	}
}

// So many questions at a time, and no more that wait than are worth waiting for.
func TestQuestionsAreBounded(t *testing.T) {
	gate, begun := make(chan struct{}), make(chan struct{}, 100)
	o := newOld(t, func(string, string) string { begun <- struct{}{}; <-gate; return "OK" })
	s := o.servers(2)
	var wg sync.WaitGroup
	results := make(chan error, 100)
	for i := range 40 {
		wg.Go(func() { results <- s.Check(context.Background(), o.at(), fmt.Sprint("u", i), "x") })
	}
	for range 40 - 2 - 2*waitingPerPlace {
		if err := <-results; !fault.Is(err, fault.Limited) {
			t.Errorf("refused with %v", err)
		}
	}
	<-begun
	<-begun
	if len(begun) != 0 {
		t.Error("more than two at a time")
	}
	close(gate)
	wg.Wait()
	close(results)
	n := 0
	for err := range results {
		if err != nil {
			t.Error(err)
		}
		n++
	}
	if n != 2+2*waitingPerPlace {
		t.Errorf("%d answered", n)
	}
}

func TestParseServer(t *testing.T) {
	for text, want := range map[string]string{
		"imaps://old.example": "{old.example 993 0}", "imap://old.example:1143/": "{old.example 1143 2}", "imaps://[::1]:993": "{::1 993 0}", "imap://[::1]": "{::1 143 2}",
		"https://x": "!", "imaps://": "!", "old.example": "!", "imaps://x:0": "!", "imaps://x:99999": "!", "imaps://a:secret@x": "!",
	} {
		s, err := ParseServer(text)
		if got := fmt.Sprint(s); (err != nil) != (want == "!") || err == nil && got != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
}
