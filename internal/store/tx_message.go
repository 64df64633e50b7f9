package store

import (
	"cmp"
	"math/bits"
	"slices"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// NewMessage is what Append is given.
type NewMessage struct {
	Parcel       *Parcel
	Flags        mail.Flags
	Keywords     []string
	InternalDate time.Time // zero: now; what is not in the years 1 to 9999 of UTC becomes what is next to it
	Notes        []NoteChange
}

// Append puts a message into a mailbox and returns its UID. Flags that the user has no
// right to set are left out (RFC 4314, 4). Faults: NotFound, Denied, OverQuota, Invalid
// keyword.
func (tx *Tx) Append(box mail.MailboxID, m NewMessage) (mail.UID, error) {
	row := Message{Flags: m.Flags, Size: m.Parcel.Size(), Internal: mail.BoundSeconds(m.InternalDate.Unix())}
	if m.InternalDate.IsZero() {
		row.Internal = mail.BoundSeconds(tx.now.Unix())
	}
	uid, err := tx.insert(box, row, m.Keywords, m.Parcel.records())
	if err != nil || len(m.Notes) == 0 {
		return uid, err
	}
	return uid, tx.arriveNotes(box, uid, m.Notes)
}

// content is what is kept of a message new to an account, beside its row.
type content struct {
	references []uint64 // hashes, oldest first
	named      bool     // it has a Message-ID
	name       uint64   // hash of that
	facts      []byte   // the part of the record that does not depend on the place
	keys       []byte   // the record
	header     []byte   // the record
	body       []byte   // the record of a small body, nil if it is a blob or there is none
}

// insert puts a message that is new to the account into a mailbox.
func (tx *Tx) insert(box mail.MailboxID, row Message, keywords []string, c *content) (mail.UID, error) {
	b, err := tx.open(box)
	if err != nil {
		return 0, err
	}
	if err := cmp.Or(tx.need(b, mail.RightInsert), tx.Accepts(box)); err != nil {
		return 0, err
	}
	flags, mayKeywords := tx.account.Rights(&b.Mailbox).FlagRights()
	row.Flags &= flags
	if mayKeywords {
		if row.Keywords, err = tx.keywordSet(b, mail.Compatible(keywords)); err != nil {
			return 0, err
		}
	}
	seen := row.Flags.Has(mail.Seen)
	if tx.account.guest() != 0 {
		row.Flags &^= mail.Seen
	}
	row.ID = mail.MessageID(tx.acct.nextMessage)
	tx.acct.nextMessage++
	if row.Thread, err = tx.thread(row.ID, c); err != nil {
		return 0, err
	}
	if err := tx.room(row.Size); err != nil {
		return 0, err
	}
	uid, err := tx.place(b, row)
	if err != nil {
		return 0, err
	}
	if err := tx.arriveSeen(b, uid, seen && tx.account.guest() != 0); err != nil {
		return 0, err
	}
	if err := tx.putLong(famFacts, uint64(row.ID), factsRecord(place{box, uid}, c.facts)); err != nil {
		return 0, err
	}
	if err := tx.putLong(famKeys, uint64(row.ID), c.keys); err != nil {
		return 0, err
	}
	if c.body != nil {
		if err := tx.w.Put(engine.Key(famBody, uint64(row.ID)), c.body); err != nil {
			return 0, err
		}
	}
	return uid, tx.putLong(famHeader, uint64(row.ID), c.header)
}

// Expect reads ahead what Appends of these messages will look up: before anything is
// written and in order, that costs half.
func (tx *Tx) Expect(messages []NewMessage) error {
	var hashes []uint64
	for _, m := range messages {
		hashes = append(hashes, m.Parcel.records().conversation()...)
	}
	slices.Sort(hashes)
	for _, h := range hashes {
		if _, err := tx.threadOf(h); err != nil {
			return err
		}
	}
	return nil
}

// conversation returns the hashes of the message ids by which a message belongs to a
// conversation, its own last.
func (c *content) conversation() []uint64 {
	const most = 32
	hashes := c.references[max(0, len(c.references)-most):]
	if c.named {
		hashes = append(slices.Clone(hashes), c.name)
	}
	return hashes
}

// threadOf returns the conversation of a message id, 0 if there is none.
func (tx *Tx) threadOf(h uint64) (mail.ThreadID, error) {
	if t, known := tx.threads[h]; known {
		return t, nil
	}
	v, ok, err := tx.w.Get(engine.Key(famThread, h))
	if err != nil {
		return 0, err
	}
	var t mail.ThreadID
	if ok {
		payload, err := unseal(recThread, v)
		if err != nil {
			return 0, err
		}
		d := dec{Rest: payload}
		t = mail.ThreadID(d.U())
	}
	tx.knowThread(h, t)
	return t, nil
}

func (tx *Tx) knowThread(h uint64, t mail.ThreadID) {
	if tx.threads == nil {
		tx.threads = map[uint64]mail.ThreadID{}
	}
	tx.threads[h] = t
}

// thread finds the conversation a message belongs to by its Message-ID and
// References, and enters all of them into the index, so that it does not matter
// which member of a conversation comes first.
func (tx *Tx) thread(id mail.MessageID, c *content) (mail.ThreadID, error) {
	thread := mail.ThreadID(id)
	var missing []uint64
	for _, h := range slices.Backward(c.conversation()) {
		found, err := tx.threadOf(h)
		if err != nil {
			return 0, err
		}
		if found != 0 {
			thread = found
			break
		}
		missing = append(missing, h)
	}
	var e enc
	e.U(uint64(thread))
	record := seal(recThread, e)
	for _, h := range missing {
		if err := tx.w.Put(engine.Key(famThread, h), record); err != nil {
			return 0, err
		}
		tx.knowThread(h, thread)
	}
	return thread, nil
}

// room tells whether the quota allows one more message of a size.
func (tx *Tx) room(size int64) error {
	q, u := tx.acct.quota, tx.acct.usage
	if q.Bytes > 0 && u.Bytes+size > q.Bytes || q.Messages > 0 && u.Messages+1 > q.Messages {
		return fault.New(fault.OverQuota, "the account is full")
	}
	return nil
}

// place gives a message a UID in a mailbox: the one way in, for Append, Copy, Move.
func (tx *Tx) place(b *txBox, m Message) (mail.UID, error) {
	if b.UIDNext == 1<<32-1 {
		return 0, fault.New(fault.OverQuota, "the mailbox has given out all UIDs")
	}
	m.UID, m.ModSeq, m.Saved = b.UIDNext, tx.mod, tx.now.Unix()
	p, err := tx.page(b, pageOf(m.UID), true)
	if err == nil {
		err = tx.mark(b, m)
	}
	if err != nil {
		return 0, err
	}
	p.insert(&m)
	b.UIDNext++
	b.count(m, +1)
	if b.ID != tx.acct.kept {
		tx.acct.usage.Bytes += m.Size
		tx.acct.usage.Messages++
	}
	b.log.Arrived.Add(m.UID)
	tx.touch(b)
	return m.UID, nil
}

// count keeps the running counts of a mailbox for a message that comes or goes.
func (m *Mailbox) count(msg Message, by int) {
	m.Messages += uint32(by)
	m.Bytes += int64(by) * msg.Size
	if !msg.Flags.Has(mail.Seen) {
		m.Unseen += uint32(by)
	}
	if msg.Flags.Has(mail.Deleted) {
		m.Deleted += uint32(by)
	}
}

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
