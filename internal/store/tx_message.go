package store

import (
	"cmp"
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
