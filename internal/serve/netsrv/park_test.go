package netsrv

import (
	"bufio"
	"bytes"
	"compress/flate"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// parked is a protocol that parks: it answers each line with itself, "news" when it is
// woken, and its last word when its session is over.
type parked struct {
	c      *Conn
	quiet  bool
	busy   atomic.Bool // two at a time must never carry it on
	closed atomic.Int32
	woken  chan struct{} // if not nil: what a wake waits for
	errs   chan error    // if not nil: what ended the session
}

func (p *parked) Resume(input bool, err error) {
	if !p.busy.CompareAndSwap(false, true) {
		panic("carried on twice at the same time")
	}
	defer p.busy.Store(false)
	switch {
	case err != nil:
		if p.c.Stopping() {
			p.c.W.WriteString("stopping\n")
		}
		if p.errs != nil {
			p.errs <- err
		}
		return
	case !input:
		if p.woken != nil {
			<-p.woken
		}
		p.c.W.WriteString("news\n")
	default:
		line, err := p.c.R.ReadString('\n')
		switch {
		case err != nil, line == "bye\n":
			return
		case line == "panic\n":
			panic("on request")
		case line == "wake\n":
			p.c.Wake()
		}
		p.c.W.WriteString(line)
	}
	p.c.Park(p, p.quiet)
}

func (p *parked) Close() {
	if p.closed.Add(1) == 1 {
		p.c.W.WriteString("closed\n")
	} else {
		panic("closed twice")
	}
}

// parking is a service of such sessions, each of which is made by make and told of.
func parkingService(mode TLSMode, made func(*parked)) Service {
	return Service{TLS: mode, Idle: time.Minute, Handle: func(_ context.Context, c *Conn) {
		p := &parked{c: c}
		made(p)
		c.W.WriteString("hello\n")
		c.Park(p, p.quiet)
	}}
}

func nowParked(c *Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.parked
}

func waitParked(c *Conn) {
	for !nowParked(c) {
		time.Sleep(100 * time.Microsecond)
	}
}

func hear(t *testing.T, r *bufio.Reader, want string) {
	t.Helper()
	if got, err := r.ReadString('\n'); err != nil || got != want {
		t.Fatalf("got %q, %v; want %q", got, err, want)
	}
}

// A session that waits has no goroutine, and all that may happen to it still does.
func TestParked(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("connections are not parked on this system")
	}
	made := make(chan *parked, 1)
	s, addr := start(t, Options{}, parkingService(NoTLS, func(p *parked) { p.quiet = true; made <- p }))
	nc := dial(t, addr)
	r := bufio.NewReader(nc)
	p := <-made
	hear(t, r, "hello\n")
	for i := range 50 {
		waitParked(p.c)
		p.c.Wake()
		hear(t, r, "news\n")
		waitParked(p.c)
		line := fmt.Sprintf("line %d\n", i)
		io.WriteString(nc, line+line)
		hear(t, r, line)
		hear(t, r, line)
	}
	io.WriteString(nc, "wake\n") // from within
	hear(t, r, "wake\n")
	hear(t, r, "news\n")
	waitParked(p.c)
	io.WriteString(nc, "half")
	io.WriteString(nc, " and half\n")
	hear(t, r, "half and half\n")
	io.WriteString(nc, "panic\n")
	hear(t, r, "closed\n")
	if n := s.Stats().Panics; n != 1 {
		t.Errorf("%d panics counted", n)
	}
}

