package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"

	db "github.com/cockroachdb/pebble/v2"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Open returns n bytes of the blob from off on. The reader reads one piece at a
// time; if the blob is deleted meanwhile it fails with NotFound.
func (b *blobs) Open(ctx context.Context, name mail.BlobRef, off, n int64) (io.ReadCloser, error) {
	if err := b.e.gate.enter(); err != nil {
		return nil, err
	}
	defer b.e.gate.leave()
	h, ok, err := b.header(name)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errNoBlob
	}
	if off < 0 || off > h.size || n > h.size-off {
		return nil, fault.New(fault.Invalid, "the range lies outside the blob")
	}
	if n < 0 {
		n = h.size - off
	}
	return &blobReader{b: b, ctx: ctx, name: name, size: h.size, off: off, end: off + n}, nil
}

var errNoBlob = fault.New(fault.NotFound, "there is no such blob")

// blobReader holds the piece it stands in, and so its block of the cache, until it
// moves on or is closed.
type blobReader struct {
	b        *blobs
	ctx      context.Context
	name     mail.BlobRef
	size     int64
	off, end int64
	rest     []byte // of the piece, up to end
	buf      []byte
	closed   bool
}

func (r *blobReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if r.closed {
		return 0, errClosed
	}
	if len(r.rest) == 0 {
		if r.off == r.end {
			return 0, io.EOF
		}
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	r.off += int64(n)
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
	v, closer, err := r.b.e.db.Get(pieceKey(r.name, uint32(number)))
	if errors.Is(err, db.ErrNotFound) {
		return r.missing()
	}
	if err != nil {
		return r.b.e.failed(err)
	}
	defer closer.Close()
	start := number * pieceBytes
	if int64(len(v)) != 4+min(pieceBytes, r.size-start) ||
		binary.BigEndian.Uint32(v) != crc32.Checksum(v[4:], castagnoli) {
		return fault.New(fault.Corrupt, "a stored blob fails its checksum")
	}
	data := v[4:]
	data = data[r.off-start : min(int64(len(data)), r.end-start)]
	r.buf = append(r.buf[:0], data...)
	r.rest = r.buf
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

func (r *blobReader) Close() error {
	r.closed, r.rest, r.buf = true, nil, nil
	return nil
}
