package store

import (
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/klauspost/compress/s2"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// BriefKind is a thing that clients ask of all messages of a mailbox. A brief holds it for
// the messages of one page, so that one record is read in place of 64 and nothing else of
// them. Briefs follow from the messages and may be absent at any time: they are made when
// somebody asks for a whole mailbox, of pages that take in nothing any more, and go when a
// message of the page goes.
type BriefKind byte

// The kinds.
const (
	BriefEnvelope  BriefKind = iota + 1 // Facts.Envelope
	BriefStructure                      // Facts.BodyStructure
	BriefHeader                         // the header, but the fields that InBriefHeader denies

	briefKinds = iota
)

const (
	briefPages = 8         // pages that are read at once
	briefMost  = 192 << 10 // bytes of a brief before it is compressed; and the engine's limit after it
)

func briefKey(box mail.MailboxID, kind BriefKind, number uint64) []byte {
	return engine.Key(famBrief, uint64(box), uint64(kind), number)
}

// brief is one record: of each row of a page, in order, some bytes. One without rows says
// that they are too large to be kept so.
type brief struct {
	present uint64 // which UIDs of the page have a row
	rows    [pageSize][]byte
	room    []byte
}

func (b *brief) encode() []byte {
	var e enc
	e.U(b.present)
	if b.present != 0 {
		n := bits.OnesCount64(b.present)
		var raw enc
		for _, row := range b.rows[:n] {
			raw.U(uint64(len(row)))
		}
		for _, row := range b.rows[:n] {
			raw = append(raw, row...)
		}
		e = append(e, s2.Encode(nil, raw)...)
	}
	if len(e) > engine.MaxValue-16 {
		e = binary.AppendUvarint(nil, 0)
	}
	return seal(recBrief, e)
}

// decode reads a record into b, whose rows alias its own memory until the next time.
func (b *brief) decode(record []byte) error {
	b.present = 0
	p, err := unseal(recBrief, record)
	if err != nil {
		return err
	}
	d := dec{Rest: p}
	present := d.U()
	if present == 0 {
		return d.End("brief")
	}
	n, err := s2.DecodedLen(d.Rest)
	if err != nil || n > briefMost+1<<10 {
		return fault.New(fault.Corrupt, "a stored brief does not decompress")
	}
	b.room = slices.Grow(b.room[:0], n)
	raw, err := s2.Decode(b.room[:n], d.Rest)
	if err != nil {
		return fault.Wrap(fault.Corrupt, "a stored brief does not decompress", err)
	}
	d = dec{Rest: raw}
	var sizes [pageSize]uint64
	for i := range bits.OnesCount64(present) {
		sizes[i] = d.U()
	}
	for i := range bits.OnesCount64(present) {
		b.rows[i] = d.Take(sizes[i])
	}
	if err := d.End("brief"); err != nil {
		return err
	}
	b.present = present
	return nil
}

// row returns what the brief has of a UID of its page; ok is false if it has nothing.
func (b *brief) row(uid mail.UID) (row []byte, ok bool) {
	bit := uint64(1) << (uid % pageSize)
	if b.present&bit == 0 {
		return nil, false
	}
	return b.rows[bits.OnesCount64(b.present&(bit-1))], true
}

// Briefs reads briefs of one mailbox, some pages at a time, for a caller that goes
// through it with rising UIDs. Its memory serves again: some hundred KB, and at most eight
// times briefMost for each kind.
type Briefs struct {
	box   mail.MailboxID
	kinds []BriefKind
	first uint64     // number of the first page
	pages [][]*brief // by kind as in kinds, by page from first on
}

// NewBriefs returns a reader of these kinds.
func NewBriefs(box mail.MailboxID, kinds ...BriefKind) *Briefs {
	b := &Briefs{box: box, kinds: kinds, pages: make([][]*brief, len(kinds))}
	for i := range b.pages {
		b.pages[i] = make([]*brief, briefPages)
		for j := range b.pages[i] {
			b.pages[i][j] = &brief{}
		}
	}
	return b
}

// Read reads the briefs for the first of some messages, at least one, with rising UIDs. It
// tells of how many from the first on the same holds: that there are briefs of all kinds, or
// that there are not. What Of returns is valid until the next Read.
func (b *Briefs) Read(s *Snapshot, list []Message) (n int, found bool, err error) {
	b.first = pageOf(list[0].UID)
	end := min(pageOf(list[len(list)-1].UID), b.first+briefPages-1) + 1
	for k, kind := range b.kinds {
		for _, pg := range b.pages[k] {
			pg.present = 0
		}
		var bad error
		err := s.r.Scan(briefKey(b.box, kind, b.first), briefKey(b.box, kind, end), false, func(key, v []byte) bool {
			bad = b.pages[k][keyNum(key, 2)-b.first].decode(v)
			return bad == nil
		})
		if err == nil {
			err = bad
		}
		if err != nil {
			return 0, false, err
		}
	}
	found = b.has(list[0].UID)
	for n < len(list) && pageOf(list[n].UID) < end && b.has(list[n].UID) == found {
		n++
	}
	return n, found, nil
}

func (b *Briefs) has(uid mail.UID) bool {
	for _, pages := range b.pages {
		if _, ok := pages[pageOf(uid)-b.first].row(uid); !ok {
			return false
		}
	}
	return true
}

// Of returns what the i-th kind has of a message among those that Read found.
func (b *Briefs) Of(i int, uid mail.UID) []byte {
	row, _ := b.pages[i][pageOf(uid)-b.first].row(uid)
	return row
}

// SamePage tells whether two messages share their briefs.
func SamePage(a, b mail.UID) bool { return pageOf(a) == pageOf(b) }
