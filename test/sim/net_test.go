package sim

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// network is the only network there is in a bubble: listeners by address, and streams
// that delay, break and fall silent as they are told. Whoever waits in it waits on a
// sync.Cond, which a bubble knows as standing still.
type network struct {
	mu        sync.Mutex
	listeners map[string]*listener
	up        map[*stream]bool // the server's ends
	dials     map[string]int   // how often each host has dialled
	weather   func(from string, n int, to string) weather
	powers    int // how often the server's power was cut
}

// weather is what a stream will go through.
type weather struct {
	delay  time.Duration // of each byte, in both directions
	window int           // bytes that may be under way; 0: 64 KB
	// After so many bytes from the one who dialled, or to him, the stream breaks; 0: never.
	breakOut, breakIn int
	silent            bool // it does not break but carries nothing any more
}

func newNetwork() *network {
	return &network{listeners: map[string]*listener{}, up: map[*stream]bool{}, dials: map[string]int{}}
}

// listener takes connections at one address.
type listener struct {
	net    *network
	addr   netip.AddrPort
	server bool // it is the server's, and dies with its power

	mu      sync.Mutex
	cond    *sync.Cond
	waiting []*stream
	closed  bool
}

func (n *network) listen(addr string, server bool) *listener {
	l := &listener{net: n, addr: netip.MustParseAddrPort(addr), server: server}
	l.cond = sync.NewCond(&l.mu)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listeners[addr] = l
	return l
}

func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }

func (l *listener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.waiting) == 0 && !l.closed {
		l.cond.Wait()
	}
	if l.closed {
		return nil, net.ErrClosed
	}
	c := l.waiting[0]
	l.waiting = l.waiting[1:]
	return c, nil
}

func (l *listener) Close() error {
	l.net.mu.Lock()
	if l.net.listeners[l.addr.String()] == l {
		delete(l.net.listeners, l.addr.String())
	}
	l.net.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, c := range l.waiting {
		c.reset()
	}
	l.waiting = nil
	l.cond.Broadcast()
	return nil
}

// powerOff takes the server off the network: what it has sent is on its way, nothing
// more comes of it. Some of those who talk to it are told, by a reset; the others hear
// nothing.
func (n *network) powerOff(told func(i int) bool) {
	n.mu.Lock()
	var doors []*listener
	for _, l := range n.listeners {
		if l.server {
			doors = append(doors, l)
		}
	}
	ends := make([]*stream, 0, len(n.up))
	for c := range n.up {
		ends = append(ends, c)
	}
	clear(n.up)
	n.powers++
	n.mu.Unlock()
	for i, c := range ends {
		if told(i) {
			c.out.silence(true)
			c.in.fail(syscall.ECONNRESET)
		} else {
			c.out.silence(false)
			c.in.vanish()
		}
	}
	for _, l := range doors {
		l.Close()
	}
}

// dial connects a host to an address. Names that begin with "server" are the server.
func (n *network) dial(ctx context.Context, from, to string) (*stream, error) {
	n.mu.Lock()
	n.dials[from]++
	count, powers := n.dials[from], n.powers
	l := n.listeners[to]
	n.mu.Unlock()
	w := n.weather(from, count, to)
	if !wait(ctx, w.delay) {
		return nil, ctx.Err()
	}
	if l == nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	there, back := newPipe(w, w.breakOut), newPipe(w, w.breakIn)
	there.other, back.other = back, there
	here := &stream{net: n, out: there, in: back, local: addressOf(from), remote: l.Addr()}
	far := &stream{net: n, out: back, in: there, local: l.Addr(), remote: addressOf(from)}
	n.mu.Lock()
	if from == "server" {
		if n.powers != powers {
			n.mu.Unlock()
			return nil, net.ErrClosed
		}
		n.up[here] = true
	}
	if l.server {
		n.up[far] = true
	}
	n.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		here.reset()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	l.waiting = append(l.waiting, far)
	l.cond.Broadcast()
	return here, nil
}

// addressOf gives a host an address that nobody trusts, or one on loopback.
func addressOf(host string) net.Addr {
	if host == "server" {
		return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 50000}
	}
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 50000}
}

func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// stream is one end of a connection.
type stream struct {
	net           *network
	in, out       *pipe
	local, remote net.Addr
}

func (c *stream) LocalAddr() net.Addr  { return c.local }
func (c *stream) RemoteAddr() net.Addr { return c.remote }

func (c *stream) Read(b []byte) (int, error)         { return c.in.read(b) }
func (c *stream) Write(b []byte) (int, error)        { return c.out.write(b) }
func (c *stream) SetReadDeadline(t time.Time) error  { return c.in.setDeadline(&c.in.readBy, t) }
func (c *stream) SetWriteDeadline(t time.Time) error { return c.out.setDeadline(&c.out.writeBy, t) }

func (c *stream) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// CloseWrite says that no more will come.
func (c *stream) CloseWrite() error { return c.out.end() }

// Close says so and takes nothing more. As with sockets of a kernel, what comes
// afterwards, or lies there unread, is answered by a reset.
func (c *stream) Close() error {
	c.net.mu.Lock()
	delete(c.net.up, c)
	c.net.mu.Unlock()
	if c.in.abandon() {
		c.out.fail(syscall.ECONNRESET)
	}
	return c.out.end()
}

