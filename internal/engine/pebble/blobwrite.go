package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"

	db "github.com/cockroachdb/pebble/v2"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// hold is the right to change a name.
type hold struct {
	b       *blobs
	name    mail.BlobRef
	entry   *entry[struct{}]
	pending chan error // of a commit that outlives the call
}

func (b *blobs) lock(ctx context.Context, name mail.BlobRef) (*hold, error) {
	l := b.names.get(name)
	if err := l.acquire(ctx, b.e.disk.stop()); err != nil {
		b.names.put(name, l)
		return nil, err
	}
	return &hold{b: b, name: name, entry: l}, nil
}

// unlock gives the name free, once the last commit under it is over.
func (h *hold) unlock() {
	free := func() {
		h.entry.release()
		h.b.names.put(h.name, h.entry)
	}
	if h.pending == nil {
		free()
		return
	}
	go func() {
		<-h.pending
		free()
	}()
}

// commit applies the batch and gives it back, without waiting for the disk. It runs
// the database apart from the call, which a disk that hangs must not hold.
func (h *hold) commit(batch *db.Batch) error {
	e := h.b.e
	done := make(chan error, 1)
	e.commits.Add(1)
	go func() {
		defer e.commits.Done()
		done <- e.protect(func() error { return batch.Commit(db.NoSync) })
	}()
	select {
	case err := <-done:
		if err != nil {
			return fault.Wrap(fault.Unavailable, errStopped.Say, err)
		}
		_ = batch.Close() // goes back to a pool
		e.busy()
		return nil
	case <-e.disk.stop():
		h.pending = done
		return errStopped
	}
}

// write writes the pieces and then the header. A blob of several commits is marked
// as partial from the first to the last, so that a crash leaves nothing behind
// that Open cannot find.
func (h *hold) write(ctx context.Context, head header, r io.Reader) error {
	e, name := h.b.e, h.name
	batch := e.db.NewBatch()
	several := head.size > batchBytes
	if several {
		if err := batch.Set(partialKey(name), nil, nil); err != nil {
			return e.failed(err)
		}
	}
	buf := make([]byte, 4+min(head.size, pieceBytes))
	for n, left := uint32(0), head.size; left > 0; n++ {
		piece := buf[:4+min(left, pieceBytes)]
		if err := readPiece(ctx, r, piece); err != nil {
			return h.abandon(several, err)
		}
		if err := batch.Set(pieceKey(name, n), piece, nil); err != nil {
			return e.failed(err)
		}
		left -= int64(len(piece)) - 4
		if several && batch.Len() >= batchBytes {
			if err := h.commit(batch); err != nil {
				return err
			}
			if err := e.disk.check(e.dir, e.opt.Now(), e.reserve()); err != nil {
				return h.abandon(several, err)
			}
			batch = e.db.NewBatch()
		}
	}
	if several {
		if err := batch.Delete(partialKey(name), nil); err != nil {
			return e.failed(err)
		}
	}
	if err := batch.Set(headerKey(name), head.encode(name), nil); err != nil {
		return e.failed(err)
	}
	return h.commit(batch)
}

// readPiece fills the piece behind its checksum.
func readPiece(ctx context.Context, r io.Reader, piece []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, err := io.ReadFull(r, piece[4:]); err != nil {
		return err
	}
	binary.BigEndian.PutUint32(piece, crc32.Checksum(piece[4:], castagnoli))
	return nil
}

// abandon ends a Put whose reader failed.
func (h *hold) abandon(several bool, cause error) error {
	if several {
		if err := h.dropAll(); err != nil {
			return err
		}
	}
	if errors.Is(cause, io.EOF) || errors.Is(cause, io.ErrUnexpectedEOF) {
		return fault.Wrap(fault.Invalid, "a blob is shorter than announced", cause)
	}
	return cause
}

// dropAll removes whatever there is of the name.
func (h *hold) dropAll() error {
	batch := h.b.e.db.NewBatch()
	err := errors.Join(
		batch.Delete(headerKey(h.name), nil),
		batch.Delete(partialKey(h.name), nil),
		batch.DeleteRange(pieceKey(h.name, 0), engine.After(pieceKey(h.name, 1<<32-1)), nil),
	)
	if err != nil {
		return h.b.e.failed(err)
	}
	return h.commit(batch)
}

// drop removes the blob of a header: piece by piece, with the sizes, as many ranges
// would make reading slow and tell the database nothing of what there is to gain.
func (h *hold) drop(head header) error {
	batch := h.b.e.db.NewBatch()
	err := batch.Delete(headerKey(h.name), nil)
	for n, left := uint32(0), head.size; left > 0 && err == nil; n++ {
		piece := min(left, pieceBytes)
		err = batch.DeleteSized(pieceKey(h.name, n), uint32(4+piece), nil)
		left -= piece
	}
	if err != nil {
		return h.b.e.failed(err)
	}
	return h.commit(batch)
}
