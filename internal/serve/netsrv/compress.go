package netsrv

import (
	"compress/flate"
	"io"
	"sync"

	"github.com/martlet-mail/martlet/internal/fault"
)

// zipped is compression between the protocol and what lies below it, TLS or the socket
// (RFC 4978, 3: compressed first, encrypted then).
type zipped struct {
	in     *inflater
	ending bool   // nothing is compressed any more on our side
	ended  bool   // nor on the client's
	rest   []byte // what was read behind its end
}

// Compressed tells whether Compress has been called.
func (c *Conn) Compressed() bool { return c.zip != nil && !c.zip.ending }

// Compress makes all that is read and written from now on a stream of DEFLATE (RFC
// 1951) each way, after the protocol has written its go-ahead, which it flushes. The
// client must have waited for that; if R holds anything, Compress fails with kind
// Invalid and the handler must return.
//
// Limits of a protocol apply to what comes out of the decompression; the rule of
// progress (see Wait) counts what came over the wire.
func (c *Conn) Compress() error {
	if c.R.Buffered() > 0 || c.hasFirst {
		c.over = "bytes after the command that begins compression"
		return fault.New(fault.Invalid, "nothing may follow before compression has begun")
	}
	if err := c.flush(); err != nil {
		return err
	}
	c.zip = &zipped{in: newInflater(rawReader{c})}
	return nil
}

// EndCompress undoes Compress. What has been written before leaves compressed; what the
// client sends behind the end of its stream is plain. The end of a stream is its last
// block or, if the client does not send one, where it flushed with an empty stored block,
// as zlib does for Z_SYNC_FLUSH (RFC 8437, 4.1 leaves open which). If the client has
// compressed more, EndCompress fails with kind Invalid and the handler must return.
func (c *Conn) EndCompress() error {
	if c.zip == nil {
		return nil
	}
	if c.R.Buffered() > 0 || c.hasFirst {
		c.over = "compressed bytes after the command that ends compression"
		return fault.New(fault.Invalid, "nothing compressed may follow here")
	}
	if err := c.flush(); err != nil {
		return err
	}
	c.zip.ending = true
	return nil
}

// rawReader reads what is compressed.
type rawReader struct{ c *Conn }

func (r rawReader) Read(p []byte) (int, error) { return r.c.stream().Read(p) }

// read reads for the protocol.
func (c *Conn) read(p []byte) (int, error) {
	z := c.zip
	switch {
	case z == nil:
		return c.stream().Read(p)
	case !z.ending:
		return z.in.Read(p)
	case !z.ended:
		rest, err := z.in.finish()
		if err != nil {
			return 0, err
		}
		z.rest, z.ended = rest, true
	}
	n := copy(p, z.rest)
	if z.rest = z.rest[n:]; len(z.rest) == 0 {
		c.zip = nil
	}
	return n, nil
}

// write writes for the protocol.
func (c *Conn) write(p []byte) (int, error) {
	if c.zip == nil || c.zip.ending {
		return c.send(p)
	}
	return deflate(wire{c}, p)
}

// wire is what lies below compression.
type wire struct{ c *Conn }

func (w wire) Write(p []byte) (int, error) { return w.c.send(p) }

// send writes to TLS or the socket.
func (c *Conn) send(p []byte) (n int, err error) {
	if c.tls == nil {
		return c.raw.Write(p)
	}
	for err == nil && len(p)-n > oneRecord {
		var sent int
		sent, err = c.raw.join(c.tls, p[n:min(len(p), n+joinBytes)])
		n += sent
	}
	if err == nil && n < len(p) {
		var sent int
		sent, err = c.tls.Write(p[n:])
		n += sent
	}
	return n, err
}

// deflaters are compressors, a megabyte each, lent for one write: many connections are
// open and few of them write. Every write begins without a past, so that a connection
// keeps none; mail goes out in writes of 64 KB.
var deflaters = sync.Pool{New: func() any {
	w, err := flate.NewWriter(nil, flate.BestSpeed)
	if err != nil {
		panic(err) // the level is a constant
	}
	return w
}}

// deflate writes p compressed and flushed.
func deflate(to io.Writer, p []byte) (int, error) {
	w := deflaters.Get().(*flate.Writer)
	// Gathered first: small writes below would be small records of TLS.
	var out gathered
	w.Reset(&out)
	_, err := w.Write(p)
	if err == nil {
		err = w.Flush()
	}
	deflaters.Put(w) // not after a panic, which leaves nobody knows what in it
	if err == nil {
		_, err = to.Write(out)
	}
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// gathered takes in what is written to it.
type gathered []byte

func (g *gathered) Write(p []byte) (int, error) {
	*g = append(*g, p...)
	return len(p), nil
}
