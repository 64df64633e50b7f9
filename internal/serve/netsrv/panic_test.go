package netsrv

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// faulty is a connection some of whose calls panic; writes from the second on, for the first
// says hello.
type faulty struct {
	net.Conn
	read, write, deadline, closing bool
	writes                         atomic.Int32
}

func (f *faulty) Read(p []byte) (int, error) {
	if f.read {
		panic("faulty read")
	}
	return f.Conn.Read(p)
}

func (f *faulty) Write(p []byte) (int, error) {
	if f.writes.Add(1) > 1 && f.write {
		panic("faulty write")
	}
	return f.Conn.Write(p)
}

func (f *faulty) SetReadDeadline(t time.Time) error {
	if f.deadline { // the connection's lock is held
		panic("faulty deadline")
	}
	return f.Conn.SetReadDeadline(t)
}

func (f *faulty) Close() error {
	f.Conn.Close()
	if f.closing {
		panic("faulty close")
	}
	return nil
}

// stopper is a parked whose Close asks for what needs the connection's lock.
type stopper struct{ parked }

func (p *stopper) Close() {
	p.c.Stopping()
	p.parked.Close()
}

// A panic below the protocol, while a session waits or ends, ends that session alone.
func TestPanicInWait(t *testing.T) {
	for name, f := range map[string]*faulty{
		"read":           {read: true},
		"write":          {write: true},
		"deadline":       {deadline: true},
		"close":          {closing: true},
		"read, then all": {read: true, write: true, closing: true},
	} {
		t.Run(name, func(t *testing.T) {
			var log lockedBuffer
			s, addr := start(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil))}, Service{Handle: echo})
			other := dial(t, addr)
			ask(t, other, "hello\n")

			ours, theirs := net.Pipe()
			defer ours.Close()
			f.Conn = theirs
			over := make(chan struct{})
			p := &stopper{}
			go func() {
				defer close(over)
				s.ServeConn(t.Context(), f, Service{Handle: func(_ context.Context, c *Conn) {
					p.c = c
					c.W.WriteString("hello\n")
					c.Park(p, true)
				}})
			}()
			hear(t, bufio.NewReader(ours), "hello\n")
			go io.Copy(io.Discard, ours)
			for range 2 { // these fail once the session is over
				io.WriteString(ours, "line\n")
			}
			io.WriteString(ours, "bye\n")
			<-over

			if n := p.closed.Load(); n != 1 {
				t.Errorf("the session was closed %d times", n)
			}
			if st := s.Stats(); st.Panics != 1 || st.Open != 1 {
				t.Errorf("stats %+v", st)
			}
			if got := ask(t, other, "still here\n"); got != "still here\n" {
				t.Errorf("other session got %q", got)
			}
			word, _, _ := strings.Cut(name, ",")
			if text := log.String(); !strings.Contains(text, "faulty "+word) || !strings.Contains(text, "panic_test.go") {
				t.Errorf("log does not tell: %s", text)
			}
		})
	}
}

// The same for one who was parked, by what carries it on.
func TestPanicParked(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("connections are not parked on this system")
	}
	for name, carryOn := range map[string]func(*parked, net.Conn){
		"input": func(p *parked, nc net.Conn) {
			breakReader(p.c)
			io.WriteString(nc, "line\n")
		},
		"wake": func(p *parked, _ net.Conn) {
			p.c.mu.Lock()
			p.c.session = &broken{}
			p.c.mu.Unlock()
			p.c.Wake()
		},
	} {
		t.Run(name, func(t *testing.T) {
			made := make(chan *parked, 2)
			s, addr := start(t, Options{}, parkingService(NoTLS, func(p *parked) { p.quiet = true; made <- p }))
			victim := dial(t, addr)
			p := <-made
			other := bufio.NewReader(dial(t, addr))
			q := <-made
			hear(t, other, "hello\n")
			waitParked(p.c)
			waitParked(q.c)
			carryOn(p, victim)
			io.Copy(io.Discard, victim) // to its end, however that comes
			if n := s.Stats().Panics; n != 1 {
				t.Errorf("%d panics counted", n)
			}
			q.c.Wake()
			hear(t, other, "news\n")
		})
	}
}

// breakReader makes the next read of a parked connection panic.
func breakReader(c *Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.zip = &zipped{ending: true} // without a reader
}

// broken is a session that panics whatever is asked of it.
type broken struct{}

func (*broken) Resume(bool, error) { panic("broken") }
func (*broken) Close()             { panic("broken") }
