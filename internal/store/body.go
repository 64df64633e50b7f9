package store

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"slices"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/record"
)

// A stored body is a head and chunks: version byte, size, number of chunks, the
// stored length of each, CRC-32C of all that; then the chunks, each packed and with
// a CRC-32C of its own. docs/schema.md.

const (
	bodyVersion = 2        // 1 is the same without folded chunks
	bodyCut     = 3        // with chunks of different lengths, and runs kept apart
	chunkSize   = 64 << 10 // bytes of a chunk before compression
)

// bodyHead returns the head for chunks of the given stored lengths.
func bodyHead(size int64, lengths []int) []byte {
	b := []byte{bodyVersion}
	b = binary.AppendUvarint(b, uint64(size))
	b = binary.AppendUvarint(b, uint64(len(lengths)))
	for _, n := range lengths {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return binary.BigEndian.AppendUint32(b, record.Sum(b))
}

func (p *packer) chunk(dst, src []byte) []byte {
	start := len(dst)
	dst = p.packBody(dst, src)
	return binary.BigEndian.AppendUint32(dst, record.Sum(dst[start:]))
}

func (b *bodyReader) unchunk(dst, src []byte) ([]byte, error) {
	n := len(src) - 4
	if n < 1 || record.Sum(src[:n]) != binary.BigEndian.Uint32(src[n:]) {
		return nil, fault.New(fault.Corrupt, "a stored body fails its checksum")
	}
	src = src[:n]
	switch src[0] {
	case packedApart:
		if b.within {
			return nil, errFolded // or a broken body could go round in itself
		}
		return b.openApart(dst, src)
	case packedFolded, packedFoldedZstd:
		f := b.pack.folders.Get().(*folder)
		defer b.pack.folders.Put(f)
		return f.unpack(b.pack.unbody, dst, src)
	}
	return unpack(b.pack.unbody, dst, src)
}

// bodyReader reads a range of a stored body chunk by chunk.
type bodyReader struct {
	ctx    context.Context
	blobs  engine.Blobs
	src    io.Closer
	r      *bufio.Reader
	pack   *packer
	chunks []stored
	next   int    // chunk to read next
	skip   int64  // bytes of that chunk before the range
	left   int64  // bytes of the range still to give
	chunk  []byte // what of raw is still to give
	raw    []byte
	stored []byte
	file   *bodyReader // of the last run kept apart: its buffers serve the next
	within bool        // it is such a run, which needs no other
}

var errBodyClosed = fault.New(fault.Internal, "a body is read after its end")

var errBodyHead = fault.New(fault.Corrupt, "a stored body has a broken head")

// openBody returns n bytes of a body from off on; n < 0 is to the end. The range
// must lie inside. Memory: two chunks, and for a run kept apart three more.
func openBody(ctx context.Context, blobs engine.Blobs, p *packer, name mail.BlobRef, off, n int64) (io.ReadCloser, error) {
	b := &bodyReader{ctx: ctx, blobs: blobs, pack: p}
	if err := b.open(name, off, n); err != nil {
		return nil, err
	}
	return b, nil
}

// open begins to read a body. The reader may have read another to its end; its buffers are
// used again.
func (b *bodyReader) open(name mail.BlobRef, off, n int64) error {
	src, err := b.blobs.Open(b.ctx, name, 0, -1)
	if err != nil {
		return err
	}
	b.src, b.r = src, b.pack.readers.Get().(*bufio.Reader)
	b.next, b.chunk = 0, nil
	b.r.Reset(src)
	headLen, err := b.head(off, n)
	if err != nil {
		b.Close()
		return err
	}
	if b.next > 0 { // begin at the chunk that holds off
		src.Close()
		at := int64(headLen)
		for _, c := range b.chunks[:b.next] {
			at += int64(c.kept)
		}
		if src, err = b.blobs.Open(b.ctx, name, at, -1); err != nil {
			b.Close()
			return err
		}
		b.src = src
		b.r.Reset(src)
	}
	return nil
}

// headReader is an io.ByteReader that keeps what it reads, for the checksum.
type headReader struct {
	r    *bufio.Reader
	read []byte
}

func (h *headReader) ReadByte() (byte, error) {
	v, err := h.r.ReadByte()
	if err == nil {
		h.read = append(h.read, v)
	}
	return v, err
}

// head reads the head and takes the range up.
func (b *bodyReader) head(off, n int64) (length int, err error) {
	c := &headReader{r: b.r}
	version, _ := c.ReadByte()
	size, err1 := binary.ReadUvarint(c)
	count, err2 := binary.ReadUvarint(c)
	if version < 1 || version > bodyCut || err1 != nil || err2 != nil || count > 1<<20 ||
		version != bodyCut && count != (size+chunkSize-1)/chunkSize {
		return 0, errBodyHead
	}
	b.chunks = slices.Grow(b.chunks[:0], int(count))[:count]
	left := size
	for i := range b.chunks {
		raw := min(left, chunkSize)
		if version == bodyCut {
			raw, err1 = binary.ReadUvarint(c)
		}
		kept, err2 := binary.ReadUvarint(c)
		if err1 != nil || err2 != nil || kept > 2*chunkSize || raw == 0 || raw > min(left, chunkSize) {
			return 0, errBodyHead
		}
		left -= raw
		b.chunks[i] = stored{int(raw), int(kept)}
	}
	if left > 0 {
		return 0, errBodyHead
	}
	var sum [4]byte
	if _, err := io.ReadFull(b.r, sum[:]); err != nil || binary.BigEndian.Uint32(sum[:]) != record.Sum(c.read) {
		return 0, errBodyHead
	}
	if n < 0 {
		n = int64(size) - off
	}
	if off < 0 || n < 0 || off+n > int64(size) {
		return 0, fault.New(fault.Corrupt, "a body is shorter than its message says")
	}
	b.skip, b.left = off, n
	for b.next < len(b.chunks) && b.skip >= int64(b.chunks[b.next].raw) {
		b.skip -= int64(b.chunks[b.next].raw)
		b.next++
	}
	return len(c.read) + 4, nil
}

func (b *bodyReader) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	for len(b.chunk) == 0 {
		if err := b.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.chunk[:min(int64(len(b.chunk)), b.left)])
	b.chunk = b.chunk[n:]
	b.left -= int64(n)
	return n, nil
}

