package netsrv

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/martlet-mail/martlet/internal/fault"
)

// echo answers each line with itself until the client says bye.
func echo(ctx context.Context, c *Conn) {
	for {
		if _, err := c.Wait(); err != nil {
			return
		}
		line, err := c.R.ReadString('\n')
		if err != nil || line == "bye\n" {
			return
		}
		c.W.WriteString(line)
	}
}

// start serves svc on loopback until the test ends.
func start(t *testing.T, o Options, svc Service) (*Server, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln, svc) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s, ln.Addr().String()
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return nc
}

// ask sends text and returns the line that comes back.
func ask(t *testing.T, nc net.Conn, text string) string {
	t.Helper()
	io.WriteString(nc, text)
	line, err := bufio.NewReader(nc).ReadString('\n')
	if err != nil {
		t.Fatalf("after %q: %v", text, err)
	}
	return line
}

// TestSessionsShareNoBuffer drives many sessions at once, which lend each other
// their buffers at every Wait.
func TestSessionsShareNoBuffer(t *testing.T) {
	_, addr := start(t, Options{}, Service{Handle: echo})
	var wg sync.WaitGroup
	for i := range 20 {
		nc := dial(t, addr)
		wg.Go(func() {
			r := bufio.NewReader(nc)
			for j := range 50 {
				want := fmt.Sprintf("session %d line %d %s\n", i, j, strings.Repeat("x", j*40))
				io.WriteString(nc, want+want) // pipelined
				for range 2 {
					if got, err := r.ReadString('\n'); got != want {
						t.Errorf("got %q, %v; want %q", got, err, want)
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestLimits(t *testing.T) {
	tests := []struct {
		name    string
		opt     Options
		refused bool // the third connection
	}{
		{"total", Options{MaxConns: 2}, true},
		{"address", Options{MaxPerAddress: 2, Trusted: []netip.Prefix{}}, true},
		{"trusted address", Options{MaxPerAddress: 2}, false},
		{"enough", Options{MaxConns: 3, MaxPerAddress: 3, Trusted: []netip.Prefix{}}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, addr := start(t, tt.opt, Service{Handle: echo, Refuse: "421 too many"})
			for range 2 {
				ask(t, dial(t, addr), "hello\n")
			}
			got := ask(t, dial(t, addr), "third\n")
			want := "third\n"
			if tt.refused {
				want = "421 too many\r\n"
			}
			if got != want {
				t.Errorf("third connection got %q, want %q", got, want)
			}
			if st := s.Stats(); (st.Refused == 1) != tt.refused || st.Open < 2 {
				t.Errorf("stats %+v", st)
			}
		})
	}
}

func TestLimitIsGivenBack(t *testing.T) {
	s := New(Options{MaxConns: 1, MaxPerAddress: 1, Trusted: []netip.Prefix{}})
	peer := netip.MustParseAddr("2001:db8::1")
	for range 3 {
		if !s.enter(peer) {
			t.Fatal("a place that was given back is not free")
		}
		if s.enter(netip.MustParseAddr("2001:db8::2")) {
			t.Fatal("one /64 counts as two addresses")
		}
		s.leave(&Conn{srv: s, peer: peer})
	}
	if len(s.byAddr) != 0 {
		t.Errorf("counters left behind: %v", s.byAddr)
	}
}

// signer logs in to the account each line names.
func signer(ctx context.Context, c *Conn) {
	for {
		if _, err := c.Wait(); err != nil {
			return
		}
		line, err := c.R.ReadString('\n')
		if err != nil {
			return
		}
		if err := c.SignIn(strings.TrimSpace(line)); err != nil {
			fmt.Fprintf(c.W, "%v: %s\n", fault.Of(err), fault.Say(err))
			continue
		}
		c.W.WriteString("welcome\n")
	}
}

// Accounts behind one address do not hinder each other: a login frees the place of
// its address, and one account with too many connections is the only one to notice.
func TestAccountLimit(t *testing.T) {
	s, addr := start(t, Options{MaxPerAccount: 2, MaxPerAddress: 2, Trusted: []netip.Prefix{}}, Service{Handle: signer, Refuse: "421"})
	const full = "limited: too many connections of this account at the same time\n"
	var alice []net.Conn
	for _, c := range []struct{ account, want string }{
		{"alice", "welcome\n"}, {"alice", "welcome\n"}, {"bob", "welcome\n"}, {"alice", full},
	} {
		nc := dial(t, addr)
		if got := ask(t, nc, c.account+"\n"); got != c.want {
			t.Errorf("%s: %q", c.account, got)
		}
		if c.account == "alice" {
			alice = append(alice, nc)
		}
	}
	late := alice[2] // still there, and may try again
	alice[0].Close()
	for s.Stats().Open > 3 {
		time.Sleep(time.Millisecond)
	}
	for range 2 { // the second time it has its place already
		if got := ask(t, late, "alice\n"); got != "welcome\n" {
			t.Errorf("a place was given back: %q", got)
		}
	}
	if got := ask(t, late, "bob\n"); got != "welcome\n" { // moves
		t.Error(got)
	}
	if got := ask(t, dial(t, addr), "alice\n"); got != "welcome\n" {
		t.Error(got)
	}
	if got := ask(t, dial(t, addr), "bob\n"); got != full {
		t.Error(got)
	}
}

// However sessions go, what is counted is taken back.
func TestCountsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := New(Options{MaxConns: 6, MaxPerAddress: 2, MaxPerAccount: 2, Trusted: []netip.Prefix{}})
		peers := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), {}}
		var open []*Conn
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			switch i := rapid.IntRange(0, 9).Draw(t, "step"); {
			case i < 4:
				if peer := rapid.SampledFrom(peers).Draw(t, "peer"); s.enter(peer) {
					open = append(open, &Conn{srv: s, peer: peer})
				}
			case len(open) == 0:
			case i < 8:
				c := rapid.SampledFrom(open).Draw(t, "conn")
				c.SignIn(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "account"))
			default:
				s.leave(open[0])
				open = open[1:]
			}
			addresses, accounts := map[netip.Addr]int{}, map[string]int{}
			for _, c := range open {
				switch {
				case c.signedIn:
					accounts[c.account]++
				case c.peer.IsValid():
					addresses[c.peer]++
				}
			}
			if s.conns != len(open) || s.conns > 6 || !reflect.DeepEqual(s.byAccount, accounts) || len(s.byAddr) != len(addresses) {
				t.Fatalf("%d %v %v, have %d %v %v", s.conns, s.byAccount, s.byAddr, len(open), accounts, addresses)
			}
			for name, n := range accounts {
				if n > 2 {
					t.Fatalf("%s has %d", name, n)
				}
			}
		}
	})
}

