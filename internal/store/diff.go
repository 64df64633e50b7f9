package store

import (
	"math/bits"

	"github.com/martlet-mail/martlet/internal/mail"
)

// Difference is what happened between two pictures of a mailbox.
type Difference struct {
	Expunged mail.UIDSet // in the old one and not in the new
	Arrived  mail.UIDSet // in the new one and not in the old
	Changed  mail.UIDSet // in both, with another modseq
	Keywords bool        // the mailbox has more keywords than before
}

// IsEmpty tells whether nothing happened.
func (d *Difference) IsEmpty() bool {
	return d.Expunged.IsEmpty() && d.Arrived.IsEmpty() && d.Changed.IsEmpty()
}

// Diff compares two pictures of one mailbox. Sheets they share cost one comparison.
func Diff(old, now *Picture) Difference {
	d := Difference{Keywords: len(now.box.Keywords) > len(old.box.Keywords)}
	if old == now {
		return d
	}
	var none sheet
	none.marks = &marks{}
	i, j := 0, 0
	for i < len(old.sheets) || j < len(now.sheets) {
		switch {
		case j == len(now.sheets) || i < len(old.sheets) && old.numbers[i] < now.numbers[j]:
			d.sheet(old.numbers[i], old.sheets[i], &none)
			i++
		case i == len(old.sheets) || now.numbers[j] < old.numbers[i]:
			d.sheet(now.numbers[j], &none, now.sheets[j])
			j++
		default:
			if old.sheets[i] != now.sheets[j] {
				d.sheet(old.numbers[i], old.sheets[i], now.sheets[j])
			}
			i++
			j++
		}
	}
	return d
}

func (d *Difference) sheet(number uint64, old, now *sheet) {
	for i := range old.present {
		was, is, page := old.present[i], now.present[i], number*sheetPages+uint64(i)
		if was == 0 && is == 0 {
			continue
		}
		addWord(&d.Expunged, page, was&^is)
		addWord(&d.Arrived, page, is&^was)
		// A page whose messages all stayed and of which no modseq is higher has not changed.
		if both := was & is; both != 0 && !(was == is && old.newest[i] == now.newest[i]) {
			addWord(&d.Changed, page, both&differing(old.marks, now.marks, i))
		}
	}
}

// newer returns which messages of a page of the sheet have a modseq above the given one.
func (k *marks) newer(page int, mod uint64) (word uint64) {
	row := int(k.before[page])
	for w := k.present[page]; w != 0; w &= w - 1 {
		if k.mods.at(row) > mod {
			word |= w & -w
		}
		row++
	}
	return word
}

// differing returns which messages of a page, of those that both have, have another
// modseq.
func differing(old, now *marks, page int) (word uint64) {
	if old.present[page] == now.present[page] && now.mods.width == 0 && now.mods.least > old.newest[page] {
		return now.present[page]
	}
	was, is := int(old.before[page]), int(now.before[page])
	for w := old.present[page] | now.present[page]; w != 0; w &= w - 1 {
		bit := w & -w
		had, has := old.present[page]&bit != 0, now.present[page]&bit != 0
		if had && has && old.mods.at(was) != now.mods.at(is) {
			word |= bit
		}
		if had {
			was++
		}
		if has {
			is++
		}
	}
	return word
}

// Differing returns those messages of a set, all of which are there now, whose flags and
// keywords are not as they should be after what they were before. should is asked once
// for each pair of markings that a sheet has: of the messages it is given UID, flags and
// keywords count; the UID is 0 of one that there was not.
func Differing(old, now *Picture, set mail.UIDSet, should func(before, now Message) bool) mail.UIDSet {
	var out mail.UIDSet
	var verdicts verdicts
	last := -1
	now.words(set, func(i, on int, number, want uint64) bool {
		var was *sheet
		if j := old.find(now.numbers[i]); j < len(old.sheets) && old.numbers[j] == now.numbers[i] {
			was = old.sheets[j]
		}
		if i != last {
			verdicts, last = newVerdicts(was, now.sheets[i], should), i
		}
		addWord(&out, number, verdicts.differing(on, want))
		return true
	})
	return out
}

// verdicts remembers what was said of pairs of markings.
type verdicts struct {
	was, is *marks
	should  func(before, now Message) bool
	known   []int8 // by pair; 0 is not known yet
}

func newVerdicts(was, is *sheet, should func(before, now Message) bool) verdicts {
	v := verdicts{was: &marks{}, is: is.marks, should: should}
	if was != nil {
		v.was = was.marks
	}
	v.known = make([]int8, (len(v.was.kinds)+1)*len(v.is.kinds))
	return v
}

// differing returns which of the wanted messages of a page are not as they should be.
func (v *verdicts) differing(page int, want uint64) (word uint64) {
	for ; want != 0; want &= want - 1 {
		bit := want & -want
		kind := v.is.kind.at(int(v.is.before[page]) + bits.OnesCount64(v.is.present[page]&(bit-1)))
		before := 0 // its marking, counted from 1
		if v.was.present[page]&bit != 0 {
			before = int(v.was.kind.at(int(v.was.before[page])+bits.OnesCount64(v.was.present[page]&(bit-1)))) + 1
		}
		verdict := &v.known[before*len(v.is.kinds)+int(kind)]
		if *verdict == 0 {
			*verdict = v.judge(before, int(kind))
		}
		if *verdict < 0 {
			word |= bit
		}
	}
	return word
}

func (v *verdicts) judge(before, kind int) int8 {
	var was Message
	if before > 0 {
		m := v.was.kinds[before-1]
		was = Message{UID: 1, Flags: m.flags, Keywords: m.keywords}
	}
	is := Message{UID: 1, Flags: v.is.kinds[kind].flags, Keywords: v.is.kinds[kind].keywords}
	if v.should(was, is) {
		return 1
	}
	return -1
}
