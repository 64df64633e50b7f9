package netsrv

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Whoever keeps talking and does not log in is cut off; whoever has logged in is not.
func TestNoLogin(t *testing.T) {
	for _, parks := range []bool{false, true} {
		why := make(chan error, 2)
		_, addr := start(t, Options{Login: 400 * time.Millisecond}, Service{People: true, Handle: func(_ context.Context, c *Conn) {
			s := &talker{c: c, why: why, parks: parks}
			if parks {
				c.Park(s, true)
				return
			}
			for !s.over {
				input, err := c.Wait()
				s.Resume(input, err)
			}
		}})
		member := dial(t, addr)
		in := bufio.NewReader(member)
		io.WriteString(member, "login\n")
		hear(t, in, "login\n")
		stranger := dial(t, addr)
		go func() {
			for err := error(nil); err == nil; time.Sleep(20 * time.Millisecond) {
				_, err = io.WriteString(stranger, "hello\n")
			}
		}()
		if err := <-why; !fault.Is(err, fault.Limited) || fault.Say(err) != noLogin {
			t.Errorf("parks %v: the stranger's session ended with %v", parks, err)
		}
		time.Sleep(400 * time.Millisecond)
		io.WriteString(member, "still here\n")
		hear(t, in, "still here\n")
	}
}

// talker is echo by steps; the line "login" signs in.
type talker struct {
	c    *Conn
	why  chan error
	over bool

	parks bool
}

func (s *talker) Resume(_ bool, err error) {
	line := ""
	if err == nil {
		line, err = s.c.R.ReadString('\n')
	}
	if err != nil {
		s.why <- err
		s.over = true
		return
	}
	if line == "login\n" {
		s.c.SignIn("member")
	}
	s.c.W.WriteString(line)
	if s.parks {
		s.c.Park(s, true)
	}
}

func (s *talker) Close() {}

// A client that is gone is known to be gone once it was written to, one that has said
// all it has to say is not taken for gone.
func TestPresence(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	pair := func() (client *net.TCPConn, server net.Conn) {
		client = dial(t, ln.Addr().String()).(*net.TCPConn)
		if server, err = ln.Accept(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { server.Close() })
		return client, server
	}
	becomes := func(nc net.Conn, want Presence) {
		t.Helper()
		for range 500 {
			if presence(nc) == want {
				return
			}
			time.Sleep(time.Millisecond)
		}
		t.Fatalf("presence is %d, not %d", presence(nc), want)
	}
	client, server := pair()
	io.WriteString(client, "not read yet")
	becomes(server, Here)
	client.CloseWrite()
	becomes(server, Silent)
	io.WriteString(server, "an answer")
	time.Sleep(20 * time.Millisecond)
	becomes(server, Silent)
	hearAll(t, client, "an answer")

	client, server = pair()
	client.Close()
	becomes(server, Silent)
	io.WriteString(server, "an answer")
	becomes(server, Gone)
	server.Close()
	becomes(server, Gone)
}

func hearAll(t *testing.T, nc net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(nc, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v", got, err)
	}
}

// Connections of another server count as those of sessions do.
func TestListenerIsCounted(t *testing.T) {
	for name, o := range map[string]Options{"all": {MaxConns: 3}, "address": {MaxPerAddress: 3, Trusted: []netip.Prefix{}}} {
		s, addr := start(t, o, Service{Handle: echo})
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") })}
		go web.Serve(s.Listener(ln))
		ask(t, dial(t, addr), "a session\n")
		get := func(nc net.Conn) (*http.Response, error) {
			io.WriteString(nc, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			return http.ReadResponse(bufio.NewReader(nc), nil)
		}
		var open []net.Conn
		for range 2 {
			nc := dial(t, ln.Addr().String())
			if _, err := get(nc); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			open = append(open, nc)
		}
		if _, err := get(dial(t, ln.Addr().String())); err == nil {
			t.Errorf("%s: one connection too many is served", name)
		}
		if st := s.Stats(); st.Open != 3 || st.Refused != 1 {
			t.Errorf("%s: %+v", name, st)
		}
		for _, nc := range open {
			nc.Close()
		}
		for range 500 {
			if s.Stats().Open == 1 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if _, err := get(dial(t, ln.Addr().String())); err != nil {
			t.Errorf("%s: nothing is served after the others have gone: %v", name, err)
		}
		web.Close()
	}
}

// Work is that of the account, before it has signed in of the address, and between them of
// whom it is said to be for.
func TestParty(t *testing.T) {
	parties := make(chan string, 8)
	strange := Options{Trusted: []netip.Prefix{}}
	for _, o := range []Options{strange, {}} {
		_, addr := start(t, o, Service{Handle: func(_ context.Context, c *Conn) {
			tell := func() { parties <- c.party() }
			tell()
			c.WorkFor("bob")
			tell()
			c.SignIn("alice")
			tell()
			c.SignOut()
			c.WorkFor("")
			tell()
		}})
		dial(t, addr)
		address := ""
		if o.Trusted != nil {
			address = "127.0.0.1/32"
		}
		for _, want := range []string{address, "bob", "alice", address} {
			if got := <-parties; got != want {
				t.Errorf("party %q, not %q", got, want)
			}
		}
	}
}
