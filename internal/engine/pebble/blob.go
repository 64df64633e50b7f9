package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"sync"
	"sync/atomic"
	"time"

	db "github.com/cockroachdb/pebble/v2"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

const (
	pieceBytes = 64<<10 - 4 // bytes of a blob in one value, its checksum apart
	batchBytes = 512 << 10  // bytes of a blob in one commit; a larger one takes several
	refresh    = time.Hour  // a blob younger than this is not written to become young

	blobVersion = 1 // the header of a blob that needs no other
	blobNeeds   = 2 // the same, and the names of others
	blobSummed  = 3 // the same, with or without names, and a CRC-32C of the blob's name and all this
	headerBytes = 1 + 8 + 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// blobs keeps each blob as a header, found by List without touching a piece, and
// pieces with a checksum each.
type blobs struct {
	e       *Engine
	names   keyed[mail.BlobRef, struct{}] // who puts or deletes a name is alone on it
	buffers sync.Pool                     // *[]byte: of pieces that were read

	freed      atomic.Int64 // bytes deleted since reclaim last began for their sake
	reclaiming atomic.Bool
}

type header struct {
	at    time.Time
	size  int64
	needs []mail.BlobRef
}

func (h header) encode(name mail.BlobRef) []byte {
	b := make([]byte, 1, headerBytes+len(h.needs)*len(name)+4)
	b[0] = blobSummed
	b = binary.BigEndian.AppendUint64(b, uint64(h.at.UnixMilli()))
	b = binary.BigEndian.AppendUint64(b, uint64(h.size))
	for i := range h.needs {
		b = append(b, h.needs[i][:]...)
	}
	return binary.BigEndian.AppendUint32(b, headerSum(name, b))
}

// headerSum is the checksum of a header, which holds only under its own name.
func headerSum(name mail.BlobRef, b []byte) uint32 {
	return crc32.Update(crc32.Checksum(name[:], castagnoli), castagnoli, b)
}

func decodeHeader(name mail.BlobRef, b []byte) (header, error) {
	if n := len(b) - 4; n >= headerBytes && b[0] == blobSummed {
		if binary.BigEndian.Uint32(b[n:]) != headerSum(name, b[:n]) {
			return header{}, errHeader
		}
		b = b[:n]
	} else if len(b) < headerBytes || b[0] != blobNeeds && (b[0] != blobVersion || len(b) != headerBytes) {
		return header{}, errHeader
	}
	if (len(b)-headerBytes)%len(name) != 0 {
		return header{}, errHeader
	}
	h := header{
		at:   time.UnixMilli(int64(binary.BigEndian.Uint64(b[1:]))),
		size: int64(binary.BigEndian.Uint64(b[9:])),
	}
	if h.size < 0 {
		return header{}, errHeader
	}
	for b = b[headerBytes:]; len(b) > 0; b = b[len(name):] {
		h.needs = append(h.needs, mail.BlobRef(b[:len(name)]))
	}
	return h, nil
}

var errHeader = fault.New(fault.Corrupt, "the header of a stored blob is damaged")

func headerKey(name mail.BlobRef) []byte  { return append([]byte{spaceHeaders}, name[:]...) }
func partialKey(name mail.BlobRef) []byte { return append([]byte{spacePartial}, name[:]...) }

func pieceKey(name mail.BlobRef, n uint32) []byte {
	return binary.BigEndian.AppendUint32(append([]byte{spacePieces}, name[:]...), n)
}

// Put stores size bytes read from r under name. It does not wait for the disk: the
// log keeps the order, so that any later Update's sync covers the blob.
func (b *blobs) Put(ctx context.Context, name mail.BlobRef, size int64, r io.Reader, needs ...mail.BlobRef) error {
	if size < 0 || size/pieceBytes >= 1<<32 {
		return fault.New(fault.TooLarge, "a blob's size is out of range")
	}
	if err := b.e.gate.enter(); err != nil {
		return err
	}
	defer b.e.gate.leave()
	now := b.e.opt.Now()
	if err := b.e.disk.check(b.e.dir, now, b.e.reserve()); err != nil {
		return err
	}
	hold, err := b.lock(ctx, name)
	if err != nil {
		return err
	}
	defer hold.unlock()
	old, ok, err := b.header(name)
	if err != nil {
		return err
	}
	if ok {
		if age := now.Sub(old.at); age < refresh && age > -refresh {
			return nil
		}
		batch := b.e.db.NewBatch()
		if err := batch.Set(headerKey(name), header{now, old.size, old.needs}.encode(name), nil); err != nil {
			return b.e.failed(err)
		}
		return hold.commit(batch)
	}
	return hold.write(ctx, header{now, size, needs}, r)
}

func (b *blobs) header(name mail.BlobRef) (head header, ok bool, err error) {
	key := headerKey(name)
	it, err := b.e.db.NewIter(bounded(key, append(key[:len(key):len(key)], 0)))
	if err != nil {
		return header{}, false, b.e.failed(err)
	}
	v, ok, err := seek(it, key)
	if closing := it.Close(); err == nil {
		err = closing
	}
	if err != nil || !ok {
		return header{}, false, b.e.failed(err)
	}
	head, err = decodeHeader(name, v)
	return head, err == nil, err
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
		if err := (&hold{b: b, name: name}).dropAll(); err != nil {
			return err
		}
	}
	return nil
}

