package store

import (
	"iter"
	"math/bits"
	"slices"
	"sort"
	"strings"

	"github.com/martlet-mail/martlet/internal/mail"
)

// Picture is an open mailbox as of one modseq: immutable, in memory, shared by all
// sessions of the process. A session keeps the one it last told its client of; at
// its next sync it takes the present one (Account.Picture), asks Diff what to tell,
// and keeps only what it may not tell yet (expunges during FETCH, STORE, SEARCH).
//
// Memory: 12 to 20 bytes a message, shared sheet by sheet with earlier and later
// Pictures of the mailbox, and of the sheets that differ the pages.
type Picture struct {
	box     Mailbox
	numbers []uint64 // sheet numbers, rising
	sheets  []*sheet
	before  []uint32 // messages before each sheet; one more entry than sheets: the total
	line    uint64   // see Line
}

func newPicture(box Mailbox, numbers []uint64, sheets []*sheet) *Picture {
	p := &Picture{box: box, numbers: numbers, sheets: sheets, before: make([]uint32, len(sheets)+1)}
	for i, sh := range sheets {
		p.before[i+1] = p.before[i] + uint32(sh.rows)
	}
	return p
}

// Mailbox returns the mailbox record as of the picture.
func (p *Picture) Mailbox() Mailbox { return p.box }

// ModSeq returns the modseq of the last change that the picture shows.
func (p *Picture) ModSeq() mail.ModSeq { return p.box.HighestModSeq }

// Len returns the number of messages.
func (p *Picture) Len() int { return int(p.before[len(p.sheets)]) }

// find returns the index of the first sheet whose number is not below n.
func (p *Picture) find(n uint64) int {
	if n < uint64(len(p.numbers)) && p.numbers[n] == n { // nothing was ever expunged as a whole
		return int(n)
	}
	return sort.Search(len(p.numbers), func(i int) bool { return p.numbers[i] >= n })
}

// sheet returns a sheet, nil if there are no messages on it; known is false of no picture.
func (p *Picture) sheet(number uint64) (sh *sheet, known bool) {
	if p == nil {
		return nil, false
	}
	if i := p.find(number); i < len(p.sheets) && p.numbers[i] == number {
		sh = p.sheets[i]
	}
	return sh, true
}

// page returns a page as sheet does.
func (p *Picture) page(number uint64) (pg *page, known bool) {
	sh, known := p.sheet(number / sheetPages)
	if sh != nil {
		pg = sh.pages[number%sheetPages]
	}
	return pg, known
}

// at returns the sheet and row of a UID.
func (p *Picture) at(uid mail.UID) (i, row int, ok bool) {
	i = p.find(sheetOf(uid))
	if i == len(p.sheets) || p.numbers[i] != sheetOf(uid) {
		return i, 0, false
	}
	row, ok = p.sheets[i].row(uid)
	return i, row, ok
}

// Seq returns the message sequence number of a UID, counting from 1; if there is no
// such message, that of the next one.
func (p *Picture) Seq(uid mail.UID) (seq int, ok bool) {
	i, row, ok := p.at(uid)
	return int(p.before[i]) + row + 1, ok
}

// UID returns the UID of a sequence number from 1 to Len, or 0.
func (p *Picture) UID(seq int) mail.UID {
	if seq < 1 || seq > p.Len() {
		return 0
	}
	i := sort.Search(len(p.sheets), func(i int) bool { return int(p.before[i+1]) >= seq })
	return p.sheets[i].uidOf(p.numbers[i], seq-1-int(p.before[i]))
}

// Message returns the row of a UID.
func (p *Picture) Message(uid mail.UID) (Message, bool) {
	i, row, ok := p.at(uid)
	if !ok {
		return Message{}, false
	}
	m := Message{UID: uid}
	sh, on := p.sheets[i], slotOf(uid)/pageSize
	sh.message(&m, on, row-int(sh.before[on]))
	return m, true
}

// Messages yields the messages of the set with their sequence numbers, in order.
func (p *Picture) Messages(set mail.UIDSet) iter.Seq2[int, Message] {
	return func(yield func(int, Message) bool) {
		var rows pageRows
		p.words(set, func(i, on int, number, want uint64) bool {
			sh, m := p.sheets[i], Message{}
			seq := int(p.before[i]) + int(sh.before[on]) + 1
			many := bits.OnesCount64(want) > pageSize/4
			if many {
				sh.read(&rows, on)
			}
			for ; want != 0; want &= want - 1 {
				row := bits.OnesCount64(sh.present[on] & (want&-want - 1))
				if m.UID = lowestUID(number, want); many {
					rows.message(&m, sh.kinds, row)
				} else {
					sh.message(&m, on, row)
				}
				if !yield(seq+row, m) {
					return false
				}
			}
			return true
		})
	}
}

