package store

import (
	"math/bits"
	"slices"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// A sheet is sheetPages consecutive pages: what changes of their messages, flags,
// keywords and modseqs, is one record, so that a change of all flags of a mailbox
// writes few and short ones. Not more pages: a change of one message writes the whole
// record, and with the most and longest keyword sets there can be it must not take more
// than an engine's value.
const (
	sheetPages = 8
	sheetSize  = sheetPages * pageSize
)

func sheetOf(uid mail.UID) uint64 { return uint64(uid) / sheetSize }

// slotOf returns the place of a UID on its sheet.
func slotOf(uid mail.UID) int { return int(uid % sheetSize) }

// sheetWords says for some messages of a sheet which these are, a word for each page.
type sheetWords [sheetPages]uint64

// marking is what a user has made of a message.
type marking struct {
	flags    mail.Flags
	keywords KeywordSet
}

// marks is what changes of the messages of a sheet, in rows as on a page. It is never
// changed; a Tx makes a marksDraft of it.
type marks struct {
	present sheetWords
	before  [sheetPages]uint16 // rows of the pages before each
	newest  [sheetPages]uint64 // highest modseq of each page
	highest uint64             // and of all
	rows    int
	unseen  int
	kinds   []marking // the different ones
	kind    column    // which of them each row has
	mods    column
}

// row returns the row of a UID.
func (k *marks) row(uid mail.UID) (int, bool) {
	i := slotOf(uid) / pageSize
	n, ok := rowOf(k.present[i], uid)
	return int(k.before[i]) + n, ok
}

func (k *marks) marking(row int) *marking { return &k.kinds[k.kind.at(row)] }

// bytes estimates the memory.
func (k *marks) bytes() int {
	n := 320 + len(k.kind.bytes) + len(k.mods.bytes)
	for i := range k.kinds {
		n += 32 + len(k.kinds[i].keywords)
	}
	return n
}

// marksDraft is marks that a Tx changes, by place on the sheet.
type marksDraft struct {
	present sheetWords
	kinds   []marking // some may have no message
	kind    [sheetSize]uint16
	mods    [sheetSize]uint64
	dirty   bool
	written bool
}

func (d *marksDraft) has(slot int) bool {
	return d.present[slot/pageSize]>>(slot%pageSize)&1 != 0
}

// kindOf returns the number of a marking, which is a new one perhaps.
func (d *marksDraft) kindOf(m marking) uint16 {
	for i := range d.kinds {
		if d.kinds[i] == m {
			return uint16(i)
		}
	}
	d.kinds = append(d.kinds, m)
	return uint16(len(d.kinds) - 1)
}

// set sets the marks of a message, which is a new one perhaps.
func (d *marksDraft) set(slot int, m marking, mod mail.ModSeq) {
	d.present[slot/pageSize] |= 1 << (slot % pageSize)
	d.kind[slot], d.mods[slot] = d.kindOf(m), uint64(mod)
	d.dirty = true
	if len(d.kinds) > 2*sheetSize {
		d.tidy()
	}
}

func (d *marksDraft) remove(slot int) {
	d.present[slot/pageSize] &^= 1 << (slot % pageSize)
	d.dirty = true
}

// fill sets what the marks know of the message at a place.
func (d *marksDraft) fill(m *Message, slot int) {
	k := &d.kinds[d.kind[slot]]
	m.Flags, m.Keywords, m.ModSeq = k.flags, k.keywords, mail.ModSeq(d.mods[slot])
}

func (d *marksDraft) isEmpty() bool { return d.present == sheetWords{} }

// among returns which messages of the sheet are in a set whose first range does not end
// before the sheet.
func (d *marksDraft) among(number uint64, set mail.UIDSet) (words sheetWords) {
	first := number * sheetPages
	for _, r := range set {
		if sheetOf(r.From) > number {
			break
		}
		last := min(pageOf(r.To), first+sheetPages-1)
		for n := max(pageOf(r.From), first); n <= last; n++ {
			words[n-first] |= within(n, r) & d.present[n-first]
		}
	}
	return words
}

// tidy drops markings that no message has and puts the others in order of their first.
func (d *marksDraft) tidy() {
	place := make([]int, len(d.kinds)) // and one more, 0: not yet met
	var used []marking
	for i, word := range d.present {
		for ; word != 0; word &= word - 1 {
			slot := i*pageSize + bits.TrailingZeros64(word)
			k := d.kind[slot]
			if place[k] == 0 {
				used = append(used, d.kinds[k])
				place[k] = len(used)
			}
			d.kind[slot] = uint16(place[k] - 1)
		}
	}
	d.kinds = used
}

// gathered returns kinds and modseqs by row, in the arrays given.
func (d *marksDraft) gathered(kind, mods []uint64) ([]uint64, []uint64) {
	n := 0
	for i, word := range d.present {
		for ; word != 0; word &= word - 1 {
			slot := i*pageSize + bits.TrailingZeros64(word)
			kind[n], mods[n] = uint64(d.kind[slot]), d.mods[slot]
			n++
		}
	}
	return kind[:n], mods[:n]
}

// marks returns what the draft says, packed.
func (d *marksDraft) marks() *marks {
	var r markRows
	r.present, r.kinds = d.present, slices.Clone(d.kinds)
	r.gather(d)
	return r.marks()
}

// markRows is what marks say, by row and not packed: on the way from a record and to one.
type markRows struct {
	present sheetWords
	kinds   []marking
	rows    int
	kind    [sheetSize]uint64
	mods    [sheetSize]uint64
}

// gather takes kinds and modseqs by row.
func (r *markRows) gather(d *marksDraft) {
	kind, _ := d.gathered(r.kind[:], r.mods[:])
	r.rows = len(kind)
}

// marks packs the rows.
func (r *markRows) marks() *marks {
	kind, mods := r.kind[:r.rows], r.mods[:r.rows]
	k := &marks{present: r.present, rows: r.rows, kinds: r.kinds}
	k.kind, k.mods = newColumn(kind), newColumn(mods)
	row := 0
	for i, word := range r.present {
		k.before[i] = uint16(row)
		end := row + bits.OnesCount64(word)
		for _, mod := range mods[row:end] {
			k.newest[i] = max(k.newest[i], mod)
		}
		row = end
		k.highest = max(k.highest, k.newest[i])
	}
	k.unseen = r.unseen()
	return k
}

// unseen counts.
func (r *markRows) unseen() int {
	n := 0
	for i := range r.kinds {
		if r.kinds[i].flags.Has(mail.Seen) {
			continue
		}
		for _, k := range r.kind[:r.rows] {
			if k == uint64(i) {
				n++
			}
		}
	}
	return n
}

// draft returns marks for changing.
func (k *marks) draft() *marksDraft {
	d := &marksDraft{present: k.present, kinds: slices.Clone(k.kinds)}
	row := 0
	for i, word := range d.present {
		for ; word != 0; word &= word - 1 {
			slot := i*pageSize + bits.TrailingZeros64(word)
			d.kind[slot], d.mods[slot] = uint16(k.kind.at(row)), k.mods.at(row)
			row++
		}
	}
	return d
}

// encode writes which messages there are: the pages that are full, those that have some,
// and the words of these; the different markings; runs of equal ones; the modseqs.
func (d *marksDraft) encode() []byte {
	d.tidy()
	var e enc = make([]byte, 0, 256)
	var full, some uint64
	for i, word := range d.present {
		switch word {
		case 0:
		case ^uint64(0):
			full |= 1 << i
		default:
			some |= 1 << i
		}
	}
	e.U(full)
	e.U(some)
	for i, word := range d.present {
		if some>>i&1 != 0 {
			e.U(word)
		}
	}
	e.U(uint64(len(d.kinds)))
	for i := range d.kinds {
		e.Raw(byte(d.kinds[i].flags))
		e.Str(string(d.kinds[i].keywords))
	}
	var room [2][sheetSize]uint64
	kind, mods := d.gathered(room[0][:], room[1][:])
	if len(d.kinds) > 1 {
		for len(kind) > 0 {
			n := sameAsFirst(kind)
			e.U(uint64(n))
			e.U(kind[0])
			kind = kind[n:]
		}
	}
	appendSteps(&e, mods)
	return seal(recMarks, e)
}

// sameAsFirst returns how many numbers at the beginning are the same.
func sameAsFirst(list []uint64) int {
	n := 1
	for n < len(list) && list[n] == list[0] {
		n++
	}
	return n
}

// appendSteps writes numbers as the differences to the one before. Runs of the same
// difference are written once, 2·length before it; others one by one, 2·length+1 before
// them.
func appendSteps(e *enc, list []uint64) {
	var room [sheetSize]uint64
	steps := room[:len(list)]
	var last uint64
	for i, v := range list {
		steps[i], last = v-last, v
	}
	const worth = 3 // as long must a run be
	for len(steps) > 0 {
		if n := sameAsFirst(steps); n >= worth || n == len(steps) {
			e.U(uint64(n) << 1)
			e.I(int64(steps[0]))
			steps = steps[n:]
			continue
		}
		n := 0
		for n < len(steps) {
			same := sameAsFirst(steps[n:])
			if same >= worth {
				break
			}
			n += same
		}
		e.U(uint64(n)<<1 | 1)
		for _, v := range steps[:n] {
			e.I(int64(v))
		}
		steps = steps[n:]
	}
}

func readSteps(d *dec, list []uint64) {
	var last uint64
	for len(list) > 0 {
		head := d.U()
		n := head >> 1
		if n == 0 || n > uint64(len(list)) {
			d.Take(1 << 63) // what is not there
			return
		}
		if head&1 == 0 {
			step := uint64(d.I())
			for i := range list[:n] {
				last += step
				list[i] = last
			}
		} else {
			for i := range list[:n] {
				last += uint64(d.I())
				list[i] = last
			}
		}
		list = list[n:]
	}
}

// decode reads a record into a draft, whatever that held.
func (d *marksDraft) decode(b []byte) error {
	var r markRows
	if err := r.decode(b); err != nil {
		return err
	}
	d.present, d.kinds = r.present, r.kinds
	row := 0
	for i, word := range d.present {
		for ; word != 0; word &= word - 1 {
			slot := i*pageSize + bits.TrailingZeros64(word)
			d.kind[slot], d.mods[slot] = uint16(r.kind[row]), r.mods[row]
			row++
		}
	}
	return nil
}

// decode reads a record, whatever there was before.
func (r *markRows) decode(b []byte) error {
	payload, err := unseal(recMarks, b)
	if err != nil {
		return err
	}
	in := dec{Rest: payload}
	full, some := in.U(), in.U()
	r.rows = 0
	for i := range r.present {
		switch {
		case full>>i&1 != 0:
			r.present[i] = ^uint64(0)
		case some>>i&1 != 0:
			r.present[i] = in.U()
		default:
			r.present[i] = 0
		}
		r.rows += bits.OnesCount64(r.present[i])
	}
	r.kinds = make([]marking, min(in.Count(), sheetSize))
	for i := range r.kinds {
		r.kinds[i] = marking{mail.Flags(in.Byte()), KeywordSet(in.Bytes())}
	}
	if len(r.kinds) > 1 {
		readKinds(&in, r.kind[:r.rows], uint64(len(r.kinds)))
	} else {
		clear(r.kind[:r.rows])
	}
	readSteps(&in, r.mods[:r.rows])
	if err := in.End("marks"); err != nil {
		return err
	}
	if r.rows == 0 || len(r.kinds) == 0 {
		return fault.New(fault.Corrupt, "a stored marks record is of no message")
	}
	return nil
}

// readKinds reads runs of equal markings.
func readKinds(d *dec, kind []uint64, kinds uint64) {
	for len(kind) > 0 {
		n, k := d.U(), d.U()
		if n == 0 || n > uint64(len(kind)) || k >= kinds {
			d.Take(1 << 63) // what is not there
			return
		}
		for i := range kind[:n] {
			kind[i] = k
		}
		kind = kind[n:]
	}
}
