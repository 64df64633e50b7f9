package store

import (
	"cmp"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// lostMailbox is what is known of a deleted mailbox, of which messages are kept.
type lostMailbox struct {
	name       string
	role       mail.Role
	subscribed bool
	at         int64 // second of the deletion
}

func lostKey(id mail.MailboxID) []byte { return engine.Key(famLost, uint64(id)) }

func (l *lostMailbox) encode() []byte {
	var e enc
	e.Str(l.name)
	e.Str(string(l.role))
	e.Bool(l.subscribed)
	e.I(l.at)
	return seal(recLost, e)
}

func decodeLost(v []byte) (l lostMailbox, err error) {
	p, err := unseal(recLost, v)
	if err != nil {
		return l, err
	}
	d := dec{Rest: p}
	l = lostMailbox{d.Str(), mail.Role(d.Str()), d.Bool(), d.I()}
	return l, d.End("deleted mailbox")
}

// noteLost notes what a mailbox was that is deleted.
func (tx *Tx) noteLost(b *txBox) error {
	_, subscribed, err := tx.w.Get(engine.KeyString(famSub, b.Name))
	if err != nil {
		return err
	}
	lost := lostMailbox{b.Name, b.Role, subscribed, tx.now.Unix()}
	return tx.w.Put(lostKey(b.ID), lost.encode())
}

// putKeptDoomed notes that Reap shall keep the messages of a deleted mailbox, and what they
// need of it: the names of their keywords.
func (tx *Tx) putKeptDoomed(b *txBox) error {
	b.Grants, b.guests = nil, 0
	var e enc
	e.Bytes(b.encode())
	return tx.w.Put(doomedKey(b.ID), seal(recKeptDoomed, e))
}

func decodeKeptDoomed(v []byte) (Mailbox, error) {
	p, err := unseal(recKeptDoomed, v)
	if err != nil {
		return Mailbox{}, err
	}
	d := dec{Rest: p}
	m, err := decodeMailbox(d.Bytes())
	return m, cmp.Or(err, d.End("deleted mailbox"))
}

// reapKept moves the messages of one sheet of a deleted mailbox to where deleted mail is
// kept. If nothing is kept any more it makes the mailbox an ordinary deleted one.
func (tx *Tx) reapKept(record []byte) error {
	m, err := decodeKeptDoomed(record)
	if err != nil {
		return err
	}
	b := newTxBox(m) // not one of the Tx's: it is in no list any more
	if !tx.keeps(b) {
		return cmp.Or(tx.dropAllNotes(b), tx.w.Put(doomedKey(b.ID), seal(recDoomed, nil)))
	}
	number, found := uint64(0), false
	err = tx.w.Scan(pageKey(b.ID, 0), pageKey(b.ID+1, 0), false, func(k, _ []byte) bool {
		number, found = keyNum(k, 1)/sheetPages, true
		return false
	})
	if err != nil {
		return err
	}
	if !found {
		return cmp.Or(tx.dropAllNotes(b), tx.w.Delete(doomedKey(b.ID)))
	}
	if err := tx.reapSheet(b, number); err != nil {
		return err
	}
	return tx.putKeptDoomed(b)
}

// reapSheet moves the messages of a sheet, or as many as have annotations enough for one Update.
func (tx *Tx) reapSheet(b *txBox, number uint64) error {
	first := mail.UID(number * sheetSize)
	rows, err := tx.rows(b, mail.UIDSet{{From: max(first, 1), To: first + sheetSize - 1}})
	rows = rows[:min(len(rows), b.atOnce(sheetSize))]
	if err == nil {
		err = tx.readPlaces(rows)
	}
	for i := 0; err == nil && i < len(rows); i++ {
		err = tx.reapOne(b, rows[i])
	}
	for page := number * sheetPages; err == nil && page < (number+1)*sheetPages; page++ {
		if err = tx.dropBrief(b.ID, page); err == nil && len(rows) == 0 { // one that has no marks
			err = tx.w.Delete(pageKey(b.ID, page))
		}
	}
	return cmp.Or(err, tx.flushSheets(b))
}

// atOnce returns how many messages of a mailbox one Update may take out, at most n: few where
// they have many annotations.
func (m *Mailbox) atOnce(n int) int {
	if m.noteBytes > notesAtOnce/2 {
		return notedAtOnce
	}
	return n
}

func (tx *Tx) reapOne(b *txBox, m Message) error {
	if err := tx.strike(b, m); err != nil {
		return err
	}
	if kept, err := tx.keep(b, m, false); kept || err != nil {
		return err
	}
	if err := tx.drop(b, m); err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	return nil
}
