package store

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
)

// rebuildPages makes pages and marks anew that are lost: which messages there are on a page
// these say themselves, which flags nobody does.
func (r *mender) rebuildPages(w engine.Writer, s *survey) error {
	snap := &Snapshot{account: r.a, r: w, acct: s.acct}
	rows, err := snap.lostRows(s)
	if err != nil {
		return err
	}
	tx := &Tx{Snapshot: *snap, w: w, now: r.a.store.opt.Now(), mod: s.acct.modSeq, boxes: map[mail.MailboxID]*txBox{}}
	for _, id := range slices.Sorted(maps.Keys(s.mail)) {
		m, ok := s.boxes[id]
		if !ok {
			m = Mailbox{ID: id} // deleted, and what was in it is not released yet, or is to be kept
		}
		if err := r.rebuildSheets(tx, s.mail[id], m, rows[id]); err != nil {
			return err
		}
	}
	return nil
}

// lostRows finds, by mailbox and UID, messages that say they lie where a page is lost.
func (s *Snapshot) lostRows(v *survey) (map[mail.MailboxID]map[mail.UID]mail.MessageID, error) {
	placed := map[mail.MessageID]bool{}
	var ids []mail.MessageID
	err := s.r.Scan([]byte{famPage}, []byte{famPage + 1}, false, func(_, val []byte) bool {
		if p, err := decodePage(val); err == nil {
			for _, id := range p.messageIDs() {
				placed[id] = true
			}
		}
		return true
	})
	if err == nil {
		err = s.r.Scan([]byte{famFacts}, []byte{famFacts + 1}, false, func(k, _ []byte) bool {
			ids = append(ids, mail.MessageID(keyNum(k, 0)))
			return true
		})
	}
	rows := map[mail.MailboxID]map[mail.UID]mail.MessageID{}
	for _, id := range ids {
		list, moved, bad := s.movedPlaces(id)
		if bad != nil || !moved {
			if placed[id] {
				continue
			}
			f, bad := s.Facts(id)
			if bad != nil {
				continue
			}
			list = []place{f.home}
		}
		for _, p := range list {
			if _, live := v.boxes[p.box]; !live && !v.doomed[p.box] || !v.of(p.box).misses(p.uid) {
				continue
			}
			if rows[p.box] == nil {
				rows[p.box] = map[mail.UID]mail.MessageID{}
			}
			rows[p.box][p.uid] = id
		}
	}
	return rows, err
}

// misses tells whether a message may be there that no page tells of.
func (b *boxSurvey) misses(uid mail.UID) bool {
	if _, ok := b.pages[pageOf(uid)]; ok {
		return false
	}
	words, ok := b.marks[sheetOf(uid)]
	slot := slotOf(uid)
	return !ok || words[slot/pageSize]>>(slot%pageSize)&1 != 0
}

// rebuildSheets mends the sheets of one mailbox that are not whole.
func (r *mender) rebuildSheets(tx *Tx, seen *boxSurvey, m Mailbox, rows map[mail.UID]mail.MessageID) error {
	r.box = m
	sheets := map[uint64]bool{}
	for n := range seen.pages {
		sheets[n/sheetPages] = true
	}
	for n := range seen.noPage {
		sheets[n/sheetPages] = true
	}
	for n := range seen.marks {
		sheets[n] = true
	}
	for n := range seen.noMarks {
		sheets[n] = true
	}
	for uid := range rows {
		sheets[sheetOf(uid)] = true
	}
	for _, n := range slices.Sorted(maps.Keys(sheets)) {
		if err := r.rebuildSheet(tx, seen, m, n, rows); err != nil {
			return err
		}
	}
	return nil
}

func (r *mender) rebuildSheet(tx *Tx, seen *boxSurvey, m Mailbox, n uint64, rows map[mail.UID]mail.MessageID) error {
	words, marked := seen.marks[n]
	var want sheetWords
	fresh := [sheetPages]*pageDraft{}
	old := true // all pages are of the form that has marks in it
	for i := range want {
		number := n*sheetPages + uint64(i)
		want[i] = seen.pages[number]
		old = old && (want[i] == 0 || seen.whole[number] != nil)
		if _, ok := seen.pages[number]; ok {
			continue
		}
		for uid := mail.UID(number * pageSize); pageOf(uid) == number; uid++ {
			id, ok := rows[uid]
			if !ok {
				continue
			}
			row, err := tx.rowOfFacts(id, uid)
			if err != nil {
				continue
			}
			if fresh[i] == nil {
				fresh[i] = &pageDraft{}
			}
			fresh[i].insert(&row)
			old = false
			want[i] = fresh[i].present
		}
		if fresh[i] == nil && seen.noPage[number] {
			if err := tx.w.Delete(pageKey(m.ID, number)); err != nil {
				return err
			}
		}
		if fresh[i] != nil {
			r.note(0, "page %d of it was lost, and is made anew of what its messages say", number)
			if err := tx.w.Put(pageKey(m.ID, number), fresh[i].encode()); err != nil {
				return err
			}
		}
	}
	if marked && words == want || !marked && !seen.noMarks[n] && old {
		return nil
	}
	return r.rebuildMarks(tx, seen, m, n, want)
}

