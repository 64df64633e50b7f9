package store

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
)

// strike removes a row and its marks, and counts; nobody is told.
func (tx *Tx) strike(b *txBox, m Message) error {
	p, err := tx.page(b, pageOf(m.UID), true)
	if err != nil {
		return err
	}
	marks, err := tx.sheetMarks(b, sheetOf(m.UID), true)
	if err != nil {
		return err
	}
	p.remove(m.UID)
	marks.remove(slotOf(m.UID))
	b.count(m, -1)
	return nil
}

// takeOut removes a row from a mailbox; the message's records are not touched.
func (tx *Tx) takeOut(b *txBox, m Message) error {
	if err := tx.strike(b, m); err != nil {
		return err
	}
	b.log.Expunged.Add(m.UID)
	tx.touch(b)
	if b.ID == tx.acct.kept {
		return tx.w.Delete(keptKey(m.UID))
	}
	tx.acct.usage.Bytes -= m.Size
	tx.acct.usage.Messages--
	return nil
}

// each calls fn for the messages of a mailbox that are in the set, in order of UID. fn
// may take out its message.
func (tx *Tx) each(b *txBox, set mail.UIDSet, fn func(Message) error) error {
	return tx.eachSheet(b, set, func(number uint64, d *marksDraft, want *sheetWords) error {
		for i, word := range want {
			if word == 0 {
				continue
			}
			p, err := tx.page(b, number*sheetPages+uint64(i), false)
			if err != nil {
				return err
			}
			if p == nil || word&^p.present != 0 {
				return errOtherPage
			}
			for ; word != 0; word &= word - 1 {
				slot := bits.TrailingZeros64(word)
				m := Message{UID: mail.UID(number*sheetSize) + mail.UID(i*pageSize+slot)}
				p.fill(&m, slot)
				d.fill(&m, i*pageSize+slot)
				if err := fn(m); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// eachSheet calls fn for each sheet that has messages of the set, with the words of which
// these are.
func (tx *Tx) eachSheet(b *txBox, set mail.UIDSet, fn func(number uint64, d *marksDraft, want *sheetWords) error) error {
	if err := tx.readMarks(b, set); err != nil {
		return err
	}
	var number uint64
	for len(set) > 0 {
		number = max(number, sheetOf(set[0].From))
		if number*sheetSize >= uint64(b.UIDNext) {
			return nil
		}
		d, err := tx.sheetMarks(b, number, false)
		if err != nil {
			return err
		}
		if d != nil {
			want := d.among(number, set)
			if want != (sheetWords{}) {
				if err := fn(number, d, &want); err != nil {
					return err
				}
			}
		}
		for len(set) > 0 && sheetOf(set[0].To) <= number {
			set = set[1:]
		}
		number++
	}
	return nil
}

// Expunge removes the messages of the set from a mailbox, or only those with \Deleted,
// and returns which went. Where they are kept (Options.Keep) they can be given back until
// they are purged. Faults: NotFound, Denied.
func (tx *Tx) Expunge(box mail.MailboxID, set mail.UIDSet, onlyDeleted bool) (mail.UIDSet, error) {
	return tx.expunge(box, set, onlyDeleted, true)
}

// expunge is Expunge; with keep false nothing is kept.
func (tx *Tx) expunge(box mail.MailboxID, set mail.UIDSet, onlyDeleted, keep bool) (mail.UIDSet, error) {
	b, err := tx.open(box)
	if err != nil {
		return nil, err
	}
	if err := tx.need(b, mail.RightExpunge); err != nil {
		return nil, err
	}
	rows, err := tx.rows(b, set)
	if onlyDeleted {
		rows = slices.DeleteFunc(rows, func(m Message) bool { return !m.Flags.Has(mail.Deleted) })
	}
	if err == nil {
		err = tx.readPlaces(rows)
	}
	var gone mail.UIDSet
	keep = keep && tx.keeps(b)
	for i := 0; err == nil && i < len(rows); i++ {
		m := rows[i]
		gone.Add(m.UID)
		if err = tx.takeOut(b, m); err != nil {
			break
		}
		if keep {
			var kept bool
			if kept, err = tx.keep(b, m, true); kept || err != nil {
				continue
			}
		}
		err = tx.drop(b, m)
	}
	return gone, err
}

// drop forgets a message of which there is no row in a mailbox any more.
func (tx *Tx) drop(b *txBox, m Message) error {
	return cmp.Or(tx.dropNotes(b, m.UID), tx.release(m, place{b.ID, m.UID}))
}

// release drops one place of a message, and with the last one its records.
func (tx *Tx) release(m Message, from place) error {
	id := m.ID
	list, moved, err := tx.movedPlaces(id)
	if err != nil {
		return err
	}
	if moved {
		if i := slices.Index(list, from); i >= 0 {
			list = slices.Delete(list, i, i+1)
		}
		if len(list) > 0 {
			return tx.putPlaces(id, list)
		}
		if err := tx.deletePlaces(id); err != nil {
			return err
		}
	}
	if m.Size <= mayBeSmall {
		if err := tx.w.Delete(engine.Key(famBody, uint64(id))); err != nil {
			return err
		}
	}
	if err := tx.dropGrams(id); err != nil {
		return err
	}
	mayBeLong := m.Size > 4<<10 // a short message has no long records
	if err := tx.deleteLong(famFacts, uint64(id), mayBeLong); err != nil {
		return err
	}
	if err := tx.deleteLong(famKeys, uint64(id), mayBeLong); err != nil {
		return err
	}
	return tx.deleteLong(famHeader, uint64(id), mayBeLong)
}
