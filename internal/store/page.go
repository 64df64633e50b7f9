package store

import (
	"math/bits"
	"slices"

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

// KeywordSet is a set of keywords as a bit string; bit i stands for the i-th of the
// mailbox's Keywords. It has no trailing zero bytes, so equal sets are ==.
type KeywordSet string

// Has tells whether the i-th keyword is in.
func (k KeywordSet) Has(i int) bool { return i>>3 < len(k) && k[i>>3]&(1<<(i&7)) != 0 }

// with returns k with the bits of other put in (on) or taken out.
func (k KeywordSet) with(other KeywordSet, on bool) KeywordSet {
	b := make([]byte, max(len(k), len(other)))
	copy(b, k)
	for i := range len(other) {
		if on {
			b[i] |= other[i]
		} else {
			b[i] &^= other[i]
		}
	}
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return KeywordSet(b)
}

// keywordBit returns the set of just the i-th keyword.
func keywordBit(i int) KeywordSet {
	b := make([]byte, i>>3+1)
	b[i>>3] = 1 << (i & 7)
	return KeywordSet(b)
}

// page holds the rows of up to pageSize consecutive UIDs, column after column. Row
// r of the columns is the r-th set bit of present. A page in a Picture is never
// changed; a Tx changes what it decoded itself.
type page struct {
	present  uint64
	ids      []uint64
	flags    []mail.Flags
	mods     []uint64
	sizes    []uint64
	internal []int64
	saved    []int64
	threads  []uint64
	keywords []KeywordSet // nil if no row has any
}

func pageOf(uid mail.UID) uint64 { return uint64(uid) / pageSize }

func (p *page) len() int { return len(p.ids) }

// row returns the row of a UID.
func (p *page) row(uid mail.UID) (int, bool) {
	bit := uint64(1) << (uid % pageSize)
	return bits.OnesCount64(p.present & (bit - 1)), p.present&bit != 0
}

// uidOf returns the UID of a row on the page with the given number.
func (p *page) uidOf(number uint64, row int) mail.UID {
	m := p.present
	for ; row > 0; row-- {
		m &= m - 1
	}
	return mail.UID(number*pageSize) + mail.UID(bits.TrailingZeros64(m))
}

func (p *page) message(uid mail.UID, row int) Message {
	m := Message{
		UID: uid, ID: mail.MessageID(p.ids[row]), Flags: p.flags[row], ModSeq: mail.ModSeq(p.mods[row]), Size: int64(p.sizes[row]),
		Internal: p.internal[row], Saved: p.saved[row], Thread: mail.ThreadID(p.threads[row]),
	}
	if p.keywords != nil {
		m.Keywords = p.keywords[row]
	}
	return m
}

// set changes what of a row may change.
func (p *page) set(row int, flags mail.Flags, keywords KeywordSet, mod mail.ModSeq) {
	p.flags[row], p.mods[row] = flags, uint64(mod)
	if keywords != "" && p.keywords == nil {
		p.keywords = make([]KeywordSet, p.len())
	}
	if p.keywords != nil {
		p.keywords[row] = keywords
	}
}

func (p *page) insert(m Message) {
	row, _ := p.row(m.UID)
	p.present |= 1 << (m.UID % pageSize)
	p.ids = slices.Insert(p.ids, row, uint64(m.ID))
	p.flags = slices.Insert(p.flags, row, 0)
	p.mods = slices.Insert(p.mods, row, 0)
	p.sizes = slices.Insert(p.sizes, row, uint64(m.Size))
	p.internal = slices.Insert(p.internal, row, m.Internal)
	p.saved = slices.Insert(p.saved, row, m.Saved)
	p.threads = slices.Insert(p.threads, row, uint64(m.Thread))
	if p.keywords != nil {
		p.keywords = slices.Insert(p.keywords, row, "")
	}
	p.set(row, m.Flags, m.Keywords, m.ModSeq)
}

func (p *page) remove(uid mail.UID) {
	row, ok := p.row(uid)
	if !ok {
		return
	}
	p.present &^= 1 << (uid % pageSize)
	p.ids = slices.Delete(p.ids, row, row+1)
	p.flags = slices.Delete(p.flags, row, row+1)
	p.mods = slices.Delete(p.mods, row, row+1)
	p.sizes = slices.Delete(p.sizes, row, row+1)
	p.internal = slices.Delete(p.internal, row, row+1)
	p.saved = slices.Delete(p.saved, row, row+1)
	p.threads = slices.Delete(p.threads, row, row+1)
	if p.keywords != nil {
		p.keywords = slices.Delete(p.keywords, row, row+1)
	}
}

// before returns the page without the rows from a UID on.
func (p *page) before(uid mail.UID) *page {
	n, _ := p.row(uid)
	if n == p.len() {
		return p
	}
	cut := &page{
		present: p.present & (1<<(uid%pageSize) - 1), ids: p.ids[:n:n], flags: p.flags[:n:n], mods: p.mods[:n:n],
		sizes: p.sizes[:n:n], internal: p.internal[:n:n], saved: p.saved[:n:n], threads: p.threads[:n:n],
	}
	if p.keywords != nil {
		cut.keywords = p.keywords[:n:n]
	}
	return cut
}

// encode writes column after column; what usually rises is written as differences.
func (p *page) encode() []byte {
	var e enc = make([]byte, 0, 16+p.len()*20)
	e.U(p.present)
	for _, column := range [...][]uint64{p.ids, p.mods, p.threads} {
		var last uint64
		for _, v := range column {
			e.I(int64(v - last))
			last = v
		}
	}
	for _, v := range p.sizes {
		e.U(v)
	}
	for _, column := range [...][]int64{p.internal, p.saved} {
		var last int64
		for _, v := range column {
			e.I(v - last)
			last = v
		}
	}
	for _, f := range p.flags {
		e.Raw(byte(f))
	}
	e.Bool(p.keywords != nil)
	for _, k := range p.keywords {
		e.Str(string(k))
	}
	return seal(recPage, e)
}

func decodePage(b []byte) (*page, error) {
	payload, err := unseal(recPage, b)
	if err != nil {
		return nil, err
	}
	d := dec{Rest: payload}
	p := &page{present: d.U()}
	n := bits.OnesCount64(p.present)
	nums := make([]uint64, 4*n)
	p.ids, p.mods, p.threads, p.sizes = nums[:n:n], nums[n:2*n:2*n], nums[2*n:3*n:3*n], nums[3*n:]
	for _, column := range [...][]uint64{p.ids, p.mods, p.threads} {
		var last uint64
		for i := range column {
			last += uint64(d.I())
			column[i] = last
		}
	}
	for i := range p.sizes {
		p.sizes[i] = d.U()
	}
	dates := make([]int64, 2*n)
	p.internal, p.saved = dates[:n:n], dates[n:]
	for _, column := range [...][]int64{p.internal, p.saved} {
		var last int64
		for i := range column {
			last += d.I()
			column[i] = last
		}
	}
	p.flags = make([]mail.Flags, n)
	for i, f := range d.Take(uint64(n)) {
		p.flags[i] = mail.Flags(f)
	}
	if d.Bool() {
		p.keywords = make([]KeywordSet, n)
		for i := range p.keywords {
			p.keywords[i] = KeywordSet(d.Bytes())
		}
	}
	if err := d.Err("page"); err != nil {
		return nil, err
	}
	if len(d.Rest) != 0 {
		return nil, fault.New(fault.Corrupt, "a stored page record is too long")
	}
	return p, nil
}
