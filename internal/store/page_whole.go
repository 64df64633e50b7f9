package store

import (
	"math/bits"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// wholePage is a page as it was written before what changes had records of its own: with
// flags, keywords and modseqs. Those count as long as its sheet has no marks.
type wholePage struct {
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

func decodeWholePage(b []byte) (*wholePage, error) {
	payload, err := unseal(recPage, b)
	if err != nil {
		return nil, err
	}
	d := dec{Rest: payload}
	p := &wholePage{present: d.U()}
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

// draft returns what does not change.
func (p *wholePage) draft() *pageDraft {
	d := &pageDraft{}
	row := 0
	for word := p.present; word != 0; word &= word - 1 {
		d.insert(&Message{
			UID: lowestUID(0, word), ID: mail.MessageID(p.ids[row]), Thread: mail.ThreadID(p.threads[row]),
			Size: int64(p.sizes[row]), Internal: p.internal[row], Saved: p.saved[row],
		})
		row++
	}
	return d
}

// mark enters what changes into the marks of the page's sheet.
func (p *wholePage) mark(d *marksDraft, number uint64) {
	row := 0
	for word := p.present; word != 0; word &= word - 1 {
		k := marking{flags: p.flags[row]}
		if p.keywords != nil {
			k.keywords = p.keywords[row]
		}
		d.set(slotOf(lowestUID(number, word)), k, mail.ModSeq(p.mods[row]))
		row++
	}
}
