package postgres

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"hash"
	"io"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// blobRow is what a row says of a blob's bytes.
type blobRow struct {
	shelf  shelf
	size   int64
	sum    uint32
	place  int
	upload string
	data   []byte
}

var stBlobFind = &statement{"b_find", `SELECT size, sum, place, upload, data FROM blobs WHERE name = $1::bytea`}

// find returns the row of a blob. One that is nowhere may be in a group that this node does not
// know yet.
func (b *blobs) find(ctx context.Context, name mail.BlobRef) (row blobRow, err error) {
	shelves := b.shelves()
	if row, err = findOn(ctx, shelves, name); !fault.Is(err, fault.NotFound) {
		return row, err
	}
	if again := b.reload(ctx); again != nil {
		return row, again
	}
	if more := b.shelves(); len(more) > len(shelves) {
		return findOn(ctx, more, name)
	}
	return row, err
}

func findOn(ctx context.Context, shelves []shelf, name mail.BlobRef) (row blobRow, err error) {
	for _, i := range placesOf(name, len(shelves)) {
		found := false
		err := shelves[i].ask(ctx, func(v [][]byte) error {
			if found = v != nil; found {
				row = blobRow{shelves[i], number(v[0]), uint32(number(v[1])), int(number(v[2])), string(v[3]), bytes.Clone(v[4])}
			}
			return nil
		}, stBlobFind, name[:])
		if found || err != nil {
			return row, err
		}
	}
	return blobRow{}, errNoBlob
}

// Open returns n bytes of the blob from off on. The checksum is verified at the end of a whole
// one, and of any range of a small one.
func (b *blobs) Open(ctx context.Context, name mail.BlobRef, off, n int64) (io.ReadCloser, error) {
	if err := b.begin(ctx); err != nil {
		return nil, err
	}
	defer b.gate.leave()
	last := ""
	for {
		row, err := b.find(ctx, name)
		if err != nil {
			return nil, err
		}
		if off < 0 || off > row.size || n > row.size-off {
			return nil, fault.New(fault.Invalid, "the range lies outside the blob")
		}
		left := n
		if n < 0 {
			left = row.size - off
		}
		r, err := b.openRow(ctx, name, row, off, left)
		if !fault.Is(err, fault.NotFound) {
			return r, err
		}
		if row.upload == last { // it was not deleted between the two looks
			b.opt.Log.Error("the bytes of a blob are missing in the object store", "key", keyOf(name, row.upload))
			return nil, fault.Wrap(fault.Corrupt, "the bytes of a stored blob are missing", err)
		}
		last = row.upload
	}
}

func (b *blobs) openRow(ctx context.Context, name mail.BlobRef, row blobRow, off, n int64) (io.ReadCloser, error) {
	if row.place == inRow {
		sum := newSum(name)
		sum.Write(row.data)
		if sum.Sum32() != row.sum || int64(len(row.data)) != row.size {
			return nil, errChecksum
		}
		return &inMemory{Reader: bytes.NewReader(row.data[off : off+n])}, nil
	}
	r := &blobReader{b: b, ctx: ctx, name: name, row: row, left: n}
	if off == 0 && n == row.size {
		r.sum = newSum(name)
	}
	var err error
	if n > 0 {
		r.src, err = b.uploads(row.shelf).open(ctx, row.place, name, row.upload, off, n)
	}
	return r, err
}

// inMemory is a small blob.
type inMemory struct{ *bytes.Reader }

func (m *inMemory) Read(p []byte) (int, error) {
	if m.Reader == nil {
		return 0, errReaderClosed
	}
	return m.Reader.Read(p)
}

func (m *inMemory) Close() error {
	m.Reader = nil
	return nil
}

var errReaderClosed = fault.New(fault.Closed, "the blob is closed")

// blobReader reads a large blob.
type blobReader struct {
	b      *blobs
	ctx    context.Context
	name   mail.BlobRef
	row    blobRow
	src    io.ReadCloser // nil if there is nothing to read
	left   int64
	sum    hash.Hash32 // nil if not all of it is read
	closed bool
}

func (r *blobReader) Read(p []byte) (int, error) {
	switch {
	case r.closed:
		return 0, errReaderClosed
	case len(p) == 0:
		return 0, nil
	case r.left == 0:
		return 0, cmp.Or(r.check(), io.EOF)
	}
	if err := r.b.begin(r.ctx); err != nil {
		return 0, err
	}
	defer r.b.gate.leave()
	n, err := r.src.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	if r.sum != nil {
		r.sum.Write(p[:n])
	}
	if n > 0 || err == nil {
		return n, nil // an error comes again
	}
	return 0, r.why(err)
}

// check holds a whole blob against its row.
func (r *blobReader) check() error {
	if r.sum == nil || r.sum.Sum32() == r.row.sum {
		return nil
	}
	r.b.opt.Log.Error("the bytes of a blob are not those that were stored", "key", keyOf(r.name, r.row.upload))
	r.b.forget(r.name, r.row)
	return errChecksum
}

// why tells a blob that was deleted since Open from one whose bytes are missing.
func (r *blobReader) why(err error) error {
	if errors.Is(err, io.EOF) {
		return fault.Wrap(fault.Corrupt, "the bytes of a stored blob end early", err)
	}
	if !fault.Is(err, fault.NotFound) {
		return err
	}
	row, again := r.b.find(r.ctx, r.name)
	if again == nil && row.upload == r.row.upload {
		return fault.Wrap(fault.Corrupt, "the bytes of a stored blob are missing", err)
	}
	if again != nil && !fault.Is(again, fault.NotFound) {
		return again
	}
	return errNoBlob
}

// forget has what was wrong not be read from a cache again.
func (b *blobs) forget(name mail.BlobRef, row blobRow) {
	if c, ok := b.opt.Objects.(interface{ Forget(key string) }); ok && row.place == inStore {
		c.Forget(keyOf(name, row.upload))
	}
}

func (r *blobReader) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	if r.src == nil {
		return nil
	}
	return r.src.Close()
}
