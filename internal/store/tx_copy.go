package store

import (
	"cmp"
	"slices"

	"github.com/martlet-mail/martlet/internal/mail"
)

// Moved tells where a message of a Copy or Move went.
type Moved struct{ From, To mail.UID }

// Copy puts the messages of the set into another mailbox, with flags and dates, as
// one change (RFC 9051, 6.4.7). They share all records with the originals. Flags that
// the user has no right to set there are left out (RFC 4314, 4). Faults: NotFound,
// Denied, OverQuota; then nothing was copied.
func (tx *Tx) Copy(from mail.MailboxID, set mail.UIDSet, to mail.MailboxID) ([]Moved, error) {
	return tx.transfer(from, set, to, false)
}

// Move is Copy and Expunge as one change, so that no session ever sees a message
// twice or not at all (RFC 6851, 3.3). Quota cannot stop it, but for mail that was deleted
// and is kept, which did not count.
func (tx *Tx) Move(from mail.MailboxID, set mail.UIDSet, to mail.MailboxID) ([]Moved, error) {
	return tx.transfer(from, set, to, true)
}

func (tx *Tx) transfer(from mail.MailboxID, set mail.UIDSet, to mail.MailboxID, move bool) ([]Moved, error) {
	src, err := tx.open(from)
	if err != nil {
		return nil, err
	}
	dst, err := tx.open(to)
	if err != nil {
		return nil, err
	}
	needed := mail.RightRead
	if move { // RFC 6851, 4.2
		needed |= moveRights
	}
	if err := cmp.Or(tx.need(src, needed), tx.need(dst, mail.RightInsert), tx.Accepts(to)); err != nil {
		return nil, err
	}
	if src == dst { // only what is there now, not the copies
		set = slices.Clone(set)
	}
	rows, err := tx.rows(src, set)
	if err != nil {
		return nil, err
	}
	if err := tx.readPlaces(rows); err != nil {
		return nil, err
	}
	moved := make([]Moved, 0, len(rows))
	for _, m := range rows {
		uid, err := tx.transferOne(src, dst, m, move)
		if err != nil {
			return nil, err
		}
		moved = append(moved, Moved{m.UID, uid})
	}
	if move && src.guests > 0 {
		return moved, tx.carrySeen(src, dst, moved)
	}
	return moved, nil
}

// moveRights are what MOVE needs where the messages are: those of setting \Deleted and
// expunging (RFC 6851, 4.2).
const moveRights = mail.RightDeleted | mail.RightExpunge

// copyFlags returns a message as it arrives in dst: the flags that the user may set
// there. What the owner has seen stays so, whoever copies. seen tells whether a guest
// who copies has seen it and may say so.
func (tx *Tx) copyFlags(src, dst *txBox, m Message) (copied Message, seen bool, err error) {
	copied = m
	flags, keywords := tx.account.Rights(&dst.Mailbox).FlagRights()
	if tx.account.guest() != 0 {
		if flags.Has(mail.Seen) {
			if seen, err = tx.hasSeen(src, m.UID); err != nil {
				return copied, false, err
			}
		}
		flags |= mail.Seen
	}
	copied.Flags &= flags
	if copied.Keywords = ""; keywords {
		copied.Keywords, err = tx.keywordSet(dst, src.keywordNames(m.Keywords))
	}
	return copied, seen, err
}

// rows returns the messages of the set in order of UID.
func (tx *Tx) rows(b *txBox, set mail.UIDSet) ([]Message, error) {
	var rows []Message
	err := tx.each(b, set, func(m Message) error {
		rows = append(rows, m)
		return nil
	})
	return rows, err
}

func (tx *Tx) transferOne(src, dst *txBox, m Message, move bool) (mail.UID, error) {
	list, err := tx.placesFrom(src.ID, m)
	if err != nil {
		return 0, err
	}
	copied, seen, err := tx.copyFlags(src, dst, m)
	if err != nil {
		return 0, err
	}
	if !move || src.ID == tx.acct.kept { // what is kept counts from now on
		if err := tx.room(m.Size); err != nil {
			return 0, err
		}
	}
	if move {
		if err := tx.takeOut(src, m); err != nil {
			return 0, err
		}
		if i := slices.Index(list, place{src.ID, m.UID}); i >= 0 {
			list = slices.Delete(list, i, i+1)
		}
	}
	uid, err := tx.place(dst, copied)
	if err != nil {
		return 0, err
	}
	if err := tx.arriveSeen(dst, uid, seen); err != nil {
		return 0, err
	}
	if err := tx.copyNotes(src, m.UID, dst, uid); err != nil {
		return 0, err
	}
	if move {
		if err := tx.dropNotes(src, m.UID); err != nil {
			return 0, err
		}
	}
	return uid, tx.putPlaces(m.ID, append(list, place{dst.ID, uid}))
}
