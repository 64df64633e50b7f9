package pgtest

import (
	"bytes"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy is a wire to a server, or to another one later, that the test can break.
type Proxy struct {
	listener net.Listener

	mu      sync.Mutex
	changed *sync.Cond
	target  string
	paused  bool
	refuses bool
	closed  bool
	delay   time.Duration
	trap    *trap
	shake   func() (wait time.Duration, cut bool)
	pairs   map[*pair]struct{}
}

// pair is a connection and its like on the other side.
type pair struct {
	client, server net.Conn
	answer         *trap // for what the server says next
}

func (p *pair) close() {
	_ = p.client.Close()
	_ = p.server.Close()
}

// trap waits for bytes from the client.
type trap struct {
	pattern []byte
	hands   bool          // on what it was waiting for, before it cuts
	late    chan struct{} // not nil: hands it on when this is closed, and cuts nothing
	goesOn  bool          // as if nothing had been
	answer  bool          // hands it on, and keeps the answer until late is closed
	left    int           // times
	sprung  chan struct{}
}

// NewProxy returns a proxy to an address.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{listener: l, target: target, pairs: map[*pair]struct{}{}}
	p.changed = sync.NewCond(&p.mu)
	go p.accept()
	t.Cleanup(func() {
		_ = l.Close()
		p.set(func() { p.closed, p.paused = true, false })
		p.Cut()
	})
	return p
}

// Address returns where the proxy listens.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Target leads connections that come from now on to another address.
func (p *Proxy) Target(address string) { p.set(func() { p.target = address }) }

// Pause holds back all bytes, in both directions; Resume lets them go.
func (p *Proxy) Pause() { p.set(func() { p.paused = true }) }

// Resume ends Pause.
func (p *Proxy) Resume() { p.set(func() { p.paused = false }) }

// Refuse closes connections that come from now on.
func (p *Proxy) Refuse(on bool) { p.set(func() { p.refuses = on }) }

// Delay holds everything back for so long, in each direction.
func (p *Proxy) Delay(d time.Duration) { p.set(func() { p.delay = d }) }

// Cut closes all connections.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for pair := range p.pairs {
		pair.close()
	}
}

// CutAt cuts the connection on which a client sends some bytes next: before they are
// handed on, or after it, when the answer is lost. It does so so many times; the channel
// is closed after the last.
func (p *Proxy) CutAt(pattern string, after bool, times int) (sprung <-chan struct{}) {
	t := &trap{pattern: []byte(pattern), hands: after, left: times, sprung: make(chan struct{})}
	p.set(func() { p.trap = t })
	return t.sprung
}

// Late keeps what a client sends next, if some bytes are in it, until release, or until the
// client is gone, and longer. caught is closed when it has it.
func (p *Proxy) Late(pattern string) (caught <-chan struct{}, release func()) {
	t := &trap{pattern: []byte(pattern), late: make(chan struct{}), left: 1, sprung: make(chan struct{})}
	p.set(func() { p.trap = t })
	return t.sprung, func() { close(t.late) }
}

// Hold keeps what a client sends next, if some bytes are in it, until release. caught is closed
// when it has it.
func (p *Proxy) Hold(pattern string) (caught <-chan struct{}, release func()) {
	t := &trap{pattern: []byte(pattern), late: make(chan struct{}), left: 1, sprung: make(chan struct{}), goesOn: true}
	p.set(func() { p.trap = t })
	return t.sprung, sync.OnceFunc(func() { close(t.late) })
}

// Answer keeps the answer to what a client sends next, if some bytes are in that, until release.
// caught is closed when it has the answer: what was sent has been carried out.
func (p *Proxy) Answer(pattern string) (caught <-chan struct{}, release func()) {
	t := &trap{pattern: []byte(pattern), late: make(chan struct{}), left: 1, sprung: make(chan struct{}), answer: true}
	p.set(func() { p.trap = t })
	return t.sprung, sync.OnceFunc(func() { close(t.late) })
}

// Shake asks, for all that the server says, how long it is to be held back, and whether it is
// to be lost with its connection.
func (p *Proxy) Shake(shake func() (wait time.Duration, cut bool)) { p.set(func() { p.shake = shake }) }

func (p *Proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	p.changed.Broadcast()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.serve(client)
	}
}

func (p *Proxy) serve(client net.Conn) {
	p.mu.Lock()
	for p.paused {
		p.changed.Wait()
	}
	target, refuses := p.target, p.refuses || p.closed
	p.mu.Unlock()
	if refuses {
		_ = client.Close()
		return
	}
	server, err := net.Dial("tcp", target)
	if err != nil {
		_ = client.Close()
		return
	}
	both := &pair{client: client, server: server}
	p.set(func() { p.pairs[both] = struct{}{} })
	var wg sync.WaitGroup
	wg.Go(func() { p.relay(both, client, server, true) })
	wg.Go(func() { p.relay(both, server, client, false) })
	wg.Wait()
	p.set(func() { delete(p.pairs, both) })
}

func (p *Proxy) relay(both *pair, from, to net.Conn, forth bool) {
	defer both.close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		if !forth && !p.answers(both) {
			return
		}
		t := p.hold(both, b[:n], forth)
		if t != nil && t.late != nil {
			<-t.late
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
			if t.goesOn {
				continue
			}
			_, _ = from.Read(b) // the client has long gone
			time.Sleep(200 * time.Millisecond)
			return
		}
		if t != nil && !t.hands {
			return
		}
		if t != nil {
			_ = from.Close() // nobody hears the answer
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
		if t != nil {
			// What was handed on is to be carried out; the server would notice a reset at once.
			if half, ok := to.(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite()
			}
			_, _ = to.Read(b)
			return
		}
	}
}

// answers holds back what the server says, as it was told to, and tells whether it is to be
// handed on.
func (p *Proxy) answers(both *pair) bool {
	p.mu.Lock()
	shake, t := p.shake, both.answer
	both.answer = nil
	p.mu.Unlock()
	if t != nil {
		close(t.sprung)
		<-t.late
	}
	if shake == nil {
		return true
	}
	wait, cut := shake()
	time.Sleep(wait)
	return !cut
}

// hold waits as long as the wire is paused, and returns the trap that the bytes spring.
func (p *Proxy) hold(both *pair, b []byte, forth bool) *trap {
	p.mu.Lock()
	delay := p.delay
	p.mu.Unlock()
	if delay > 0 {
		time.Sleep(delay)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.paused {
		p.changed.Wait()
	}
	t := p.trap
	if t == nil || !forth || !bytes.Contains(b, t.pattern) {
		return nil
	}
	if t.left--; t.left == 0 {
		p.trap = nil
	}
	switch {
	case t.answer:
		both.answer = t
		return nil
	case t.left == 0:
		close(t.sprung)
	}
	return t
}
