package imapd

import (
	"io"
	"sync"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// fetchWriter writes the answer for one message.
type fetchWriter struct {
	s     *session
	ld    *loaded
	start int  // where the answer begins in the encoder's buffer
	left  bool // a part of the answer has left it: there is no taking back

	labels *labelNames // those of the chunk, if they are asked for
	notes  *noteReader
}

// maxFilter bounds the header that HEADER.FIELDS looks at; fields beyond are not
// found. No header that a person wrote comes near.
const maxFilter = 1 << 20

// section writes BODY[...] (RFC 9051, 6.4.5.1). A part that is not there is NIL.
func (w *fetchWriter) section(it *imap.FetchItem) error {
	off, n, ok := locate(it, w.ld)
	if !ok {
		w.name(it)
		w.s.enc.Raw(" NIL")
		return nil
	}
	if it.Text == imap.SectionFields || it.Text == imap.SectionNotFields {
		return w.fields(it, off, n)
	}
	if ofTopHeader(it) && int64(len(w.ld.head)) >= n {
		w.name(it)
		w.bytes(it, w.ld.head[:n])
		return nil
	}
	off, n = cut(it, off, n)
	return w.stored(it, off, n)
}

// locate returns the bytes of the message that a section means.
func locate(it *imap.FetchItem, ld *loaded) (off, n int64, ok bool) {
	f := &ld.facts
	if len(it.Path) == 0 {
		switch it.Text {
		case imap.SectionAll:
			return 0, f.Size, true
		case imap.SectionBody:
			return f.HeaderSize, f.Size - f.HeaderSize, true
		}
		return 0, f.HeaderSize, true
	}
	p := findPart(ld.root, it.Path)
	if p == nil {
		return 0, 0, false
	}
	switch it.Text {
	case imap.SectionAll:
		return p.Body, p.End - p.Body, true
	case imap.SectionMIME:
		return p.Header, p.Body - p.Header, true
	}
	if !p.IsMessage() { // HEADER and TEXT are of a message only
		return 0, 0, false
	}
	inner := p.Children[0]
	if it.Text == imap.SectionBody {
		return inner.Body, inner.End - inner.Body, true
	}
	return inner.Header, inner.Body - inner.Header, true
}

func findPart(root *mime.Part, path []uint32) *mime.Part {
	ints := make([]int, len(path))
	for i, n := range path {
		ints[i] = int(n)
	}
	return root.Find(ints)
}

// cut applies a partial to a range (RFC 9051, 6.4.5: past the end is empty).
func cut(it *imap.FetchItem, off, n int64) (int64, int64) {
	if !it.Partial {
		return off, n
	}
	if it.Offset >= uint64(n) {
		return off, 0
	}
	return off + int64(it.Offset), min(n-int64(it.Offset), int64(it.Len))
}

func (w *fetchWriter) name(it *imap.FetchItem) {
	var room [64]byte
	w.s.enc.RawBytes(it.AppendName(room[:0]))
}

// bytes writes what is in memory as a literal.
func (w *fetchWriter) bytes(it *imap.FetchItem, b []byte) {
	off, n := cut(it, 0, int64(len(b)))
	w.s.enc.SP().LiteralHeader(n, false).RawBytes(b[off : off+n])
}

// fields writes HEADER.FIELDS and HEADER.FIELDS.NOT.
func (w *fetchWriter) fields(it *imap.FetchItem, off, n int64) error {
	head := w.ld.head
	if !ofTopHeader(it) || int64(len(head)) < n {
		r, err := w.open(off, min(n, maxFilter))
		if err != nil {
			return w.unread(err)
		}
		defer r.Close()
		if head, err = io.ReadAll(r); err != nil {
			return w.unread(err)
		}
	}
	w.name(it)
	w.bytes(it, mime.FilterHeader(head, it.Fields, it.Text == imap.SectionNotFields))
	return nil
}

// unread takes back what was written of the message, which cannot be read, unless
// a part of it has left already.
func (w *fetchWriter) unread(err error) error {
	if w.left {
		w.s.torn = true
		return fatal{err}
	}
	w.s.enc.Truncate(w.start)
	return err
}

// stored writes bytes of the message as they are kept.
func (w *fetchWriter) stored(it *imap.FetchItem, off, n int64) error {
	if n == 0 {
		w.name(it)
		w.s.enc.SP().LiteralHeader(0, false)
		return nil
	}
	if w.ld.whole() {
		w.inMemory(it, off, n)
		return nil
	}
	r, err := w.open(off, n)
	if err != nil {
		return w.unread(err)
	}
	defer r.Close()
	w.name(it)
	w.s.enc.SP().LiteralHeader(n, false)
	return w.stream(r, n)
}

// binary writes BINARY[...] and BINARY.SIZE[...]: a part without its transfer
// encoding (RFC 3516, 4.2). How long that is shows only when it has been decoded, so
// it is decoded twice.
func (w *fetchWriter) binary(it *imap.FetchItem) error {
	p := w.ld.root
	if len(it.Path) > 0 {
		p = findPart(w.ld.root, it.Path)
	}
	if p == nil {
		return w.noPart(it)
	}
	off, size, encoding := p.Body, p.End-p.Body, p.Encoding
	if len(it.Path) == 0 { // the whole message has no transfer encoding
		off, size, encoding = 0, w.ld.facts.Size, ""
	}
	n, err := w.decoded(off, size, encoding, func(r io.Reader) (int64, error) { return io.Copy(io.Discard, r) })
	if err != nil {
		return w.unread(err)
	}
	w.name(it)
	if it.Kind == imap.FetchBinarySize {
		w.s.enc.SP().Number(uint64(n))
		return nil
	}
	skip, n := cut(it, 0, n)
	w.s.enc.SP().LiteralHeader(n, true)
	_, err = w.decoded(off, size, encoding, func(r io.Reader) (int64, error) {
		if _, err := io.CopyN(io.Discard, r, skip); err != nil {
			return 0, err
		}
		return n, w.stream(io.LimitReader(r, n), n)
	})
	if err != nil && !isFatal(err) {
		w.s.torn = true // the literal was announced
		err = fatal{err}
	}
	return err
}

func (w *fetchWriter) noPart(it *imap.FetchItem) error {
	w.name(it)
	if it.Kind == imap.FetchBinarySize {
		w.s.enc.Raw(" 0")
	} else {
		w.s.enc.Raw(" NIL")
	}
	return nil
}

// decoded opens a range of the message and hands it on without its encoding.
func (w *fetchWriter) decoded(off, size int64, encoding string, use func(io.Reader) (int64, error)) (int64, error) {
	r, err := w.open(off, size)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	plain, err := mime.BinaryDecoder(encoding, r)
	if err != nil {
		return 0, coded("UNKNOWN-CTE", err)
	}
	return use(plain)
}

const streamBuffer = 32 << 10

var streamBuffers = sync.Pool{New: func() any { return new([streamBuffer]byte) }}

// stream copies the n bytes of an announced literal to the client through a fixed
// buffer.
func (w *fetchWriter) stream(r io.Reader, n int64) error {
	buf := streamBuffers.Get().(*[streamBuffer]byte)
	defer streamBuffers.Put(buf)
	for n > 0 {
		k, err := r.Read(buf[:min(n, streamBuffer)])
		w.s.enc.RawBytes(buf[:k])
		if n -= int64(k); n > 0 && err != nil {
			if err == io.EOF {
				err = fault.New(fault.Corrupt, "a message is shorter than it should be")
			}
			w.s.torn = true
			return fatal{err}
		}
		if w.s.enc.Len() >= flushAt {
			w.left = true
			if err := w.s.flush(); err != nil {
				return fatal{err}
			}
		}
	}
	return nil
}
