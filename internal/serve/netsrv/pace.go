package netsrv

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"time"
)

var longAgo = time.Unix(1, 0)

// pacedConn is a socket whose reads and writes must make progress (see Conn.Wait).
// It uses the machine's monotonic clock: deadlines of the kernel know no other.
type pacedConn struct {
	net.Conn
	stall   time.Duration
	minRate int
	in, out int64

	waiting bool          // Wait set the deadline; the next read keeps it
	waited  time.Duration // spent in reads since restart
	got     int64         // bytes since restart
	fixed   time.Time     // if not zero, the deadline of every read and write
	by      time.Time     // if not zero, no read may take longer
	most    int64         // if not zero, the value of in from which on reads fail

	leaf *tls.Certificate // that was shown, or nil

	joins  bool   // writes are gathered in joined
	joined []byte // see join
	failed error  // of a gathered write: half a record may be out, nothing may follow
}

// restart begins a new allowance: a new command.
func (p *pacedConn) restart() { p.waiting, p.waited, p.got = false, 0, 0 }

// waitUntil sets the deadline of the reads to come, until restart.
func (p *pacedConn) waitUntil(t time.Time) {
	p.waiting = true
	p.Conn.SetReadDeadline(p.latest(t))
}

// latest is t, or earlier if no read may take so long.
func (p *pacedConn) latest(t time.Time) time.Time {
	if p.by.IsZero() {
		return t
	}
	return earlier(t, p.by)
}

// interrupt ends a read under way. Unlike the rest it may be called from anywhere.
func (p *pacedConn) interrupt() { p.Conn.SetReadDeadline(longAgo) }

func (p *pacedConn) Read(b []byte) (int, error) {
	begin := time.Now()
	switch {
	case !p.fixed.IsZero():
		p.Conn.SetReadDeadline(p.fixed)
	case !p.waiting:
		p.Conn.SetReadDeadline(p.latest(begin.Add(p.stall + p.worth(p.got) - p.waited)))
	}
	n, err := p.Conn.Read(b)
	p.in += int64(n)
	if p.most > 0 && p.in > p.most {
		return 0, errHandshakeSize
	}
	if !p.waiting {
		p.waited += time.Since(begin)
		p.got += int64(n)
	}
	return n, err
}

func (p *pacedConn) Write(b []byte) (int, error) {
	switch {
	case p.failed != nil:
		return 0, p.failed
	case p.joins:
		p.joined = append(p.joined, b...)
		return len(b), nil
	}
	n, err := p.writeAll(b)
	p.out += int64(n)
	return n, err
}

// writeAll writes for as long as somebody reads: a client that takes nothing for the time
// of a stall, and of a kilobyte or two, is cut off; one that takes little has the time
// that all of b is worth.
func (p *pacedConn) writeAll(b []byte) (n int, err error) {
	if !p.fixed.IsZero() {
		p.Conn.SetWriteDeadline(p.fixed)
		return p.Conn.Write(b)
	}
	now := time.Now()
	last := now.Add(p.stall + p.worth(int64(len(b))))
	patience := p.stall + p.worth(min(int64(len(b)), 2<<10))
	for {
		until := earlier(now.Add(patience), last)
		p.Conn.SetWriteDeadline(until)
		taken, err := p.Conn.Write(b[n:])
		n += taken
		if err == nil || taken == 0 || !isTimeout(err) {
			return n, err
		}
		if now = time.Now(); now.Before(until) || !now.Before(last) { // somebody else's deadline, or the end
			return n, err
		}
	}
}

// Package tls writes each record by itself, which is most of what a large answer costs.
// So the records of up to joinBytes are gathered and leave in one write.
const (
	oneRecord = 16 << 10
	joinBytes = 4 * oneRecord
)

var joiners = sync.Pool{New: func() any { b := make([]byte, 0, joinBytes+1<<10); return &b }}

// join writes b through tc, which stands on p.
func (p *pacedConn) join(tc *tls.Conn, b []byte) (int, error) {
	room := joiners.Get().(*[]byte) // not given back after a panic: p.joined may still be it
	p.joined, p.joins = (*room)[:0], true
	n, err := tc.Write(b)
	*room, p.joined, p.joins = p.joined, nil, false
	if err == nil {
		if _, p.failed = p.Write(*room); p.failed != nil {
			n, err = 0, p.failed
		}
	}
	joiners.Put(room)
	return n, err
}

// Bounds of finish.
const (
	lingerFor   = time.Second
	lingerBytes = 256 << 10
)

// finish closes the connection so that the last words arrive: closing a socket with
// bytes unread makes the kernel throw away what is still on its way to the peer.
func (p *pacedConn) finish() {
	defer p.Conn.Close()
	if half, ok := p.Conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		p.Conn.SetReadDeadline(time.Now().Add(lingerFor))
		io.CopyN(io.Discard, p.Conn, lingerBytes)
	}
}

// worth is the time that n bytes may take.
func (p *pacedConn) worth(n int64) time.Duration {
	return time.Duration(n) * time.Second / time.Duration(p.minRate)
}

// Buffers are lent to a session while it works and taken back while it waits, so
// that an idle connection holds none.
const bufferSize = 8 << 10

var (
	readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, bufferSize) }}
	writers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, bufferSize) }}
)

// acquire gives R and W buffers. R and W are copies of pooled values, so that the
// pointers a protocol keeps stay good over a release.
func (c *Conn) acquire() {
	if c.readBuf == nil {
		c.readBuf = readers.Get().(*bufio.Reader)
		c.readBuf.Reset(source{c})
		*c.R = *c.readBuf
	}
	if c.writeBuf == nil {
		c.writeBuf = writers.Get().(*bufio.Writer)
		c.writeBuf.Reset(sink{c})
		*c.W = *c.writeBuf
	}
}

// release takes the buffers back; R and W must be empty.
func (c *Conn) release() {
	if c.readBuf != nil {
		c.readBuf.Reset(nil)
		readers.Put(c.readBuf)
		c.readBuf, *c.R = nil, bufio.Reader{}
	}
	c.releaseWriter()
}

func (c *Conn) releaseWriter() {
	if c.writeBuf != nil {
		c.writeBuf.Reset(nil)
		writers.Put(c.writeBuf)
		c.writeBuf, *c.W = nil, bufio.Writer{}
	}
}
