package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/record"
)

// The same file comes in many messages: in answers, in what is sent on, as the logo under
// each letter. So what a long run of base64 says is a blob of its own, under the name of
// its content, and the chunk only names it. For two messages to name the same, chunks are
// cut where such a run begins, and from there on at the same places. The body's blob tells
// the engine what it needs, for the sweep. docs/decisions/0016.
const (
	apartFrom = 8 << 10 // bytes of base64 in the shortest run that is kept apart
	apartMost = 1000    // runs of one body that are
)

// nextChunk returns how long the next chunk of a body is that goes on with b, and with more
// behind it if there is.
func nextChunk(b []byte, more bool) int {
	for pos := 0; pos < min(len(b), chunkSize); {
		n := bytes.IndexByte(b[pos:], '\n') + 1
		if n == 0 {
			break
		}
		end := pos + n
		if length, ok := foldable(b[pos:end]); ok {
			for end-pos+n <= chunkSize && end+n <= len(b) {
				if next, ok := foldable(b[end : end+n]); !ok || next != length {
					break
				}
				end += n
			}
			goesOn := more && end+n > len(b)
			switch {
			case pos > 0 && (end-pos >= apartFrom || goesOn):
				return min(pos, chunkSize)
			case end-pos >= apartFrom:
				return end
			}
		}
		pos = end
	}
	return min(len(b), chunkSize)
}

// foldable tells whether a line with its end may be one of a run, by its looks, and how
// long it is without.
func foldable(line []byte) (length int, ok bool) {
	n := len(line) - 1
	if n < foldLine || line[n] != '\n' {
		return 0, false
	}
	if line[n-1] == '\r' {
		n--
	}
	return n, n%4 == 0 && inBase64(line[:8]) && inBase64(line[n-8:n-2])
}

// stored is a chunk by its length and that of its stored form.
type stored struct{ raw, kept int }

// bodyWriter takes a body in, chunk by chunk.
type bodyWriter struct {
	store  *Store
	size   int64
	chunk  []byte // begun
	packed []byte
	chunks []stored
	spool  spool
	needs  []mail.BlobRef
	parts  []stored // of needs
	apart  spool
}

func (w *bodyWriter) write(b []byte) error {
	w.size += int64(len(b))
	for len(b) > 0 {
		n := min(chunkSize-len(w.chunk), len(b))
		w.chunk = append(w.chunk, b[:n]...)
		b = b[n:]
		if len(w.chunk) == chunkSize {
			if err := w.next(); err != nil {
				return err
			}
		}
	}
	return nil
}

// next packs the first of what there is, behind which there is more.
func (w *bodyWriter) next() error {
	n := nextChunk(w.chunk, true)
	if err := w.add(w.chunk[:n]); err != nil {
		return err
	}
	w.chunk = w.chunk[:copy(w.chunk, w.chunk[n:])]
	return nil
}

