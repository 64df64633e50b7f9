package store

import (
	"errors"
	"slices"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
)

// origins says of deleted messages that are kept, and of which it is not known any more
// where they lay, that it was the inbox.
func (tx *Tx) origins(p *Picture, note func(uid mail.UID, format string, args ...any)) error {
	inbox, err := tx.Mailbox("INBOX")
	if err != nil {
		return err
	}
	for _, m := range p.Messages(All()) {
		v, _, err := tx.r.Get(keptKey(m.UID))
		if err != nil {
			return err
		}
		if _, err := decodeOrigin(v); err == nil {
			continue
		}
		note(m.UID, "it is not known any more where the deleted message lay; it is taken for the inbox")
		var e enc
		e.U(uint64(inbox.ID))
		e.U(uint64(m.UID))
		if err := tx.w.Put(keptKey(m.UID), seal(recOrigin, e)); err != nil {
			return err
		}
	}
	return nil
}

// placed returns where the pages of all mailboxes say that messages lie.
func (s *Snapshot) placed() (map[mail.MessageID][]place, error) {
	found := map[mail.MessageID][]place{}
	boxes, err := s.Mailboxes()
	for _, b := range boxes {
		b.Messages = max(b.Messages, 1) // the count may be what is wrong
		p, err := s.load(b)
		if err != nil {
			return nil, err
		}
		for _, m := range p.Messages(All()) {
			found[m.ID] = append(found[m.ID], place{b.ID, m.UID})
		}
	}
	return found, err
}

// recount counts anew, and reports messages that were counted and of which nothing is left.
func (r *mender) recount(tx *Tx) error {
	if err := errors.Join(tx.recount(r.note), tx.rebuildSide(r.gone)); err != nil {
		return err
	}
	if more := r.counted - tx.acct.usage.Messages - r.lost; more > 0 {
		r.found = append(r.found, Mended{Problem: Problem{Account: r.a.id, What: count(int(more), "message") + " more that the account counted are gone, and no record says which"}, Lost: true, Count: int(more)})
	}
	return nil
}

// recount brings counts and references into accord with the pages.
func (tx *Tx) recount(note func(uid mail.UID, format string, args ...any)) error {
	boxes, err := tx.Snapshot.Mailboxes()
	if err != nil {
		return err
	}
	var usage Usage
	for _, m := range boxes {
		b, err := tx.open(m.ID)
		if err != nil {
			return err
		}
		count, err := tx.recountBox(b, note)
		if err != nil {
			return err
		}
		if b.ID != tx.acct.kept {
			usage.Bytes += count.Bytes
			usage.Messages += int64(count.Messages)
		}
	}
	if usage != tx.acct.usage || int(tx.acct.mailboxes) != len(boxes) {
		note(0, "the account's counts were wrong")
	}
	tx.acct.usage, tx.acct.mailboxes, tx.acctDirty = usage, uint32(len(boxes)), true
	return tx.replace()
}

func (tx *Tx) recountBox(b *txBox, note func(uid mail.UID, format string, args ...any)) (count Mailbox, err error) {
	asked := b.Mailbox
	asked.Messages = max(asked.Messages, 1)
	p, err := tx.Snapshot.load(asked)
	if err != nil {
		return count, err
	}
	for _, m := range p.Messages(All()) {
		count.count(m, +1)
		b.UIDNext = max(b.UIDNext, m.UID+1)
	}
	b.Messages, b.Unseen, b.Deleted, b.Bytes = count.Messages, count.Unseen, count.Deleted, count.Bytes
	if b.ID == tx.acct.kept {
		if err := tx.origins(p, note); err != nil {
			return count, err
		}
	}
	tx.touch(b)
	b.LogFloor, b.was = tx.mod, nil
	err = tx.w.DeleteRange(engine.Key(famLog, uint64(b.ID)), engine.Key(famLog, uint64(b.ID)+1))
	if err == nil {
		var e enc
		e.U(uint64(b.ID))
		err = tx.w.Put(engine.KeyString(famName, b.Name), seal(recName, e))
	}
	return count, err
}

// replace writes anew where each message lies.
func (tx *Tx) replace() error {
	found, err := tx.placed()
	if err != nil {
		return err
	}
	for id, list := range found {
		have, err := tx.Snapshot.places(id)
		have = slices.DeleteFunc(have, func(p place) bool { return !slices.Contains(list, p) })
		if err == nil && len(have) == len(list) {
			continue
		}
		if err := tx.putPlaces(id, list); err != nil {
			return err
		}
	}
	return nil
}