// Delete removes the blob if it was last put before the given time.
func (b *blobs) Delete(ctx context.Context, name mail.BlobRef, before time.Time) (bool, error) {
	if err := b.e.gate.enter(); err != nil {
		return false, err
	}
	defer b.e.gate.leave()
	hold, err := b.lock(ctx, name)
	if err != nil {
		return false, err
	}
	defer hold.unlock()
	h, ok, err := b.header(name)
	if err != nil || !ok || !h.at.Before(before) {
		return false, err
	}
	if err := b.e.disk.check(b.e.dir, b.e.opt.Now(), 0); err != nil {
		return false, err // deleting makes space, so it needs no reserve
	}
	if err := hold.drop(h); err != nil {
		return false, err
	}
	b.reclaim(h.size)
	return true, nil
}

// reclaim counts what was deleted and now and then brings the deletions to where the
// blobs are: only then can the database give their space back.
func (b *blobs) reclaim(size int64) {
	b.freed.Add(size)
	if !b.worthReclaiming() || !b.reclaiming.CompareAndSwap(false, true) {
		return
	}
	b.e.commits.Add(1)
	go func() {
		defer b.e.commits.Done()
		defer b.reclaiming.Store(false)
		for b.worthReclaiming() && b.e.life.Err() == nil {
			b.freed.Store(0)
			if b.e.protect(b.e.db.Flush) != nil {
				return // it shows at the next write
			}
			// Not under protect: that it is cut short by Close is no failure of the disk.
			_ = b.e.db.Compact(b.e.life, []byte{spaceHeaders}, []byte{spacePieces + 1}, false)
		}
	}()
}

func (b *blobs) worthReclaiming() bool { return b.freed.Load() >= 2*int64(b.e.opt.MemTableBytes) }

// List yields every blob in order of name.
func (b *blobs) List(ctx context.Context, fn func(name mail.BlobRef, at time.Time, size int64) bool) error {
	return b.headers(ctx, func(name mail.BlobRef, h header) bool { return fn(name, h.at, h.size) })
}

// Needs yields the blobs that need others.
func (b *blobs) Needs(ctx context.Context, fn func(name mail.BlobRef, at time.Time, needs []mail.BlobRef) bool) error {
	return b.headers(ctx, func(name mail.BlobRef, h header) bool {
		return len(h.needs) == 0 || fn(name, h.at, h.needs)
	})
}

func (b *blobs) headers(ctx context.Context, fn func(mail.BlobRef, header) bool) error {
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

func list(ctx context.Context, it *db.Iterator, fn func(mail.BlobRef, header) bool) error {
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		if n++; n%checkEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if len(it.Key()) != 1+len(mail.BlobRef{}) {
			return fault.New(fault.Corrupt, "the key of a stored blob is damaged")
		}
		name := mail.BlobRef(it.Key()[1:])
		h, err := decodeHeader(name, v)
		if err != nil {
			return err
		}
		if !fn(name, h) {
			return nil
		}
	}
	return it.Error()
}