// finish packs the rest.
func (w *bodyWriter) finish() error {
	for b := w.chunk; len(b) > 0; {
		n := nextChunk(b, false)
		if err := w.add(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// add packs one chunk.
func (w *bodyWriter) add(chunk []byte) error {
	p := w.store.pack
	f := p.folders.Get().(*folder)
	defer p.folders.Put(f)
	if len(chunk) < apartFrom || len(w.needs) >= apartMost || !f.fold(chunk) || !f.oneRun(len(chunk)) {
		w.packed = p.chunk(w.packed[:0], chunk)
		w.chunks = append(w.chunks, stored{len(chunk), len(w.packed)})
		return w.spool.write(w.store.opt.Spool, w.packed)
	}
	name := partName(f.plain)
	w.packed = p.chunk(w.packed[:0], f.plain)
	w.needs = append(w.needs, name)
	w.parts = append(w.parts, stored{len(f.plain), len(w.packed)})
	if err := w.apart.write(w.store.opt.Spool, w.packed); err != nil {
		return err
	}
	w.packed = append(appendRuns(append(w.packed[:0], packedApart), f.runs), name[:]...)
	w.packed = binary.BigEndian.AppendUint32(w.packed, record.Sum(w.packed))
	w.chunks = append(w.chunks, stored{len(chunk), len(w.packed)})
	return w.spool.write(w.store.opt.Spool, w.packed)
}

// partName names what a run says: by its SHA-256, every bit turned over, so that it is never
// a body of the same content, which may need others itself.
func partName(plain []byte) mail.BlobRef {
	name := mail.BlobRef(sha256.Sum256(plain))
	for i := range name {
		name[i] = ^name[i]
	}
	return name
}

// oneRun tells whether a run is all there is.
func (f *folder) oneRun(length int) bool {
	return len(f.runs) == 1 && f.runs[0].text == 0 && f.runs[0].coded() == length
}

// abreast is how many parts of a body are stored at a time in an engine that other machines
// keep, where each takes its way there and back.
const abreast = 8

// put stores the body under its name, and before it what it needs.
func (w *bodyWriter) put(ctx context.Context, name mail.BlobRef) error {
	wide := 1
	if _, far := w.store.eng.(engine.Shared); far {
		wide = abreast
	}
	if err := w.putParts(ctx, wide); err != nil {
		return err
	}
	return w.store.putBody(ctx, name, w.head(), w.spool.size, w.spool.reader(), w.needs...)
}

// putParts stores what the body needs, so many parts at a time. After a failure no more are
// begun.
func (w *bodyWriter) putParts(ctx context.Context, wide int) error {
	if wide == 1 || len(w.needs) == 1 {
		off := int64(0)
		for i := range w.needs {
			if err := w.putPart(ctx, i, off); err != nil {
				return err
			}
			off += int64(w.parts[i].kept)
		}
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	free := make(chan struct{}, wide)
	var under sync.WaitGroup
	off := int64(0)
	for i := range w.needs {
		free <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		at := off
		off += int64(w.parts[i].kept)
		under.Go(func() {
			if err := w.putPart(ctx, i, at); err != nil {
				cancel(err)
			}
			<-free
		})
	}
	under.Wait()
	return context.Cause(ctx)
}

// putPart stores one part, which begins at off in the spool.
func (w *bodyWriter) putPart(ctx context.Context, i int, off int64) error {
	kept := w.parts[i].kept
	return w.store.putBody(ctx, w.needs[i], bodyHead(int64(w.parts[i].raw), []int{kept}), int64(kept), w.apart.section(off, int64(kept)))
}

func (w *bodyWriter) close() {
	w.spool.close()
	w.apart.close()
}

// head is as bodyHead, with the length of each chunk before that of its stored form.
func (w *bodyWriter) head() []byte {
	b := []byte{bodyCut}
	b = binary.AppendUvarint(b, uint64(w.size))
	b = binary.AppendUvarint(b, uint64(len(w.chunks)))
	for _, c := range w.chunks {
		b = binary.AppendUvarint(b, uint64(c.raw))
		b = binary.AppendUvarint(b, uint64(c.kept))
	}
	return binary.BigEndian.AppendUint32(b, record.Sum(b))
}

// openApart reads the chunk that names what its run says.
func (b *bodyReader) openApart(dst, src []byte) (_ []byte, err error) {
	f := b.pack.folders.Get().(*folder)
	defer b.pack.folders.Put(f)
	var name []byte
	if f.runs, name, err = parseRuns(f.runs[:0], src[1:]); err != nil {
		return nil, err
	}
	if len(name) != len(mail.BlobRef{}) || len(f.runs) != 1 {
		return nil, errFolded
	}
	if b.file == nil {
		b.file = &bodyReader{ctx: b.ctx, blobs: b.blobs, pack: b.pack, within: true}
	}
	if err := b.file.open(mail.BlobRef(name), 0, -1); err != nil {
		return nil, apartError(err)
	}
	defer b.file.Close()
	f.plain = slices.Grow(f.plain[:0], f.runs[0].plain())[:f.runs[0].plain()]
	if _, err := io.ReadFull(b.file, f.plain); err != nil {
		return nil, apartError(err)
	}
	return unfold(dst, f.runs, f.plain)
}

// apartError is of a body whose blob is there and lacks what it needs.
func apartError(err error) error {
	if fault.Is(err, fault.NotFound) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fault.Wrap(fault.Corrupt, "a stored body lacks an attachment", err)
	}
	return err
}