// WriteTo saves the copy through a buffer of the caller's.
func (b *bodyReader) WriteTo(w io.Writer) (total int64, err error) {
	for b.left > 0 {
		for len(b.chunk) == 0 {
			if err := b.fill(); err != nil {
				return total, err
			}
		}
		n, err := w.Write(b.chunk[:min(int64(len(b.chunk)), b.left)])
		total += int64(n)
		b.left -= int64(n)
		b.chunk = b.chunk[n:]
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

func (b *bodyReader) fill() error {
	if b.r == nil {
		return errBodyClosed
	}
	if b.next >= len(b.chunks) {
		return errBodyHead
	}
	n, raw := b.chunks[b.next].kept, b.chunks[b.next].raw
	b.next++
	if cap(b.stored) < n {
		b.stored = make([]byte, n)
	}
	b.stored = b.stored[:n]
	if _, err := io.ReadFull(b.r, b.stored); err != nil {
		if fault.Of(err) != fault.Internal {
			return err
		}
		return fault.Wrap(fault.Corrupt, "a stored body is cut short", err)
	}
	var err error
	if b.raw, err = b.unchunk(b.raw[:0], b.stored); err != nil {
		return err
	}
	if len(b.raw) != raw {
		return errBodyHead
	}
	b.chunk, b.skip = b.raw[b.skip:], 0
	return nil
}

// Close gives the buffer back. After it there is nothing to read.
func (b *bodyReader) Close() error {
	if b.r != nil {
		b.r.Reset(nil)
		b.pack.readers.Put(b.r)
		b.r, b.chunk = nil, nil
	}
	return b.src.Close()
}

// joined reads the head bytes, then the body.
type joined struct {
	head bytes.Reader
	body io.ReadCloser // nil if none
}

func (j *joined) Read(p []byte) (int, error) {
	if j.head.Len() > 0 {
		return j.head.Read(p)
	}
	if j.body == nil {
		return 0, io.EOF
	}
	return j.body.Read(p)
}

func (j *joined) WriteTo(w io.Writer) (int64, error) {
	n, err := j.head.WriteTo(w)
	if err != nil || j.body == nil {
		return n, err
	}
	m, err := io.Copy(w, j.body)
	return n + m, err
}

func (j *joined) Close() error {
	if j.body == nil {
		return nil
	}
	return j.body.Close()
}

// openJoined returns n bytes from off on of a message whose first bytes are head
// and whose rest is the body. The range is cut to what there is.
func openJoined(ctx context.Context, s *Store, head []byte, rest kept, size, off, n int64) (io.ReadCloser, error) {
	off = min(max(off, 0), size)
	if n < 0 || n > size-off {
		n = size - off
	}
	j := &joined{}
	stored := int64(len(head))
	if off < stored {
		part := head[off:min(stored, off+n)]
		j.head.Reset(part)
		n -= int64(len(part))
		off = stored
	}
	if n > 0 {
		body, err := rest.open(ctx, s, off-stored, n)
		if err != nil {
			return nil, err
		}
		j.body = body
	}
	return j, nil
}
