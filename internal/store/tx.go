package store

import (
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Tx is one change of an account under way: a Snapshot that also writes and sees
// what it wrote. It is valid inside the Update that made it and for one goroutine.
type Tx struct {
	Snapshot
	w         engine.Writer
	now       time.Time
	mod       mail.ModSeq // of this commit
	stamp     uint32      // likewise
	acctDirty bool
	boxes     map[mail.MailboxID]*txBox
	account0  Changes                  // lines for mailbox 0, mailbox ids in place of UIDs
	threads   map[uint64]mail.ThreadID // what the thread index says, once that was asked; 0 is nothing

	lay map[mail.MessageID][]place // what is on record of where messages lie; nil: nothing

	taken map[uint32]int // how many mailboxes took a UIDVALIDITY over, once that was asked

	gramsKept *bool // whether the account has grams, once that was asked
	keepsMore bool  // deleted mail that is kept has come
}

// txBox is a mailbox that the Tx touched.
type txBox struct {
	Mailbox
	pages map[uint64]*pageDraft // those that differ from what is stored are written at the end
	marks map[uint64]*marksDraft
	was   *Picture // what is on record, if that is in memory
	asked bool     // somebody has asked for the picture since the last change
	log   Changes
	seen  guestSeen // of the Tx's user, if that is a guest
	dirty bool
	gone  bool
}

func newTxBox(m Mailbox) *txBox {
	return &txBox{Mailbox: m, pages: map[uint64]*pageDraft{}, marks: map[uint64]*marksDraft{}}
}

func newTx(a *Account, w engine.Writer, create bool) (*Tx, error) {
	s, err := newSnapshot(a, w)
	if create && fault.Is(err, fault.NotFound) {
		s, err = &Snapshot{account: a, r: w}, nil
	}
	if err != nil {
		return nil, err
	}
	return &Tx{Snapshot: *s, w: w, now: a.store.opt.Now(), mod: s.acct.modSeq + 1, stamp: a.store.newStamp(), boxes: map[mail.MailboxID]*txBox{}}, nil
}

// ModSeq returns the modseq that this Update's changes get.
func (tx *Tx) ModSeq() mail.ModSeq { return tx.mod }

// open returns the mailbox for changing.
func (tx *Tx) open(id mail.MailboxID) (*txBox, error) {
	b := tx.boxes[id]
	if b == nil {
		m, err := tx.Snapshot.mailbox(id)
		if err != nil {
			return nil, err
		}
		b = newTxBox(m)
		b.was, b.asked = tx.account.pictureAt(&m)
		tx.boxes[id] = b
	}
	if b.gone {
		return nil, fault.New(fault.NotFound, "the mailbox has been deleted")
	}
	return b, nil
}

// page returns a page for changing, nil if it has no messages and make is false.
func (tx *Tx) page(b *txBox, number uint64, make bool) (*pageDraft, error) {
	if d := b.pages[number]; d != nil {
		return d, nil
	}
	p, known := b.was.page(number)
	if !known {
		var err error
		if p, err = tx.Snapshot.page(b.ID, number); err != nil {
			return nil, err
		}
	}
	switch {
	case p != nil:
		b.pages[number] = p.draft()
	case make:
		b.pages[number] = &pageDraft{}
	}
	return b.pages[number], nil
}

// sheetMarks returns the marks of a sheet for changing, nil if it has no messages and
// make is false.
func (tx *Tx) sheetMarks(b *txBox, number uint64, make bool) (*marksDraft, error) {
	if d := b.marks[number]; d != nil {
		return d, nil
	}
	sh, known := b.was.sheet(number)
	if sh != nil {
		b.marks[number] = sh.marks.draft()
		return b.marks[number], nil
	}
	d, there := &marksDraft{}, false
	if !known {
		var err error
		if there, err = tx.Snapshot.marks(b.ID, number, d); err != nil {
			return nil, err
		}
	}
	if there || make {
		b.marks[number] = d
	}
	return b.marks[number], nil
}

// readMarks reads the marks of the sheets of a set that sheetMarks will be asked for, if
// they are many and lie close together.
func (tx *Tx) readMarks(b *txBox, set mail.UIDSet) error {
	if b.was != nil {
		return nil
	}
	var first, last uint64
	sheets := 0
	for _, r := range set {
		if r.From >= b.UIDNext {
			break
		}
		from, to := sheetOf(r.From), sheetOf(min(r.To, b.UIDNext))
		if sheets == 0 {
			first = from
		} else if from = max(from, last+1); to < from {
			continue
		}
		sheets += int(to-from) + 1
		last = to
	}
	if !atOnce(first, last, sheets) {
		return nil
	}
	return tx.eachMarks(b.ID, first, last, func(number uint64, m *marks) {
		if b.marks[number] == nil { // else it is newer
			b.marks[number] = m.draft()
		}
	})
}

// message returns a message of a mailbox as this Tx has made it.
func (tx *Tx) message(b *txBox, uid mail.UID) (m Message, ok bool, err error) {
	marks, err := tx.sheetMarks(b, sheetOf(uid), false)
	if err != nil || marks == nil || !marks.has(slotOf(uid)) {
		return m, false, err
	}
	p, err := tx.page(b, pageOf(uid), false)
	if err != nil {
		return m, false, err
	}
	if p == nil || p.present>>(uid%pageSize)&1 == 0 {
		return m, false, errOtherPage
	}
	m.UID = uid
	p.fill(&m, int(uid%pageSize))
	marks.fill(&m, slotOf(uid))
	return m, true, nil
}

// mark changes what may change of a message that is there.
func (tx *Tx) mark(b *txBox, m Message) error {
	d, err := tx.sheetMarks(b, sheetOf(m.UID), true)
	if err == nil {
		d.set(slotOf(m.UID), marking{m.Flags, m.Keywords}, m.ModSeq)
	}
	return err
}

// touch marks the mailbox as changed by this commit.
func (tx *Tx) touch(b *txBox) {
	b.dirty, b.HighestModSeq, b.stamp = true, tx.mod, tx.stamp
	tx.acctDirty = true
}

// Mailbox returns the mailbox of a name. Faults: NotFound, Invalid.
func (tx *Tx) Mailbox(name string) (Mailbox, error) {
	id, err := tx.find(name)
	if err != nil {
		return Mailbox{}, err
	}
	return tx.MailboxByID(id)
}

// MailboxByID returns a mailbox as this Tx has made it; what a guest has seen is
// counted as it was before. Faults: NotFound.
func (tx *Tx) MailboxByID(id mail.MailboxID) (Mailbox, error) {
	b, err := tx.open(id)
	if err != nil {
		return Mailbox{}, err
	}
	m := b.Mailbox
	return m, tx.personal(&m)
}

// Mailboxes returns all mailboxes as this Tx has made them.
func (tx *Tx) Mailboxes() ([]Mailbox, error) {
	list, err := tx.mailboxes()
	for i := 0; err == nil && i < len(list); i++ {
		err = tx.personal(&list[i])
	}
	return list, err
}

// mailboxes is Mailboxes as they will be on record.
func (tx *Tx) mailboxes() ([]Mailbox, error) {
	list, err := tx.Snapshot.mailboxes()
	for i, m := range list {
		if b := tx.boxes[m.ID]; b != nil {
			list[i] = b.Mailbox
		}
	}
	sortMailboxes(list)
	return list, err
}

// Message returns one row of a mailbox as this Tx has made it. Faults: NotFound.
func (tx *Tx) Message(box mail.MailboxID, uid mail.UID) (Message, error) {
	b, err := tx.open(box)
	if err != nil {
		return Message{}, err
	}
	m, ok, err := tx.message(b, uid)
	if err == nil && !ok {
		err = noMessage()
	}
	return m, err
}

// SetQuota sets the account's allowance. What is over it stays; nothing comes in
// until there is room again.
func (tx *Tx) SetQuota(q Quota) {
	tx.acct.quota = q
	tx.acctDirty = true
}

// Once tells whether the key is used for the first time, and remembers it for 30
// days: how a retried delivery knows that it has happened already.
func (tx *Tx) Once(key string) (bool, error) {
	if len(key) == 0 || len(key) > 500 {
		return false, fault.New(fault.Internal, "bad idempotency key")
	}
	k := engine.KeyString(famOnce, key)
	if _, used, err := tx.w.Get(k); err != nil || used {
		return false, err
	}
	var e enc
	e.I(tx.now.Unix())
	tx.acctDirty = true
	return true, tx.w.Put(k, seal(recOnce, e))
}

// flush writes what the Tx has gathered: pages, mailbox records, log lines, and the
// account record last.
func (tx *Tx) flush() error {
	for _, id := range slices.Sorted(maps.Keys(tx.boxes)) {
		if err := tx.flushBox(tx.boxes[id]); err != nil {
			return err
		}
	}
	if !tx.account0.isEmpty() {
		if err := tx.putLog(0, &tx.account0); err != nil {
			return err
		}
	}
	if !tx.acctDirty {
		return nil
	}
	tx.acct.modSeq = tx.mod
	return tx.w.Put([]byte{famAccount}, tx.acct.encode())
}

func (tx *Tx) flushBox(b *txBox) error {
	if b.gone || !b.dirty {
		return nil
	}
	if err := tx.flushSheets(b); err != nil {
		return err
	}
	if err := tx.dropBriefs(b); err != nil {
		return err
	}
	if err := tx.flushSeen(b); err != nil {
		return err
	}
	// Else it has not changed for those who look at it, or there is nothing to say.
	if b.HighestModSeq == tx.mod && (tx.stamp != 0 || !b.log.isEmpty()) {
		if err := tx.putLog(b.ID, &b.log); err != nil {
			return err
		}
	}
	return tx.w.Put(engine.Key(famMailbox, uint64(b.ID)), b.encode())
}

// flushSheets writes the pages and marks that changed.
func (tx *Tx) flushSheets(b *txBox) error {
	put := func(key, record []byte) error {
		if record == nil {
			return tx.w.Delete(key)
		}
		return tx.w.Put(key, record)
	}
	for _, number := range slices.Sorted(maps.Keys(b.pages)) {
		if d := b.pages[number]; d.dirty {
			if d.dirty, d.written, d.record = false, true, nil; d.present != 0 {
				d.record = d.encode()
			}
			if err := put(pageKey(b.ID, number), d.record); err != nil {
				return err
			}
		}
	}
	for _, number := range slices.Sorted(maps.Keys(b.marks)) {
		if d := b.marks[number]; d.dirty {
			var record []byte
			if d.dirty, d.written = false, true; !d.isEmpty() {
				record = d.encode()
			}
			if err := put(marksKey(b.ID, number), record); err != nil {
				return err
			}
		}
	}
	return nil
}

func (tx *Tx) putLog(box mail.MailboxID, c *Changes) error {
	tx.acctDirty = true
	return tx.w.Put(engine.Key(famLog, uint64(box), uint64(tx.mod)), c.encode(tx.stamp))
}

// putLong writes a record of any length.
func (tx *Tx) putLong(family byte, id uint64, record []byte) error {
	if len(record) <= longPiece {
		return tx.w.Put(engine.Key(family, id), record)
	}
	var n uint64
	for piece := range slices.Chunk(record, longPiece) {
		if err := tx.w.Put(pieceKey(family, id, n), piece); err != nil {
			return err
		}
		n++
	}
	return tx.w.Put(engine.Key(family, id), binary.AppendUvarint([]byte{recLong}, n))
}

// deleteLong removes what putLong wrote. mayBeLong false saves the look.
func (tx *Tx) deleteLong(family byte, id uint64, mayBeLong bool) error {
	if mayBeLong {
		v, ok, err := tx.w.Get(engine.Key(family, id))
		if err != nil {
			return err
		}
		if ok && len(v) > 0 && v[0] == recLong {
			if err := tx.w.DeleteRange(pieceKey(family, id, 0), pieceKey(family, id+1, 0)); err != nil {
				return err
			}
		}
	}
	return tx.w.Delete(engine.Key(family, id))
}