// lockedBuffer is a log that sessions may still write while a test reads it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestPanicEndsOneSession(t *testing.T) {
	var log lockedBuffer
	s, addr := start(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil)), NewID: func() string { return "id7" }},
		Service{Handle: func(ctx context.Context, c *Conn) {
			line, _ := c.R.ReadString('\n')
			if line == "panic\n" {
				panic("on request")
			}
			c.W.WriteString(c.ID() + "\n")
			echo(ctx, c)
		}})
	other := dial(t, addr)
	ask(t, other, "hello\n")
	victim := dial(t, addr)
	io.WriteString(victim, "panic\n")
	if _, err := io.ReadAll(victim); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, other, "still here\n"); got != "still here\n" {
		t.Errorf("other session got %q", got)
	}
	if n := s.Stats().Panics; n != 1 {
		t.Errorf("%d panics counted", n)
	}
	if !strings.Contains(log.String(), "conn=id7") || !strings.Contains(log.String(), "on request") {
		t.Errorf("log does not tell: %s", &log)
	}
}

// outcome runs a handler that reads one line and returns the error it got.
func outcome(t *testing.T, o Options, client func(net.Conn)) error {
	t.Helper()
	errs := make(chan error, 1)
	_, addr := start(t, o, Service{Handle: func(ctx context.Context, c *Conn) {
		_, err := c.Wait()
		if err == nil {
			_, err = c.R.ReadString('\n')
		}
		errs <- err
	}})
	nc := dial(t, addr)
	go client(nc)
	return <-errs
}

