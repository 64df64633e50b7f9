package imapd

import (
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// A FETCH of bodies reads the short messages of a chunk as runs of records, one of
// headers and one of bodies, in one Snapshot; long ones are opened one by one when it is
// their turn.

// bodyBytes is how much of short messages is read before it is written: so much of
// headers and so much of bodies at most, and one more of each.
const bodyBytes = 512 << 10

// readApart is how much of a message is reckoned with that may be long: its header alone.
const readApart = 32 << 10

// fitting returns how many messages, one at least, are read together to be no more than
// some bytes, as their sizes tell. Without it a chunk's headers could be read again for each
// few bodies.
func fitting(n, bytes int, size func(i int) int64) int {
	for i := range n {
		if bytes -= int(min(size(i), readApart)); bytes < 0 {
			return max(i, 1)
		}
	}
	return n
}

// bodies is what was read of a chunk.
type bodies struct {
	ids        []mail.MessageID
	head, body heads
	list       []loaded
}

var bodiesPool = sync.Pool{New: func() any { return new(bodies) }}

// release gives b back, unless a long header made it large.
func (b *bodies) release() {
	if cap(b.head.all)+cap(b.body.all) <= 4*bodyBytes {
		clear(b.list)
		bodiesPool.Put(b)
	}
}

// fetchBodies answers for the messages of a chunk, of which more than the header is
// asked for.
func (s *session) fetchBodies(plan *fetchPlan, chunk []store.Message, seen func(store.Message) bool) (lost bool, err error) {
	b := bodiesPool.Get().(*bodies)
	defer b.release()
	for len(chunk) > 0 {
		err := s.view.acct.View(s.ctx, func(snap *store.Snapshot) error { return b.load(snap, plan, chunk) })
		if err != nil {
			return lost, err
		}
		chunk = chunk[len(b.list):]
		for i := range b.list {
			ld := &b.list[i]
			var err error = errGone
			if !ld.gone {
				ld.seen = seen(ld.m)
				err = s.fetchOne(plan, ld)
			}
			if fault.Is(err, fault.NotFound) && !isFatal(err) {
				lost = true
			} else if err != nil {
				return lost, err
			}
			if err := s.flushFull(); err != nil {
				return lost, err
			}
		}
	}
	return lost, nil
}

var errGone = fault.New(fault.NotFound, "no such message")

// load reads what plan needs of the first messages of a chunk, until it is enough.
func (b *bodies) load(snap *store.Snapshot, plan *fetchPlan, chunk []store.Message) error {
	b.ids = b.ids[:0]
	chunk = chunk[:fitting(len(chunk), bodyBytes, func(i int) int64 { return chunk[i].Size })]
	for i := range chunk {
		b.ids = append(b.ids, chunk[i].ID)
	}
	b.head.reset()
	b.body.reset()
	b.list = b.list[:0]
	if err := b.head.fill(snap.EachHead, b.ids, bodyBytes); err != nil {
		return err
	}
	ids := b.ids[:len(b.head.ends)]
	if err := b.body.fill(snap.EachBody, ids, bodyBytes); err != nil {
		return err
	}
	ids = ids[:len(b.body.ends)]
	for i := range ids {
		ld := loaded{m: chunk[i], head: b.head.of(i), body: b.body.of(i), gone: b.head.missing(i)}
		ld.facts.Size = ld.m.Size
		b.list = append(b.list, ld)
	}
	if !plan.shape {
		return nil
	}
	return snap.EachFacts(ids, func(i int, f store.Facts, ok bool) error {
		if b.list[i].gone = !ok; !ok {
			return nil
		}
		return b.list[i].take(plan, &f)
	})
}

// take keeps of the facts what plan needs.
func (ld *loaded) take(plan *fetchPlan, f *store.Facts) (err error) {
	ld.facts = *f
	ld.facts.Envelope, ld.facts.BodyStructure = slices.Clone(f.Envelope), slices.Clone(f.BodyStructure)
	if plan.parts {
		if ld.root, err = f.Parts(); err != nil {
			return err
		}
	}
	return ld.readKeys(plan, f)
}

// readKeys keeps of the sort keys what plan needs.
func (ld *loaded) readKeys(plan *fetchPlan, f *store.Facts) error {
	if !plan.keys {
		return nil
	}
	preview, _, err := f.Preview()
	ld.preview = string(preview)
	return err
}

// whole tells whether all bytes of the message are in memory.
func (ld *loaded) whole() bool { return int64(len(ld.head)+len(ld.body)) == ld.facts.Size }

// open returns n bytes of the message from off on.
func (w *fetchWriter) open(off, n int64) (io.ReadCloser, error) {
	if w.ld.whole() {
		return io.NopCloser(io.LimitReader(&pieces{w.ld.from(off)}, n)), nil
	}
	return w.s.view.acct.Open(w.s.ctx, w.ld.m.ID, off, n)
}

// from returns the bytes of a message in memory from off on, in two pieces.
func (ld *loaded) from(off int64) [2][]byte {
	head := int64(len(ld.head))
	return [2][]byte{ld.head[min(off, head):], ld.body[max(0, off-head):]}
}

// pieces reads two pieces one after the other.
type pieces struct{ left [2][]byte }

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.left[0]) == 0 {
		p.left[0], p.left[1] = p.left[1], nil
	}
	if len(p.left[0]) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.left[0])
	p.left[0] = p.left[0][n:]
	return n, nil
}

// inMemory writes n bytes of a message that is in memory, as a literal.
func (w *fetchWriter) inMemory(it *imap.FetchItem, off, n int64) {
	w.name(it)
	w.s.enc.SP().LiteralHeader(n, false)
	for _, piece := range w.ld.from(off) {
		piece = piece[:min(int64(len(piece)), n)]
		w.s.enc.RawBytes(piece)
		n -= int64(len(piece))
	}
}

func (h *heads) reset() { h.all, h.ends, h.gone = h.all[:0], h.ends[:0], h.gone[:0] }

// missing tells whether there was nothing to read of the i-th message.
func (h *heads) missing(i int) bool { return slices.Contains(h.gone, i) }

// read reads headers until they are enough for one chunk, at least one.
func (h *heads) read(snap *store.Snapshot, ids []mail.MessageID) error {
	return h.fill(snap.EachHead, ids, chunkBytes)
}

// fill reads bytes of messages until they are more than enough, or one cannot be read;
// at least those of one.
func (h *heads) fill(each func([]mail.MessageID, func(int, []byte, bool) error) error, ids []mail.MessageID, enough int) error {
	err := each(ids, func(i int, b []byte, ok bool) error {
		h.all = append(h.all, b...)
		h.ends = append(h.ends, len(h.all))
		if !ok {
			h.gone = append(h.gone, i)
		}
		if len(h.all) > enough {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) || len(h.ends) > 0 { // what fails is met again as the first of the next
		return nil
	}
	return err
}
