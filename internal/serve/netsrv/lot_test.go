package netsrv

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// A sweep while a connection has its place and is not yet parked passes it by. Its time is
// watched all the same.
func TestSweepBeforeParked(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("connections are not parked on this system")
	}
	s := New(Options{})
	l := &s.lot
	l.begin()
	defer l.end()
	_, theirs := socket(t)
	c := newConn(s, &Service{}, newOpenConns(), theirs, netip.Addr{})
	c.until = time.Now().Add(2 * time.Hour)
	l.due(c.until.Add(-time.Hour)) // an earlier one stands
	if !c.fit() {
		t.Fatal("a socket cannot be parked")
	}

	c.mu.Lock()
	done := make(chan int)
	go func() { done <- c.park() }()
	for !hasPlaces(l) {
		time.Sleep(100 * time.Microsecond)
	}
	l.mu.Lock()
	l.sweepAt = time.Time{} // as a sweep leaves it that finds nobody parked
	l.sweeper.Stop()
	l.mu.Unlock()
	c.mu.Unlock()

	if how := <-done; how != isParked {
		t.Fatal(how)
	}
	l.mu.Lock()
	if !l.sweepAt.Equal(c.until) {
		t.Errorf("the next sweep is at %v, the connection's time is over at %v", l.sweepAt, c.until)
	}
	l.mu.Unlock()
	l.leave(c)
}

func hasPlaces(l *lot) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.places) > 0
}

// A connection of ServeConn that waits is watched when no listener is left.
func TestServeConnAlone(t *testing.T) {
	s := New(Options{})
	made := make(chan *parked, 1)
	svc := parkingService(NoTLS, func(p *parked) { p.quiet = true; made <- p })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serving := make(chan error)
	go func() { serving <- s.Serve(t.Context(), ln, svc) }()
	first := dial(t, ln.Addr().String())
	hear(t, bufio.NewReader(first), "hello\n") // it does serve
	<-made
	first.Close()

	ours, theirs := socket(t)
	over := make(chan struct{})
	go func() {
		defer close(over)
		s.ServeConn(t.Context(), theirs, svc)
	}()
	r := bufio.NewReader(ours)
	hear(t, r, "hello\n")
	waitParkedOr((<-made).c)
	ln.Close()
	<-serving

	ours.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(ours, "line\n")
	hear(t, r, "line\n")
	io.WriteString(ours, "bye\n")
	hear(t, r, "closed\n")
	ours.Close()
	<-over
	if s.lot.poller.Load() != nil || len(s.lot.free) != len(s.lot.places) {
		t.Error("the lot is not empty")
	}
}

// socket returns both ends of a connection through the kernel.
func socket(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ours = dial(t, ln.Addr().String())
	if theirs, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { theirs.Close() })
	return ours, theirs
}

// Nothing watches the kernel while there is no socket: then a server stands still when its
// connections do, and a test may keep the time.
func TestNoPollerWithoutSockets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{Idle: time.Hour})
		ours, theirs := net.Pipe()
		began, done := time.Now(), make(chan struct{})
		go func() {
			defer close(done)
			s.ServeConn(t.Context(), theirs, Service{Handle: func(_ context.Context, c *Conn) { c.Wait() }})
		}()
		<-done
		if took := time.Since(began); took < time.Hour || took > 2*time.Hour {
			t.Errorf("an idle connection was closed after %v", took)
		}
		ours.Close()
	})
}