// Marks is Messages for who wants to know no more than UID, flags, keywords and modseq: the
// rest is not set. It looks at no page.
func (p *Picture) Marks(set mail.UIDSet) iter.Seq2[int, Message] {
	return func(yield func(int, Message) bool) {
		var kind, mods [pageSize]uint64
		p.words(set, func(i, on int, number, want uint64) bool {
			sh, m := p.sheets[i], Message{}
			first, present := int(sh.before[on]), sh.present[on]
			n := bits.OnesCount64(present)
			sh.kind.read(kind[:n], first)
			sh.mods.read(mods[:n], first)
			seq := int(p.before[i]) + first + 1
			for ; want != 0; want &= want - 1 {
				row := bits.OnesCount64(present & (want&-want - 1))
				k := &sh.kinds[kind[row]]
				m.UID, m.Flags, m.Keywords, m.ModSeq = lowestUID(number, want), k.flags, k.keywords, mail.ModSeq(mods[row])
				if !yield(seq+row, m) {
					return false
				}
			}
			return true
		})
	}
}

// words calls fn for the pages that have messages of a set: the index of the sheet, of
// the page on it, the page's number and which of its messages, until fn returns false.
// A page in which several ranges have messages comes once for each.
func (p *Picture) words(set mail.UIDSet, fn func(i, on int, number, want uint64) bool) {
	p.wordsOn(func(*sheet) bool { return true }, set, fn)
}

// wordsOn is words of some sheets only.
func (p *Picture) wordsOn(some func(*sheet) bool, set mail.UIDSet, fn func(i, on int, number, want uint64) bool) {
	for _, r := range set {
		for i := p.find(sheetOf(r.From)); i < len(p.sheets) && p.numbers[i] <= sheetOf(r.To); i++ {
			if !some(p.sheets[i]) {
				continue
			}
			first := p.numbers[i] * sheetPages
			last := min(pageOf(r.To), first+sheetPages-1)
			for number := max(pageOf(r.From), first); number <= last; number++ {
				on := int(number - first)
				if want := p.sheets[i].present[on] & within(number, r); want != 0 && !fn(i, on, number, want) {
					return
				}
			}
		}
	}
}

// All returns the set of all UIDs there can be.
func All() mail.UIDSet { return mail.UIDSet{{From: 1, To: 1<<32 - 1}} }

// Existing returns those UIDs of a set that have a message. It costs what exists,
// not what the set spans.
func (p *Picture) Existing(set mail.UIDSet) mail.UIDSet {
	var out mail.UIDSet
	p.words(set, func(_, _ int, number, want uint64) bool {
		addWord(&out, number, want)
		return true
	})
	return out
}

// Before returns the picture without the messages from a UID on, with the mailbox
// record as it is.
func (p *Picture) Before(uid mail.UID) *Picture {
	n := p.find(sheetOf(uid))
	if n == len(p.sheets) {
		return p
	}
	numbers, sheets := slices.Clone(p.numbers[:n]), slices.Clone(p.sheets[:n])
	if p.numbers[n] == sheetOf(uid) {
		row, _ := p.sheets[n].row(uid)
		if row == p.sheets[n].rows && n+1 == len(p.sheets) {
			return p
		}
		if cut := p.sheets[n].beforeUID(uid); cut != nil {
			numbers, sheets = append(numbers, p.numbers[n]), append(sheets, cut)
		}
	}
	return newPicture(p.box, numbers, sheets).inLine(p.line)
}

// BySeq returns the UIDs of sequence numbers from to to.
func (p *Picture) BySeq(from, to int) mail.UIDSet {
	from, to = max(from, 1), min(to, p.Len())
	if from > to {
		return nil
	}
	return p.Existing(mail.UIDSet{{From: p.UID(from), To: p.UID(to)}})
}

// Keywords returns the names of a message's keywords.
func (p *Picture) Keywords(m Message) []string { return p.box.keywordNames(m.Keywords) }

// AppendFlags appends flags and keywords as IMAP writes them, separated by spaces.
func (p *Picture) AppendFlags(b []byte, m Message) []byte {
	b = m.Flags.Append(b)
	if m.Keywords == "" {
		return b
	}
	for i, k := range p.box.Keywords {
		if !m.Keywords.Has(i) {
			continue
		}
		if len(b) > 0 && b[len(b)-1] != '(' {
			b = append(b, ' ')
		}
		b = append(b, k...)
	}
	return b
}

// HasKeyword returns a test for a keyword, in any case.
func (p *Picture) HasKeyword(name string) func(Message) bool {
	i := slices.IndexFunc(p.box.Keywords, func(k string) bool { return strings.EqualFold(k, name) })
	return func(m Message) bool { return i >= 0 && m.Keywords.Has(i) }
}

// FirstUnseen returns the sequence number of the first message without \Seen, or 0.
func (p *Picture) FirstUnseen() int {
	if p.box.Unseen == 0 {
		return 0
	}
	for i, sh := range p.sheets {
		for row := 0; sh.unseen > 0 && row < sh.rows; row++ {
			if !sh.marking(row).flags.Has(mail.Seen) {
				return int(p.before[i]) + row + 1
			}
		}
	}
	return 0
}

// ChangedSince returns the UIDs of those messages of a set whose modseq is above the
// given one. It costs what changed, and a look at each sheet.
func (p *Picture) ChangedSince(set mail.UIDSet, mod mail.ModSeq) mail.UIDSet {
	var out mail.UIDSet
	newer := func(sh *sheet) bool { return sh.highest > uint64(mod) }
	p.wordsOn(newer, set, func(i, on int, number, want uint64) bool {
		if sh := p.sheets[i]; sh.newest[on] > uint64(mod) {
			addWord(&out, number, want&sh.newer(on, uint64(mod)))
		}
		return true
	})
	return out
}
