package store

import (
	"encoding/binary"
	"math/bits"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// pageSize is how many consecutive UIDs share a page. 64, so that which of them
// exist is one machine word.
const pageSize = 64

// Message is one row of a mailbox: the facts that change or that a client asks for
// by the hundred thousand.
type Message struct {
	UID      mail.UID
	ID       mail.MessageID
	Flags    mail.Flags
	Keywords KeywordSet
	ModSeq   mail.ModSeq
	Size     int64 // bytes of the whole message (RFC822.SIZE)
	Internal int64 // internal date, seconds since 1970
	Saved    int64 // when it came into this mailbox, seconds since 1970
	Thread   mail.ThreadID
}

// page holds what never changes of up to pageSize messages with consecutive UIDs,
// column after column, packed as it is on disk. Row r of the columns is the r-th set bit
// of present. A page is never changed; a Tx makes a pageDraft of it.
type page struct {
	present uint64
	columns [pageColumns]pageColumn
	bytes   []byte
}

// pageColumn is a column whose bytes are part of the page's.
type pageColumn struct {
	least uint64
	from  uint16
	width uint8
}

// The columns of a page. A thread is written as the difference to the message's id, a
// date so that one before 1970 is less than one after.
const (
	colID = iota
	colThread
	colSize
	colInternal
	colSaved
	pageColumns
)

const dateBias = 1 << 63

func pageOf(uid mail.UID) uint64 { return uint64(uid) / pageSize }

func (p *page) len() int { return bits.OnesCount64(p.present) }

func (p *page) at(column, row int) uint64 {
	c := &p.columns[column]
	i := int(c.from) + row*int(c.width)
	return c.least + binary.LittleEndian.Uint64(p.bytes[i:i+8])&widths[c.width&15]
}

// read reads a column from the first row on, as many rows as there is room for.
func (p *page) read(room []uint64, column int) {
	c := &p.columns[column]
	unpack64(room, p.bytes[c.from:], c.least, int(c.width))
}

// fill sets what the page knows of the message in a row.
func (p *page) fill(m *Message, row int) {
	id := p.at(colID, row)
	m.ID, m.Thread = mail.MessageID(id), mail.ThreadID(id-p.at(colThread, row))
	m.Size = int64(p.at(colSize, row))
	m.Internal, m.Saved = internalDate(p.at(colInternal, row)), p.date(colSaved, row)
}

func (p *page) date(column, row int) int64 { return int64(p.at(column, row) ^ dateBias) }

// internalDate reads an internal date of a column. Earlier versions kept some of which nobody
// can be told: those are the last of which one can.
func internalDate(v uint64) int64 { return mail.BoundSeconds(int64(v ^ dateBias)) }

// rowOf returns how many UIDs of a word of a page are below a UID, and whether it is
// among them.
func rowOf(word uint64, uid mail.UID) (int, bool) {
	bit := uint64(1) << (uid % pageSize)
	return bits.OnesCount64(word & (bit - 1)), word&bit != 0
}

// lowestUID returns the UID of the lowest bit of a page's word.
func lowestUID(number, word uint64) mail.UID {
	return mail.UID(number*pageSize) + mail.UID(bits.TrailingZeros64(word))
}

// within returns the bits of the UIDs of a range on the page with the given number.
func within(number uint64, r mail.Range) uint64 {
	word := ^uint64(0)
	first, last := number*pageSize, number*pageSize+pageSize-1
	if uint64(r.From) > last || uint64(r.To) < first {
		return 0
	}
	if uint64(r.From) > first {
		word &= ^uint64(0) << (r.From % pageSize)
	}
	if uint64(r.To) < last {
		word &= ^uint64(0) >> (pageSize - 1 - r.To%pageSize)
	}
	return word
}

// addWord adds the UIDs of a word of a page to a set, run by run.
func addWord(set *mail.UIDSet, number, word uint64) {
	for word != 0 {
		from := bits.TrailingZeros64(word)
		n := bits.TrailingZeros64(^(word >> from))
		set.AddRange(mail.UID(number*pageSize)+mail.UID(from), mail.UID(number*pageSize)+mail.UID(from+n-1))
		word &^= (1<<n - 1) << from
	}
}

// before returns the page without the rows from a UID on.
func (p *page) before(uid mail.UID) *page {
	cut := *p
	cut.present &= 1<<(uid%pageSize) - 1 // the rows before stay where they are
	return &cut
}

// pageDraft is a page that a Tx changes, by place on the page.
type pageDraft struct {
	present uint64
	values  [pageColumns][pageSize]uint64
	dirty   bool
	written bool
	record  []byte // what was written, nil if the page went
}

func (p *page) draft() *pageDraft {
	d := &pageDraft{present: p.present}
	var rows [pageColumns][pageSize]uint64
	for c := range rows {
		p.read(rows[c][:p.len()], c)
	}
	row := 0
	for word := p.present; word != 0; word &= word - 1 {
		slot := bits.TrailingZeros64(word)
		for c := range d.values {
			d.values[c][slot] = rows[c][row]
		}
		row++
	}
	return d
}

func (d *pageDraft) insert(m *Message) {
	slot := m.UID % pageSize
	d.present |= 1 << slot
	d.values[colID][slot] = uint64(m.ID)
	d.values[colThread][slot] = uint64(m.ID) - uint64(m.Thread)
	d.values[colSize][slot] = uint64(m.Size)
	d.values[colInternal][slot] = uint64(m.Internal) ^ dateBias
	d.values[colSaved][slot] = uint64(m.Saved) ^ dateBias
	d.dirty = true
}

func (d *pageDraft) remove(uid mail.UID) {
	d.present &^= 1 << (uid % pageSize)
	d.dirty = true
}

// fill sets what the page knows of the message at a place.
func (d *pageDraft) fill(m *Message, slot int) {
	id := d.values[colID][slot]
	m.ID, m.Thread = mail.MessageID(id), mail.ThreadID(id-d.values[colThread][slot])
	m.Size = int64(d.values[colSize][slot])
	m.Internal, m.Saved = internalDate(d.values[colInternal][slot]), int64(d.values[colSaved][slot]^dateBias)
}

// encode writes which messages there are; the least number and the width of each column;
// the columns.
func (d *pageDraft) encode() []byte {
	var e enc = make([]byte, 0, 64+12*bits.OnesCount64(d.present))
	e.U(d.present)
	var rows [pageColumns][pageSize]uint64
	var least [pageColumns]uint64
	var width [pageColumns]int
	n := 0
	for word := d.present; word != 0; word &= word - 1 {
		slot := bits.TrailingZeros64(word)
		for c := range rows {
			rows[c][n] = d.values[c][slot]
		}
		n++
	}
	for c := range rows {
		least[c], width[c] = spanOf(rows[c][:n])
		e.U(least[c])
		e.Raw(byte(width[c]))
	}
	for c := range rows {
		e = appendPacked(e, rows[c][:n], least[c], width[c])
	}
	return seal(recRows, e)
}

// decodePage reads a page in any form.
func decodePage(b []byte) (*page, error) {
	if len(b) > 0 && b[0] == recPage {
		old, err := decodeWholePage(b)
		if err != nil {
			return nil, err
		}
		return decodePage(old.draft().encode())
	}
	payload, err := unseal(recRows, b)
	if err != nil {
		return nil, err
	}
	d := dec{Rest: payload}
	p := &page{present: d.U()}
	n, at := p.len(), 0
	for i := range p.columns {
		c := &p.columns[i]
		*c = pageColumn{least: d.U(), from: uint16(at), width: d.Byte()}
		if c.width > 8 {
			return nil, fault.New(fault.Corrupt, "a stored page record has too wide a column")
		}
		at += n * int(c.width)
	}
	if err := d.Err("page"); err != nil {
		return nil, err
	}
	if len(d.Rest) != at {
		return nil, fault.New(fault.Corrupt, "a stored page record has the wrong length")
	}
	p.bytes = make([]byte, at+pad)
	copy(p.bytes, d.Rest)
	return p, nil
}
