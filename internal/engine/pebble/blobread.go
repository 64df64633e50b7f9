package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"slices"

	db "github.com/cockroachdb/pebble/v2"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Open returns n bytes of the blob from off on. The reader holds one piece at a
// time; if the blob is deleted meanwhile it fails with NotFound.
//
// A first piece that is not full is the whole blob, since it was written together
// with its header: then one look-up does.
func (b *blobs) Open(ctx context.Context, name mail.BlobRef, off, n int64) (io.ReadCloser, error) {
	if err := b.e.gate.enter(); err != nil {
		return nil, err
	}
	defer b.e.gate.leave()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r := &blobReader{b: b, ctx: ctx, name: name, off: off}
	var err error
	if off >= 0 && off < pieceBytes {
		r.piece, _, err = b.piece(b.buffer(), name, 0)
	}
	if err != nil {
		return nil, err
	}
	if r.size = int64(len(r.piece)); r.size == 0 || r.size == pieceBytes {
		h, ok, err := b.header(name)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, errNoBlob
		}
		r.size = h.size
	}
	if off < 0 || off > r.size || n > r.size-off {
		return nil, fault.New(fault.Invalid, "the range lies outside the blob")
	}
	if n < 0 {
		n = r.size - off
	}
	r.end = off + n
	return r, nil
}

var errNoBlob = fault.New(fault.NotFound, "there is no such blob")

// piece appends a piece to dst, its checksum verified.
func (b *blobs) piece(dst []byte, name mail.BlobRef, number uint32) (data []byte, ok bool, err error) {
	v, closer, err := b.e.db.Get(pieceKey(name, number))
	if errors.Is(err, db.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, b.e.failed(err)
	}
	defer closer.Close()
	if len(v) < 4 || binary.BigEndian.Uint32(v) != crc32.Checksum(v[4:], castagnoli) {
		return nil, false, errChecksum
	}
	return append(slices.Grow(dst, len(v)-4), v[4:]...), true, nil
}

var errChecksum = fault.New(fault.Corrupt, "a stored blob fails its checksum")

// blobReader reads a blob piece by piece.
type blobReader struct {
	b        *blobs
	ctx      context.Context
	name     mail.BlobRef
	size     int64
	off, end int64
	piece    []byte // that off lies in, nil if it is not read yet
	last     []byte // the piece before, whose bytes may be overwritten
	closed   bool
}

func (r *blobReader) Read(p []byte) (int, error) {
	switch {
	case len(p) == 0:
		return 0, nil
	case r.closed:
		return 0, errClosed
	case r.off == r.end:
		return 0, io.EOF
	case r.piece == nil:
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	start := r.off / pieceBytes * pieceBytes
	n := copy(p, r.piece[r.off-start:min(int64(len(r.piece)), r.end-start)])
	r.off += int64(n)
	if r.off == start+pieceBytes {
		r.piece, r.last = nil, r.piece
	}
	return n, nil
}

// fill reads the piece that off lies in.
func (r *blobReader) fill() error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	if err := r.b.e.gate.enter(); err != nil {
		return err
	}
	defer r.b.e.gate.leave()
	number := r.off / pieceBytes
	data, ok, err := r.b.piece(r.spare(), r.name, uint32(number))
	if err != nil {
		return err
	}
	if !ok {
		return r.missing()
	}
	if int64(len(data)) != min(pieceBytes, r.size-number*pieceBytes) {
		return errChecksum
	}
	r.piece = data
	return nil
}

// missing tells a blob deleted since Open from one that lost a piece.
func (r *blobReader) missing() error {
	_, ok, err := r.b.header(r.name)
	if err != nil {
		return err
	}
	if ok {
		return fault.New(fault.Corrupt, "a stored blob lacks a piece")
	}
	return errNoBlob
}

// spare returns a buffer for the next piece.
func (r *blobReader) spare() []byte {
	if r.last == nil {
		return r.b.buffer()
	}
	spare := r.last[:0]
	r.last = nil
	return spare
}

func (r *blobReader) Close() error {
	for _, used := range [...][]byte{r.piece, r.last} {
		if cap(used) > 0 {
			r.b.buffers.Put(&used)
		}
	}
	r.closed, r.piece, r.last = true, nil, nil
	return nil
}

// buffer returns an empty buffer that closed readers have left, or nil.
func (b *blobs) buffer() []byte {
	if used, ok := b.buffers.Get().(*[]byte); ok {
		return (*used)[:0]
	}
	return nil
}
