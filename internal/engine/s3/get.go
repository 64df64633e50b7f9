package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/minio/minio-go/v7"

	"github.com/martlet-mail/martlet/internal/fault"
)

// dry is how often in a row a body may end without a byte before its reader gives up.
const dry = 8

// Open returns n bytes of an object from off on. The reader holds a connection and no more
// than a buffer; a body that breaks off goes on where it ended.
func (b *Bucket) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if off < 0 {
		return nil, fault.New(fault.Invalid, "the range lies outside the object")
	}
	if n == 0 {
		return http.NoBody, nil
	}
	r := &reader{b: b, ctx: ctx, key: key, off: off, end: -1}
	if n > 0 {
		r.end = off + n
	}
	if err := r.open(); err != nil {
		return nil, err
	}
	return r, nil
}

// reader reads a range of an object, in several requests if need be.
type reader struct {
	b        *Bucket
	ctx      context.Context
	key      string
	off, end int64 // end is -1 until it is known
	got      bool  // something was read
	closed   bool

	body io.ReadCloser // nil between requests
	a    *attempt
}

var (
	errReaderClosed = fault.New(fault.Closed, "the object is closed")
	errEarly        = errors.New("the body ended early")
)

// open makes a request for what is left.
func (r *reader) open() error {
	b := r.b
	p := b.patience(r.ctx)
	defer p.end()
	for {
		a := b.begin(r.ctx)
		body, err := r.request(a)
		if err == nil {
			a.rest() // until somebody reads
			r.body, r.a = body, a
			return nil
		}
		err = a.why(err)
		a.end()
		if !p.again(err) {
			err = b.failed(r.ctx, err)
			if r.got && fault.Is(err, fault.Invalid) {
				err = fault.Wrap(fault.Corrupt, "an object is shorter than it should be", err)
			}
			return err
		}
	}
}

func (r *reader) request(a *attempt) (io.ReadCloser, error) {
	var opts minio.GetObjectOptions
	ranged := r.off > 0 || r.end >= 0
	if ranged {
		opts.Set("Range", rangeOf(r.off, r.end))
	}
	r.b.n.gets.Add(1)
	body, info, head, err := r.b.core.GetObject(a, r.b.opt.Bucket, r.b.opt.Prefix+r.key, opts)
	if err != nil {
		return nil, err
	}
	if r.off > 0 && head.Get("Content-Range") == "" {
		err = fault.New(fault.Unavailable, "the object store does not keep to ranges")
	} else if head.Get("Content-Length") == "" && r.end < 0 {
		err = fault.New(fault.Unavailable, "the object store does not tell the size of an object")
	} else if r.end < 0 {
		r.end = r.off + length(head, info)
	}
	if err != nil {
		body.Close()
		return nil, err
	}
	return body, nil
}

// length is that of the body. ObjectInfo has the size of the whole object, for some servers.
func length(head http.Header, info minio.ObjectInfo) (n int64) {
	if _, err := fmt.Sscan(head.Get("Content-Length"), &n); err != nil {
		return info.Size
	}
	return n
}

func rangeOf(off, end int64) string {
	if end < 0 {
		return fmt.Sprintf("bytes=%d-", off)
	}
	return fmt.Sprintf("bytes=%d-%d", off, end-1)
}

func (r *reader) Read(p []byte) (int, error) {
	if r.closed {
		return 0, errReaderClosed
	}
	if len(p) == 0 {
		return 0, nil
	}
	var last error
	for tries := 0; r.off < r.end; tries++ {
		if tries > dry {
			return 0, fault.Wrap(fault.Unavailable, "the object store does not give the rest of an object", last)
		}
		if r.body == nil {
			if err := r.resume(last); err != nil {
				return 0, err
			}
		}
		r.a.alive()
		n, err := r.body.Read(p[:min(int64(len(p)), r.end-r.off)])
		r.a.rest()
		r.off += int64(n)
		r.got = r.got || n > 0
		r.b.n.received.Add(int64(n))
		if err != nil {
			last = r.a.why(err)
			if errors.Is(err, io.EOF) {
				last = errEarly
			}
			r.drop()
		}
		if n > 0 {
			return n, nil
		}
	}
	r.drop()
	return 0, io.EOF
}

// resume goes on after a body that ended early, with a pause unless it is the first time.
func (r *reader) resume(last error) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	r.b.n.resumed.Add(1)
	if last != nil {
		p := r.b.patience(r.ctx)
		defer p.end()
		if !p.again(last) {
			return r.b.failed(r.ctx, last)
		}
	}
	return r.open()
}

func (r *reader) drop() {
	if r.body != nil {
		r.body.Close()
		r.a.end()
		r.body, r.a = nil, nil
	}
}

func (r *reader) Close() error {
	r.drop()
	r.closed = true
	return nil
}

// Left is how many bytes are still to be read.
func (r *reader) Left() int64 { return r.end - r.off }
