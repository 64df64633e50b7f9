package store

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// sheet is the rows of up to sheetSize messages with consecutive UIDs. It is never
// changed. Sheets of several pictures share marks and pages.
type sheet struct {
	*marks
	pages [sheetPages]*page // nil where there is no message
}

// message sets what there is of the message in a row of the i-th page.
func (sh *sheet) message(m *Message, i, row int) {
	sh.pages[i].fill(m, row)
	row += int(sh.before[i])
	k := sh.marking(row)
	m.Flags, m.Keywords, m.ModSeq = k.flags, k.keywords, mail.ModSeq(sh.mods.at(row))
}

// pageRows is all there is of a page of a sheet, row by row.
type pageRows struct {
	columns    [pageColumns][pageSize]uint64
	kind, mods [pageSize]uint64
}

// read reads the i-th page.
func (sh *sheet) read(rows *pageRows, i int) {
	p := sh.pages[i]
	n := p.len()
	for c := range rows.columns {
		p.read(rows.columns[c][:n], c)
	}
	sh.kind.read(rows.kind[:n], int(sh.before[i]))
	sh.mods.read(rows.mods[:n], int(sh.before[i]))
}

// message is sheet.message of rows that were read.
func (r *pageRows) message(m *Message, kinds []marking, row int) {
	id := r.columns[colID][row]
	k := &kinds[r.kind[row]]
	m.ID, m.Thread = mail.MessageID(id), mail.ThreadID(id-r.columns[colThread][row])
	m.Flags, m.Keywords, m.ModSeq = k.flags, k.keywords, mail.ModSeq(r.mods[row])
	m.Size = int64(r.columns[colSize][row])
	m.Internal, m.Saved = internalDate(r.columns[colInternal][row]), int64(r.columns[colSaved][row]^dateBias)
}

// uidOf returns the UID of a row of the sheet with the given number.
func (sh *sheet) uidOf(number uint64, row int) mail.UID {
	i := sheetPages - 1
	for i > 0 && int(sh.before[i]) > row {
		i--
	}
	word := sh.present[i]
	for row -= int(sh.before[i]); row > 0; row-- {
		word &= word - 1
	}
	return lowestUID(number*sheetPages+uint64(i), word)
}

// beforeUID returns the sheet without the rows from a UID on, nil if none is left.
func (sh *sheet) beforeUID(uid mail.UID) *sheet {
	d := sh.marks.draft()
	cut := &sheet{pages: sh.pages}
	for i := range d.present {
		switch last := slotOf(uid) / pageSize; {
		case i == last && sh.pages[i] != nil:
			d.present[i] &= 1<<(uid%pageSize) - 1
			if cut.pages[i] = sh.pages[i].before(uid); d.present[i] == 0 {
				cut.pages[i] = nil
			}
		case i > last:
			d.present[i], cut.pages[i] = 0, nil
		}
	}
	if d.isEmpty() {
		return nil
	}
	cut.marks = d.marks()
	return cut
}

func (sh *sheet) bytes() int {
	n := 120 + sh.marks.bytes()
	for _, p := range sh.pages {
		if p != nil {
			n += 140 + len(p.bytes)
		}
	}
	return n
}

// page reads a page, nil if it has no messages.
func (s *Snapshot) page(box mail.MailboxID, number uint64) (*page, error) {
	v, ok, err := s.r.Get(pageKey(box, number))
	if err != nil || !ok {
		return nil, err
	}
	return decodePage(v)
}

// marks reads what changes of a sheet into d, which is emptied before, and tells whether
// there are any messages.
func (s *Snapshot) marks(box mail.MailboxID, number uint64, d *marksDraft) (bool, error) {
	v, ok, err := s.r.Get(marksKey(box, number))
	if err != nil {
		return false, err
	}
	if ok {
		d.dirty = false
		return true, d.decode(v)
	}
	return s.wholeMarks(box, number, d)
}

// wholeMarks is marks of a sheet that has only pages of the old form.
func (s *Snapshot) wholeMarks(box mail.MailboxID, number uint64, d *marksDraft) (bool, error) {
	d.present, d.kinds = sheetWords{}, nil
	var bad error
	err := s.r.Scan(pageKey(box, number*sheetPages), pageKey(box, (number+1)*sheetPages), false, func(k, v []byte) bool {
		var p *wholePage
		if p, bad = decodeWholePage(v); bad == nil {
			p.mark(d, keyNum(k, 1))
		}
		return bad == nil
	})
	d.dirty = false
	return !d.isEmpty(), cmp.Or(err, bad)
}

