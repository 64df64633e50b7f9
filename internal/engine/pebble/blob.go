package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"time"

	db "github.com/cockroachdb/pebble/v2"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

const (
	pieceBytes = 64<<10 - 4 // bytes of a blob in one value, its checksum apart
	batchBytes = 512 << 10  // bytes of a blob in one commit; a larger one takes several
	refresh    = time.Hour  // a blob younger than this is not written to become young

	blobVersion = 1
	headerBytes = 1 + 8 + 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// blobs keeps each blob as a header, found by List without touching a piece, and
// pieces with a checksum each.
type blobs struct {
	e     *Engine
	names keyed[mail.BlobRef, struct{}] // who puts or deletes a name is alone on it
}

type header struct {
	at   time.Time
	size int64
}

func (h header) encode() []byte {
	b := make([]byte, 1, headerBytes)
	b[0] = blobVersion
	b = binary.BigEndian.AppendUint64(b, uint64(h.at.UnixMilli()))
	return binary.BigEndian.AppendUint64(b, uint64(h.size))
}

func decodeHeader(b []byte) (header, error) {
	if len(b) != headerBytes || b[0] != blobVersion {
		return header{}, fault.New(fault.Corrupt, "the header of a stored blob is damaged")
	}
	h := header{
		at:   time.UnixMilli(int64(binary.BigEndian.Uint64(b[1:]))),
		size: int64(binary.BigEndian.Uint64(b[9:])),
	}
	if h.size < 0 {
		return header{}, fault.New(fault.Corrupt, "the header of a stored blob is damaged")
	}
	return h, nil
}

func headerKey(name mail.BlobRef) []byte  { return append([]byte{spaceHeaders}, name[:]...) }
func partialKey(name mail.BlobRef) []byte { return append([]byte{spacePartial}, name[:]...) }

func pieceKey(name mail.BlobRef, n uint32) []byte {
	return binary.BigEndian.AppendUint32(append([]byte{spacePieces}, name[:]...), n)
}

// Put stores size bytes read from r under name. It does not wait for the disk: the
// log keeps the order, so that any later Update's sync covers the blob.
func (b *blobs) Put(ctx context.Context, name mail.BlobRef, size int64, r io.Reader) error {
	if size < 0 || size/pieceBytes >= 1<<32 {
		return fault.New(fault.TooLarge, "a blob's size is out of range")
	}
	if err := b.e.gate.enter(); err != nil {
		return err
	}
	defer b.e.gate.leave()
	unlock, err := b.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	now := b.e.opt.Now()
	old, ok, err := b.header(name)
	if err != nil {
		return err
	}
	if ok {
		if age := now.Sub(old.at); age < refresh && age > -refresh {
			return nil
		}
		return b.e.failed(b.e.db.Set(headerKey(name), header{now, old.size}.encode(), db.NoSync))
	}
	return b.write(ctx, name, header{now, size}, r)
}

func (b *blobs) lock(ctx context.Context, name mail.BlobRef) (unlock func(), err error) {
	l := b.names.get(name)
	if err := l.acquire(ctx); err != nil {
		b.names.put(name, l)
		return nil, err
	}
	return func() { l.release(); b.names.put(name, l) }, nil
}

func (b *blobs) header(name mail.BlobRef) (header, bool, error) {
	v, closer, err := b.e.db.Get(headerKey(name))
	if errors.Is(err, db.ErrNotFound) {
		return header{}, false, nil
	}
	if err != nil {
		return header{}, false, b.e.failed(err)
	}
	defer closer.Close()
	h, err := decodeHeader(v)
	return h, err == nil, err
}

// write writes the pieces and then the header. A blob of several commits is marked
// as partial from the first to the last, so that a crash leaves nothing behind
// that Open cannot find.
func (b *blobs) write(ctx context.Context, name mail.BlobRef, h header, r io.Reader) error {
	batch := b.e.db.NewBatch()
	defer func() { _ = batch.Close() }()
	several := h.size > batchBytes
	if several {
		if err := batch.Set(partialKey(name), nil, nil); err != nil {
			return b.e.failed(err)
		}
	}
	buf := make([]byte, 4+min(h.size, pieceBytes))
	for n, left := uint32(0), h.size; left > 0; n++ {
		data := buf[4 : 4+min(left, pieceBytes)]
		err := ctx.Err()
		if err == nil {
			_, err = io.ReadFull(r, data)
		}
		if err != nil {
			return b.abandon(name, several, err)
		}
		binary.BigEndian.PutUint32(buf, crc32.Checksum(data, castagnoli))
		if err := batch.Set(pieceKey(name, n), buf[:4+len(data)], nil); err != nil {
			return b.e.failed(err)
		}
		left -= int64(len(data))
		if several && batch.Len() >= batchBytes {
			if err := batch.Commit(db.NoSync); err != nil {
				return b.e.failed(err)
			}
			batch.Reset()
		}
	}
	if several {
		if err := batch.Delete(partialKey(name), nil); err != nil {
			return b.e.failed(err)
		}
	}
	if err := batch.Set(headerKey(name), h.encode(), nil); err != nil {
		return b.e.failed(err)
	}
	return b.e.failed(batch.Commit(db.NoSync))
}

// abandon ends a Put whose reader failed.
func (b *blobs) abandon(name mail.BlobRef, several bool, cause error) error {
	if several {
		if err := b.drop(name); err != nil {
			return err
		}
	}
	if errors.Is(cause, io.EOF) || errors.Is(cause, io.ErrUnexpectedEOF) {
		return fault.Wrap(fault.Invalid, "a blob is shorter than announced", cause)
	}
	return cause
}

// drop removes all there is of a name.
func (b *blobs) drop(name mail.BlobRef) error {
	batch := b.e.db.NewBatch()
	defer func() { _ = batch.Close() }()
	err := errors.Join(
		batch.Delete(headerKey(name), nil),
		batch.Delete(partialKey(name), nil),
		batch.DeleteRange(pieceKey(name, 0), engine.After(pieceKey(name, 1<<32-1)), nil),
	)
	if err == nil {
		err = batch.Commit(db.NoSync)
	}
	return b.e.failed(err)
}

// dropPartial removes what Puts cut short by a crash left.
func (b *blobs) dropPartial() error {
	it, err := b.e.db.NewIter(&db.IterOptions{LowerBound: []byte{spacePartial}, UpperBound: []byte{spacePartial + 1}})
	if err != nil {
		return b.e.failed(err)
	}
	var names []mail.BlobRef
	for ok := it.First(); ok; ok = it.Next() {
		names = append(names, mail.BlobRef(it.Key()[1:]))
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return b.e.failed(err)
	}
	for _, name := range names {
		if err := b.drop(name); err != nil {
			return err
		}
	}
	return nil
}

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

// Delete removes the blob if it was last put before the given time.
func (b *blobs) Delete(ctx context.Context, name mail.BlobRef, before time.Time) (bool, error) {
	if err := b.e.gate.enter(); err != nil {
		return false, err
	}
	defer b.e.gate.leave()
	unlock, err := b.lock(ctx, name)
	if err != nil {
		return false, err
	}
	defer unlock()
	h, ok, err := b.header(name)
	if err != nil || !ok || !h.at.Before(before) {
		return false, err
	}
	if err := b.drop(name); err != nil {
		return false, err
	}
	return true, nil
}

// List yields every blob in order of name.
func (b *blobs) List(ctx context.Context, fn func(name mail.BlobRef, at time.Time, size int64) bool) error {
	if err := b.e.gate.enter(); err != nil {
		return err
	}
	defer b.e.gate.leave()
	it, err := b.e.db.NewIterWithContext(ctx, &db.IterOptions{LowerBound: []byte{spaceHeaders}, UpperBound: []byte{spaceHeaders + 1}})
	if err != nil {
		return b.e.failed(err)
	}
	err = list(ctx, it, fn)
	if closing := it.Close(); err == nil {
		err = closing
	}
	if ctx.Err() != nil && err != nil {
		return ctx.Err()
	}
	return b.e.failed(err)
}

func list(ctx context.Context, it *db.Iterator, fn func(name mail.BlobRef, at time.Time, size int64) bool) error {
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		if n++; n%checkEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		h, err := decodeHeader(v)
		if err != nil {
			return err
		}
		if len(it.Key()) != 1+len(mail.BlobRef{}) {
			return fault.New(fault.Corrupt, "the key of a stored blob is damaged")
		}
		if !fn(mail.BlobRef(it.Key()[1:]), h.at, h.size) {
			return nil
		}
	}
	return it.Error()
}
