package s3

import (
	"context"
	"io"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// filling is an object on its way into the folder. Whoever wants it reads what is there and
// waits for more.
type filling struct {
	path string

	mu    sync.Mutex
	moved chan struct{} // closed and made anew when one of these changes
	known bool          // the size is, and the file is there
	size  int64
	there int64 // bytes in whole blocks
	over  bool
}

func (f *filling) change(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
	close(f.moved)
	f.moved = make(chan struct{})
}

// until waits until ok holds or the filling is over, and tells whether ok holds.
func (f *filling) until(ctx context.Context, ok func() bool) (bool, error) {
	for {
		f.mu.Lock()
		holds, over, moved := ok(), f.over, f.moved
		f.mu.Unlock()
		if holds || over {
			return holds, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// fetch opens an object that is on its way, or sets it on its way. ok is false if there is
// no room for it.
func (c *Cache) fetch(ctx context.Context, key string, off, n int64) (r io.ReadCloser, ok bool, err error) {
	f := c.begin(key)
	if f == nil {
		return nil, false, nil
	}
	known, err := f.until(ctx, func() bool { return f.known })
	if err != nil || !known {
		return nil, false, err
	}
	file, err := c.fs.Open(f.path)
	if err != nil { // over meanwhile: it is in the folder, or came to nothing
		return c.here(ctx, key, off, n)
	}
	r, err = c.reader(ctx, key, file, f.size, off, n, f)
	return r, err == nil, err
}

// begin returns the filling of a key, a new one if there is none; nil if there cannot be one.
func (c *Cache) begin(key string) *filling {
	name := nameOf(key)
	c.mu.Lock()
	defer c.mu.Unlock()
	if f, ok := c.filling[name]; ok {
		return f
	}
	if c.full != nil || c.limit/share <= trailer || c.life.Err() != nil {
		return nil
	}
	select {
	case c.slots <- struct{}{}:
	default:
		return nil
	}
	temp := c.temp()
	f := &filling{path: c.path(temp), moved: make(chan struct{})}
	c.filling[name] = f
	c.fills.Add(1)
	go func() {
		defer c.fills.Done()
		defer func() { <-c.slots }()
		size, kept, disk := c.fill(f, key)
		if kept {
			c.keep(temp, name, size)
		} else if size > 0 {
			c.forget(temp, size, disk)
		}
		c.mu.Lock()
		delete(c.filling, name)
		c.mu.Unlock()
		f.change(func() { f.over = true })
	}()
	return f
}

// sized is a reader that knows how much it gives.
type sized interface{ Left() int64 }

// fill brings an object here. size is what was reserved for its file; disk is an error of
// the disk.
func (c *Cache) fill(f *filling, key string) (size int64, kept bool, disk error) {
	// Once: who wants it tries again himself, with his own patience.
	src, err := c.objects.Open(engine.Patient(c.life, 0), key, 0, -1)
	if err != nil {
		return 0, false, nil
	}
	defer src.Close()
	s, ok := src.(sized)
	if !ok {
		return 0, false, nil
	}
	whole := s.Left()
	size = fileSize(whole)
	if !c.reserve(size) {
		return 0, false, nil
	}
	w := newWriter(c.fs, f.path, key)
	w.wrote = func() { f.change(func() { f.there = w.size }) }
	f.change(func() { f.size, f.known = whole, w.err == nil })
	_, err = io.Copy(unlessBroken{w}, src)
	disk = w.err
	if err != nil && disk == nil {
		w.err = err
	}
	finished := w.finish(whole)
	if disk == nil && err == nil {
		disk = finished
	}
	return size, finished == nil, disk
}

// unlessBroken ends a copy where the writer has failed.
type unlessBroken struct{ w *writer }

func (u unlessBroken) Write(p []byte) (int, error) {
	if u.w.err != nil {
		return 0, u.w.err
	}
	return u.w.Write(p)
}

// reader reads a range of a file, which may still grow. It goes on behind the cache where the
// file does not give what it should.
func (c *Cache) reader(ctx context.Context, key string, file vfs.File, size, off, n int64, growing *filling) (io.ReadCloser, error) {
	if off < 0 || off > size || n > size-off {
		file.Close()
		return nil, fault.New(fault.Invalid, "the range lies outside the object")
	}
	if n < 0 {
		n = size - off
	}
	return &cacheReader{c: c, ctx: ctx, key: key, sum: keySum(key), file: file, size: size, off: off, end: off + n, growing: growing}, nil
}

type cacheReader struct {
	c        *Cache
	ctx      context.Context
	key      string
	sum      uint32
	file     vfs.File
	size     int64
	off, end int64
	growing  *filling
	buf      *[blockBytes]byte
	data     []byte // of the block that off lies in, from off on
	behind   io.ReadCloser
	closed   bool
}

// Left is how many bytes are still to be read.
func (r *cacheReader) Left() int64 { return r.end - r.off }

func (r *cacheReader) Read(p []byte) (n int, err error) {
	switch {
	case r.closed:
		return 0, errReaderClosed
	case len(p) == 0:
		return 0, nil
	case r.off == r.end:
		return 0, io.EOF
	case r.behind != nil:
		n, err = r.behind.Read(p)
		r.off += int64(n)
		return n, err
	}
	if len(r.data) == 0 {
		if err := r.block(); err != nil {
			if ended := r.ctx.Err(); ended != nil {
				return 0, ended
			}
			if r.behind, err = r.c.objects.Open(r.ctx, r.key, r.off, r.end-r.off); err != nil {
				return 0, err
			}
			return r.Read(p)
		}
	}
	n = copy(p, r.data[:min(int64(len(r.data)), r.end-r.off)])
	r.data = r.data[n:]
	r.off += int64(n)
	return n, nil
}

// block reads the block that off lies in.
func (r *cacheReader) block() error {
	i := r.off / blockData
	if r.growing != nil {
		f, need := r.growing, min((i+1)*blockData, r.size)
		ok, err := f.until(r.ctx, func() bool { return f.there >= need })
		if err != nil {
			return err
		}
		if !ok {
			return errDamaged // it came to nothing
		}
	}
	if r.buf == nil {
		r.buf = blocks.Get().(*[blockBytes]byte)
	}
	data, err := readBlock(r.file, r.sum, r.size, i, r.buf)
	if err != nil {
		if r.growing == nil {
			r.c.Forget(r.key)
		}
		return err
	}
	r.data = data[r.off-i*blockData:]
	return nil
}

func (r *cacheReader) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	if r.buf != nil {
		blocks.Put(r.buf)
		r.buf, r.data = nil, nil
	}
	err := r.file.Close()
	if r.behind != nil {
		err = r.behind.Close()
	}
	return err
}