func TestPace(t *testing.T) {
	drip := func(nc net.Conn) { // never a whole line
		for {
			if _, err := nc.Write([]byte("a")); err != nil {
				return
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
	tests := []struct {
		name   string
		opt    Options
		client func(net.Conn)
		want   error
	}{
		{"nothing at all", Options{Idle: 20 * time.Millisecond}, func(net.Conn) {}, fault.New(fault.Limited, "idle for too long")},
		{"byte by byte", Options{Stall: 30 * time.Millisecond, MinRate: 1 << 20}, drip, fault.New(fault.Limited, "too slow")},
		{"gone", Options{}, func(nc net.Conn) { nc.Close() }, fault.New(fault.Closed, "client closed the connection")},
		{"gone in a line", Options{}, func(nc net.Conn) { io.WriteString(nc, "abc"); nc.Close() }, fault.New(fault.Closed, "client closed the connection")},
		{"steady", Options{MinRate: 1 << 10}, func(nc net.Conn) { io.WriteString(nc, strings.Repeat("x", 1<<20)+"\n") }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := outcome(t, tt.opt, tt.client)
			if tt.want == nil && err != nil || tt.want != nil && (fault.Of(err) != fault.Of(tt.want) || fault.Say(err) != fault.Say(tt.want)) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// TestSlowReader has a client that asks for much and reads nothing.
func TestSlowReader(t *testing.T) {
	errs := make(chan error, 1)
	_, addr := start(t, Options{Stall: 30 * time.Millisecond, MinRate: 1 << 30}, Service{Handle: func(ctx context.Context, c *Conn) {
		for {
			if _, err := c.W.Write(make([]byte, 64<<10)); err != nil {
				errs <- err
				return
			}
		}
	}})
	dial(t, addr)
	if err := <-errs; !fault.Is(err, fault.Limited) {
		t.Errorf("got %v", err)
	}
}

// TestLastWords answers and closes while the client still sends: the answer must
// arrive.
func TestLastWords(t *testing.T) {
	_, addr := start(t, Options{}, Service{Handle: func(ctx context.Context, c *Conn) {
		c.R.ReadString('\n')
		c.W.WriteString("too much\n")
	}})
	for range 20 {
		nc := dial(t, addr)
		io.WriteString(nc, "hello\n"+strings.Repeat("x", 100<<10))
		if got := ask(t, nc, ""); got != "too much\n" {
			t.Fatalf("got %q", got)
		}
		nc.Close()
	}
}

// A read that brings nothing ends no wait.
func TestEmptyRead(t *testing.T) {
	ours, theirs := net.Pipe()
	ended := make(chan struct{})
	go func() {
		New(Options{}).ServeConn(context.Background(), theirs, Service{Handle: echo})
		close(ended)
	}()
	for range 3 {
		ours.Write(nil)
	}
	if got := ask(t, ours, "hello\n"); got != "hello\n" {
		t.Error(got)
	}
	ours.Close()
	<-ended
}

func TestWake(t *testing.T) {
	conns := make(chan *Conn, 1)
	waits := make(chan string)
	_, addr := start(t, Options{}, Service{Handle: func(ctx context.Context, c *Conn) {
		conns <- c
		for {
			input, err := c.Wait()
			if err != nil {
				return
			}
			if !input {
				c.W.WriteString("news\n")
				waits <- "woken"
				continue
			}
			line, _ := c.R.ReadString('\n')
			waits <- line
		}
	}})
	nc := dial(t, addr)
	c := <-conns
	for i := range 100 {
		c.Wake()
		if got := <-waits; got != "woken" {
			t.Fatalf("round %d: %q", i, got)
		}
		io.WriteString(nc, "hi\n")
		if got := <-waits; got != "hi\n" {
			t.Fatalf("round %d: %q", i, got)
		}
	}
	news := make([]byte, 500)
	if _, err := io.ReadFull(nc, news); err != nil || string(news) != strings.Repeat("news\n", 100) {
		t.Errorf("client read %q, %v", news, err)
	}
}

func TestStop(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(Options{Grace: 20 * time.Millisecond})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	stuck := make(chan error, 1)
	go func() {
		done <- s.Serve(ctx, ln, Service{Handle: func(ctx context.Context, c *Conn) {
			c.W.WriteString("hello\n")
			if _, err := c.Wait(); err != nil {
				if c.Stopping() {
					c.W.WriteString("goodbye\n")
				}
				return
			}
			_, err := c.R.ReadString('\n') // in the middle of a command
			stuck <- err
		}})
	}()
	idle, busy := dial(t, ln.Addr().String()), dial(t, ln.Addr().String())
	ask(t, idle, "")
	ask(t, busy, "")
	io.WriteString(busy, "half a line")
	for s.Stats().Open < 2 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if rest, err := io.ReadAll(idle); string(rest) != "goodbye\n" || err != nil {
		t.Errorf("idle client read %q, %v", rest, err)
	}
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
	select {
	case err := <-stuck:
		if !fault.Is(err, fault.Closed) {
			t.Errorf("busy session ended with %v", err)
		}
	default: // stopped before it read the half line: it said goodbye too
	}
	if _, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		t.Error("still listening")
	}
}

// brokenListener fails a few times before each connection.
type brokenListener struct {
	net.Listener
	fail int
}

func (l *brokenListener) Accept() (net.Conn, error) {
	if l.fail++; l.fail%4 != 0 {
		return nil, &net.OpError{Op: "accept", Err: []error{syscall.EMFILE, syscall.ECONNABORTED, errors.New("odd")}[l.fail%4-1]}
	}
	return l.Listener.Accept()
}

func TestAcceptSurvives(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(Options{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, &brokenListener{Listener: ln}, Service{Handle: echo}) }()
	for range 2 {
		if got := ask(t, dial(t, ln.Addr().String()), "there\n"); got != "there\n" {
			t.Errorf("got %q", got)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestPeerAddr(t *testing.T) {
	s := New(Options{})
	for in, want := range map[string]bool{"127.0.0.1": true, "::1": true, "192.0.2.1": false, "2001:db8::1": false} {
		if got := s.trusts(netip.MustParseAddr(in)); got != want {
			t.Errorf("trusts(%s) = %v", in, got)
		}
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if p := peerAddr(a); p.IsValid() || !s.trusts(p) {
		t.Errorf("a pipe has the address %v", p)
	}
}