// sheet reads the pages of a sheet with the given marks, nil if it has no messages. Pages
// of the earlier one that are the same still are shared; stale has a bit for each that is
// not.
func (s *Snapshot) sheet(box mail.MailboxID, number uint64, marks *marks, was *sheet, stale uint64) (*sheet, error) {
	if marks == nil {
		return nil, nil
	}
	sh := &sheet{marks: marks}
	if was != nil {
		sh.pages = was.pages
	} else {
		stale = 1<<sheetPages - 1
	}
	switch bits.OnesCount64(stale) {
	case 0:
		return sh.checked(nil)
	case 1:
		i := bits.TrailingZeros64(stale)
		p, err := s.page(box, number*sheetPages+uint64(i))
		sh.pages[i] = p
		return sh.checked(err)
	}
	sh.pages = [sheetPages]*page{}
	var bad error
	err := s.r.Scan(pageKey(box, number*sheetPages), pageKey(box, (number+1)*sheetPages), false, func(k, v []byte) bool {
		sh.pages[keyNum(k, 1)%sheetPages], bad = decodePage(v)
		return bad == nil
	})
	return sh.checked(cmp.Or(err, bad))
}

// marksOf reads the marks of sheets, in rising order; nil are those without messages.
func (s *Snapshot) marksOf(box mail.MailboxID, numbers []uint64) ([]*marks, error) {
	var d marksDraft
	list := make([]*marks, len(numbers))
	if n := len(numbers); n > 0 && atOnce(numbers[0], numbers[n-1], n) {
		err := s.eachMarks(box, numbers[0], numbers[n-1], func(number uint64, m *marks) {
			if i, ok := slices.BinarySearch(numbers, number); ok {
				list[i] = m
			}
		})
		if err != nil {
			return nil, err
		}
	}
	for i, number := range numbers {
		if list[i] != nil {
			continue
		}
		if there, err := s.marks(box, number, &d); err != nil {
			return nil, err
		} else if there {
			list[i] = d.marks()
		}
	}
	return list, nil
}

// checked returns the sheet if its parts fit together: no reader looks twice.
func (sh *sheet) checked(err error) (*sheet, error) {
	if err != nil {
		return nil, err
	}
	for i, p := range sh.pages {
		switch {
		case p == nil && sh.present[i] != 0, p != nil && p.present != sh.present[i]:
			return nil, errOtherPage
		}
	}
	return sh, nil
}

var errOtherPage = fault.New(fault.Corrupt, "a stored page is not of the messages that its marks are of")

// eachMarks reads the marks that are on record of sheets from one to another.
func (s *Snapshot) eachMarks(box mail.MailboxID, from, to uint64, fn func(number uint64, m *marks)) error {
	var bad error
	var r markRows
	err := s.r.Scan(marksKey(box, from), marksKey(box, to+1), false, func(k, v []byte) bool {
		if bad = r.decode(v); bad == nil {
			fn(keyNum(k, 1), r.marks())
		}
		return bad == nil
	})
	return cmp.Or(err, bad)
}

// atOnce tells whether sheets lie close enough together for one scan to read them faster
// than a look for each.
func atOnce(first, last uint64, sheets int) bool { return sheets > 3 && last-first < 4*uint64(sheets) }

// sheets reads all sheets of a mailbox with their numbers.
func (s *Snapshot) sheets(box mail.MailboxID) (numbers []uint64, sheets []*sheet, err error) {
	marked := map[uint64]*marks{}
	var bad error
	var d marksDraft
	err = s.eachMarks(box, 0, 1<<32/sheetSize, func(number uint64, m *marks) { marked[number] = m })
	if err != nil {
		return nil, nil, err
	}
	err = s.r.Scan(pageKey(box, 0), pageKey(box+1, 0), false, func(k, v []byte) bool {
		number := keyNum(k, 1) / sheetPages
		if n := len(numbers); n == 0 || numbers[n-1] != number {
			numbers = append(numbers, number)
			sheets = append(sheets, &sheet{marks: marked[number]})
			delete(marked, number)
		}
		sheets[len(sheets)-1].pages[keyNum(k, 1)%sheetPages], bad = decodePage(v)
		return bad == nil
	})
	err = cmp.Or(err, bad)
	if err == nil && len(marked) > 0 {
		err = fault.New(fault.Corrupt, "there are marks of messages that are on no page")
	}
	for i := 0; err == nil && i < len(sheets); i++ {
		if sheets[i].marks == nil {
			if _, err = s.wholeMarks(box, numbers[i], &d); err != nil {
				break
			}
			sheets[i].marks = d.marks()
		}
		_, err = sheets[i].checked(nil)
	}
	return numbers, sheets, err
}

func marksKey(box mail.MailboxID, number uint64) []byte {
	return engine.Key(famMarks, uint64(box), number)
}
