package store

import "github.com/martlet-mail/martlet/internal/mail"

// Marked returns those messages of a set whose flags and keywords fit. A sheet has few
// different ones: fits is asked about each of these once, not about each message.
func (p *Picture) Marked(set mail.UIDSet, fits func(mail.Flags, KeywordSet) bool) mail.UIDSet {
	var out mail.UIDSet
	var good []bool // of the kinds of the sheet at hand
	var kinds [pageSize]uint64
	sheet, some, all := -1, false, false
	p.words(set, func(i, on int, number, want uint64) bool {
		sh := p.sheets[i]
		if i != sheet {
			sheet, some, all, good = i, false, true, good[:0]
			for _, k := range sh.kinds {
				is := fits(k.flags, k.keywords)
				good, some, all = append(good, is), some || is, all && is
			}
		}
		if some && !all {
			sh.kind.read(kinds[:sh.pages[on].len()], int(sh.before[on]))
			row := 0
			for m := sh.present[on]; m != 0; m &= m - 1 {
				if !good[kinds[row]] {
					want &^= m & -m
				}
				row++
			}
		}
		if some {
			addWord(&out, number, want)
		}
		return true
	})
	return out
}