// reset breaks the connection for both ends.
func (c *stream) reset() {
	c.in.fail(syscall.ECONNRESET)
	c.out.fail(syscall.ECONNRESET)
}

// chunk is what one write sent.
type chunk struct {
	at time.Time // when it arrives
	b  []byte
}

// pipe is one direction of a connection.
type pipe struct {
	weather
	other *pipe
	left  int // bytes until it breaks; -1: it never does

	mu              sync.Mutex
	cond            *sync.Cond
	chunks          []chunk
	size            int // bytes in chunks
	sent, taken     int64
	marks           []mark
	ended           bool  // by the writer
	gone            bool  // the reader takes nothing more
	mute            bool  // what is written goes nowhere
	broken          error // for both
	readBy, writeBy time.Time
}

// mark calls somebody when the reader has come so far.
type mark struct {
	at   int64
	call func()
}

func newPipe(w weather, breaks int) *pipe {
	p := &pipe{weather: w, left: breaks}
	if p.window == 0 {
		p.window = 64 << 10
	}
	if breaks == 0 {
		p.left = -1
	}
	p.cond = sync.NewCond(&p.mu)
	return p
}

func passed(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }

// rest waits for the other side or for one of two times. It needs the lock.
func (p *pipe) rest(until ...time.Time) {
	var first time.Time
	for _, t := range until {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	if !first.IsZero() {
		timer := time.AfterFunc(time.Until(first), func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.cond.Broadcast()
		})
		defer timer.Stop()
	}
	p.cond.Wait()
}

func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.gone:
			return 0, net.ErrClosed
		case passed(p.readBy):
			return 0, os.ErrDeadlineExceeded
		case p.broken != nil:
			return 0, p.broken
		case len(p.chunks) > 0 && passed(p.chunks[0].at):
			return p.take(b), nil
		case len(p.chunks) == 0 && p.ended:
			return 0, io.EOF
		case len(b) == 0:
			return 0, nil
		}
		var arrives time.Time
		if len(p.chunks) > 0 {
			arrives = p.chunks[0].at
		}
		p.rest(p.readBy, arrives)
	}
}

// take moves what has arrived to the reader.
func (p *pipe) take(b []byte) (n int) {
	for n < len(b) && len(p.chunks) > 0 && passed(p.chunks[0].at) {
		c := &p.chunks[0]
		k := copy(b[n:], c.b)
		n += k
		if c.b = c.b[k:]; len(c.b) == 0 {
			p.chunks = p.chunks[1:]
		}
	}
	p.size -= n
	p.taken += int64(n)
	p.cond.Broadcast()
	for len(p.marks) > 0 && p.marks[0].at <= p.taken {
		go p.marks[0].call()
		p.marks = p.marks[1:]
	}
	return n
}

// whenTaken calls fn when all that has been written so far was read.
func (p *pipe) whenTaken(fn func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.mute || p.gone || p.broken != nil:
		return // it was lost
	case p.taken == p.sent:
		go fn()
		return
	}
	p.marks = append(p.marks, mark{p.sent, fn})
}

func (p *pipe) write(b []byte) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n < len(b) {
		switch {
		case p.ended:
			return n, net.ErrClosed
		case passed(p.writeBy):
			return n, os.ErrDeadlineExceeded
		case p.broken != nil:
			return n, p.broken
		case p.mute:
			return len(b), nil
		case p.gone:
			return n, syscall.ECONNRESET
		case p.size >= p.window:
			p.rest(p.writeBy)
			continue
		}
		k := min(len(b)-n, p.window-p.size)
		if p.left >= 0 {
			k = min(k, p.left)
			p.left -= k
		}
		if k > 0 {
			p.chunks = append(p.chunks, chunk{time.Now().Add(p.delay), append([]byte(nil), b[n:n+k]...)})
			p.size, p.sent, n = p.size+k, p.sent+int64(k), n+k
			p.cond.Broadcast()
		}
		if p.left == 0 {
			p.snap()
		}
	}
	return n, nil
}

// snap breaks the connection at the place that was given. It needs the lock.
func (p *pipe) snap() {
	p.left = -1
	if p.silent {
		p.mute = true
		go p.other.silence(false)
		return
	}
	if p.broken == nil {
		p.broken = syscall.ECONNRESET
		p.cond.Broadcast()
	}
	go p.other.fail(syscall.ECONNRESET)
}

// silence lets nothing more in. What is on its way arrives; then the reader is told that
// the connection is gone, or waits.
func (p *pipe) silence(told bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mute = true
	if told && !p.ended {
		p.ended = true
	}
	p.cond.Broadcast()
}

// vanish takes the reader away without a word.
func (p *pipe) vanish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone, p.mute = true, true
	p.cond.Broadcast()
}

func (p *pipe) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken == nil {
		p.broken = err
	}
	p.cond.Broadcast()
}

func (p *pipe) end() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.cond.Broadcast()
	return nil
}

// abandon ends all reading and tells whether something lies there unread.
func (p *pipe) abandon() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = true
	p.cond.Broadcast()
	return p.size > 0
}

func (p *pipe) setDeadline(which *time.Time, t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	*which = t
	p.cond.Broadcast()
	return nil
}