func TestParkedHasNoGoroutine(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("connections are not parked on this system")
	}
	var all sync.Map
	_, addr := start(t, Options{}, parkingService(NoTLS, func(p *parked) { p.quiet = true; all.Store(p, nil) }))
	before := runtime.NumGoroutine()
	for range 100 {
		hear(t, bufio.NewReader(dial(t, addr)), "hello\n")
	}
	all.Range(func(p, _ any) bool { waitParked(p.(*parked).c); return true })
	for i := 0; runtime.NumGoroutine() > before+20; i++ {
		if time.Sleep(time.Millisecond); i > 5000 {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

// How a wait ends, parked or not.
func TestParkedEnds(t *testing.T) {
	for _, tt := range []struct {
		name   string
		idle   time.Duration
		client func(net.Conn)
		want   error
	}{
		{"nothing at all", 20 * time.Millisecond, func(net.Conn) {}, fault.New(fault.Limited, "idle for too long")},
		{"gone", time.Minute, func(nc net.Conn) { io.ReadFull(nc, make([]byte, 6)); nc.Close() }, fault.New(fault.Closed, "client closed the connection")},
		{"half gone", time.Minute, func(nc net.Conn) { nc.(*net.TCPConn).CloseWrite() }, fault.New(fault.Closed, "client closed the connection")},
	} {
		for _, quiet := range []bool{false, true} {
			errs := make(chan error, 1)
			svc := parkingService(NoTLS, func(p *parked) { p.quiet, p.errs = quiet, errs })
			svc.Idle = tt.idle
			_, addr := start(t, Options{}, svc)
			go tt.client(dial(t, addr))
			if err := <-errs; fault.Of(err) != fault.Of(tt.want) || fault.Say(err) != fault.Say(tt.want) {
				t.Errorf("%s, quiet %v: %v", tt.name, quiet, err)
			}
		}
	}
}

// One who is woken and gets stuck stands in nobody's way.
func TestStuckAmongCalled(t *testing.T) {
	release := make(chan struct{})
	made := make(chan *parked, 1)
	var n atomic.Int32
	_, addr := start(t, Options{}, parkingService(NoTLS, func(p *parked) {
		p.quiet = true
		if n.Add(1) <= 10 {
			p.woken = release
		}
		made <- p
	}))
	var clients []*bufio.Reader
	var sessions []*parked
	for range 20 {
		clients = append(clients, bufio.NewReader(dial(t, addr)))
		sessions = append(sessions, <-made)
	}
	for _, p := range sessions {
		waitParkedOr(p.c)
	}
	for _, p := range sessions {
		p.c.Wake()
	}
	for _, r := range clients[10:] {
		hear(t, r, "hello\n")
		hear(t, r, "news\n")
	}
	close(release)
	for _, r := range clients[:10] {
		hear(t, r, "hello\n")
		hear(t, r, "news\n")
	}
}

// waitParkedOr waits until a connection is parked, where that is possible.
func waitParkedOr(c *Conn) {
	if runtime.GOOS == "linux" {
		waitParked(c)
	}
}

// What came in one record of TLS with the line before is not waited for; nor does a part
// of a record end a wait.
func TestParkedTLS(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		made := make(chan *parked, 1)
		_, addr := start(t, Options{Certificate: certificate(t)}, parkingService(ImplicitTLS, func(p *parked) { p.quiet = true; made <- p }))
		pieces := &pieces{Conn: dial(t, addr)}
		tc := tls.Client(pieces, &tls.Config{InsecureSkipVerify: true, MaxVersion: version})
		r := bufio.NewReader(tc)
		hear(t, r, "hello\n")
		p := <-made
		for i := range 20 {
			waitParkedOr(p.c)
			pieces.slow.Store(i == 5)
			io.WriteString(tc, "one\ntwo\n")
			io.WriteString(tc, "three\n")
			hear(t, r, "one\n")
			hear(t, r, "two\n")
			hear(t, r, "three\n")
			p.c.Wake()
			hear(t, r, "news\n")
		}
		io.WriteString(tc, "bye\n")
		hear(t, r, "closed\n")
		if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	}
}

// pieces sends byte by byte if it is slow.
type pieces struct {
	net.Conn
	slow atomic.Bool
}

func (p *pieces) Write(b []byte) (int, error) {
	if !p.slow.Load() {
		return p.Conn.Write(b)
	}
	for i := range b {
		if _, err := p.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
		time.Sleep(time.Millisecond)
	}
	return len(b), nil
}

// The same with compression, which also reads ahead.
func TestParkedCompressed(t *testing.T) {
	made := make(chan *parked, 1)
	_, addr := start(t, Options{}, Service{Idle: time.Minute, Handle: func(_ context.Context, c *Conn) {
		c.W.WriteString("hello\n")
		if err := c.Compress(); err != nil {
			return
		}
		p := &parked{c: c, quiet: true}
		made <- p
		c.Park(p, true)
	}})
	nc := dial(t, addr)
	plain := make([]byte, len("hello\n"))
	io.ReadFull(nc, plain)
	p := <-made
	w, _ := flate.NewWriter(nc, flate.BestSpeed)
	r := bufio.NewReader(flate.NewReader(nc))
	for range 20 {
		waitParkedOr(p.c)
		io.WriteString(w, "one\ntwo\n")
		w.Flush()
		hear(t, r, "one\n")
		hear(t, r, "two\n")
		p.c.Wake()
		hear(t, r, "news\n")
	}
}

func TestStopParked(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(Options{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	made := make(chan *parked, 100)
	var n atomic.Int32
	go func() {
		done <- s.Serve(ctx, ln, parkingService(NoTLS, func(p *parked) { p.quiet = n.Add(1)%2 == 0; made <- p }))
	}()
	var clients []net.Conn
	for range 50 {
		nc := dial(t, ln.Addr().String())
		clients = append(clients, nc)
		if p := <-made; p.quiet {
			waitParkedOr(p.c)
		}
	}
	cancel()
	for _, nc := range clients {
		if all, err := io.ReadAll(nc); err != nil || string(all) != "hello\nstopping\nclosed\n" {
			t.Fatalf("%q %v", all, err)
		}
		nc.Close()
	}
	if err := <-done; err != nil || s.Stats().Open != 0 {
		t.Error(err, s.Stats())
	}
	if s.lot.poller.Load() != nil || len(s.lot.free) != len(s.lot.places) {
		t.Error("the lot is not empty")
	}
}

// Everything at once, at random: input, wakes, silence, ends. Every line is answered, every
// wake is told of, and every session is closed once.
func TestParkedStress(t *testing.T) {
	var open atomic.Int32
	var sessions sync.Map // client's address -> *parked
	svc := parkingService(NoTLS, func(p *parked) {
		p.quiet = rand.IntN(2) == 0
		open.Add(1)
		sessions.Store(p.c.raw.RemoteAddr().String(), p)
	})
	s, addr := start(t, Options{Grace: 10 * time.Second}, svc)
	var clients sync.WaitGroup
	for range 30 {
		clients.Go(func() {
			for range 5 {
				stressOne(t, addr, &sessions)
			}
		})
	}
	clients.Wait()
	for s.Stats().Open > 0 {
		time.Sleep(time.Millisecond)
	}
	sessions.Range(func(_, p any) bool {
		if n := p.(*parked).closed.Load(); n != 1 {
			t.Errorf("closed %d times", n)
		}
		return true
	})
	if n := s.Stats().Panics; n != 0 {
		t.Errorf("%d panics", n)
	}
}

func stressOne(t *testing.T, addr string, sessions *sync.Map) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(time.Minute))
	r := bufio.NewReader(nc)
	r.ReadString('\n')
	v, _ := sessions.Load(nc.LocalAddr().String())
	p := v.(*parked)
	expect := func(want string, others *int) bool { // the line, perhaps behind news
		for {
			got, err := r.ReadString('\n')
			if err == nil && got == "news\n" && got != want {
				*others++
				continue
			}
			if err != nil || got != want {
				t.Errorf("got %q %v, want %q", got, err, want)
				return false
			}
			return true
		}
	}
	news := 0
	for i := range 40 {
		switch rand.IntN(4) {
		case 0:
			time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
		case 1:
			go p.c.Wake()
			line := fmt.Sprintf("with a wake %d\n", i)
			io.WriteString(nc, line)
			if !expect(line, &news) {
				return
			}
		case 2:
			line := fmt.Sprintf("%d\n", i)
			io.WriteString(nc, strings.Repeat(line, 3))
			for range 3 {
				if !expect(line, &news) {
					return
				}
			}
		default:
			p.c.Wake()
			if got, err := r.ReadString('\n'); err != nil || got != "news\n" {
				t.Errorf("after a wake: %q %v", got, err)
				return
			}
		}
	}
	if rand.IntN(2) == 0 {
		io.WriteString(nc, "bye\n")
		all, err := io.ReadAll(r)
		if err != nil || !bytes.HasSuffix(all, []byte("closed\n")) {
			t.Errorf("at the end: %q %v", all, err)
		}
	}
}