// rebuildMarks makes the marks of a sheet fit its pages.
func (r *mender) rebuildMarks(tx *Tx, seen *boxSurvey, m Mailbox, n uint64, want sheetWords) error {
	var d marksDraft
	if _, ok := seen.marks[n]; ok {
		if v, _, err := tx.w.Get(marksKey(m.ID, n)); err != nil || d.decode(v) != nil {
			return err
		}
	} else {
		for i := range want {
			if p := seen.whole[n*sheetPages+uint64(i)]; p != nil {
				p.mark(&d, n*sheetPages+uint64(i))
			}
		}
	}
	var lost []mail.UID
	bare := 0
	for slot := range sheetSize {
		uid := mail.UID(n*sheetSize + uint64(slot))
		switch there := want[slot/pageSize]>>(slot%pageSize)&1 != 0; {
		case there && !d.has(slot):
			d.set(slot, marking{}, tx.mod)
			bare++
		case !there && d.has(slot):
			d.remove(slot)
			lost = append(lost, uid)
		}
	}
	if m.Name == "" && len(lost) > 0 {
		r.gone("", "%s of a deleted mailbox are lost", count(len(lost), "message"))
		lost = nil
	}
	for _, uid := range lost {
		r.found = append(r.found, Mended{Problem: Problem{Account: r.a.id, Mailbox: m.Name, UID: uid, What: "no record says any more which message this was"}, Lost: true})
	}
	if bare > 0 {
		r.gone(m.Name, "flags of %s are lost", count(bare, "message"))
	}
	if d.isEmpty() {
		return tx.w.Delete(marksKey(m.ID, n))
	}
	return tx.w.Put(marksKey(m.ID, n), d.encode())
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// rowOfFacts returns the row of a message as its own records say. When it came nobody knows
// any more: its own date stands for it.
func (tx *Tx) rowOfFacts(id mail.MessageID, uid mail.UID) (Message, error) {
	f, err := tx.Facts(id)
	if err != nil {
		return Message{}, err
	}
	row := Message{UID: uid, ID: id, Size: f.Size, Internal: tx.now.Unix(), Saved: tx.now.Unix(), Thread: mail.ThreadID(id)}
	k, err := tx.Keys(id)
	if err != nil {
		return row, nil
	}
	if k.Dated {
		row.Internal = min(k.Date, row.Internal)
	}
	if k.Named {
		if t, err := tx.threadOf(k.ID); err == nil && t != 0 {
			row.Thread = t
		}
	}
	return row, nil
}

// rebuildSide brings what lies beside the messages into accord: annotations and what guests
// have seen, and their counts.
func (tx *Tx) rebuildSide(gone func(box, format string, args ...any)) error {
	boxes, err := tx.Snapshot.mailboxes()
	if err != nil {
		return err
	}
	side := &side{tx: tx, gone: gone, live: map[mail.MailboxID]*txBox{}, there: map[place]bool{}}
	for _, m := range boxes {
		if side.live[m.ID], err = tx.open(m.ID); err != nil {
			return err
		}
	}
	return cmp.Or(side.notes(), side.seen(), side.entries())
}

type side struct {
	tx    *Tx
	gone  func(box, format string, args ...any)
	live  map[mail.MailboxID]*txBox
	there map[place]bool // asked before
	bytes int64          // of all annotations
}

func (s *side) drop(keys [][]byte) error {
	for _, k := range keys {
		if err := s.tx.w.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// has tells whether a message is there, by its page.
func (s *side) has(at place) bool {
	there, known := s.there[at]
	if !known {
		p, err := s.tx.Snapshot.page(at.box, pageOf(at.uid))
		there = err == nil && p != nil && p.present>>(at.uid%pageSize)&1 != 0
		s.there[at] = there
	}
	return there
}
