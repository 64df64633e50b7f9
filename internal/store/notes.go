package store

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Limits on the annotations of messages (RFC 5257, 4.1).
const (
	MaxNotes     = 50        // of one message for one reader
	MaxNoteName  = 512       // bytes of a name
	MaxNoteValue = 20480     // bytes of a value
	maxNoteBytes = 200 << 10 // names and values of one message for one reader
)

// An annotation of a message (RFC 5257) belongs to the message where it lies, not to its
// copies elsewhere, and is shared or of one reader. All annotations of an account count
// together with those of its mailboxes (MaxMetadata). A removed one stays on record
// without a value until its message has too many of them, so that it can be told that it
// went. A mailbox knows how many records there are in it: of one without any nothing is
// ever read.

// noteRight is the right to write annotations that all readers see.
const noteRight = mail.RightWrite

// Note is an annotation of a message.
type Note struct {
	UID     mail.UID
	Name    string
	Private bool   // for one reader only
	Value   []byte // nil: it was removed
	ModSeq  mail.ModSeq
}

// NoteChange is what an annotation is to be; Value nil removes it.
type NoteChange struct {
	Name    string
	Private bool
	Value   []byte
}

func (n *Note) size() int64 {
	if n.Value == nil {
		return 0
	}
	return int64(len(n.Name) + len(n.Value))
}

// HasNotes tells whether any message of the mailbox has an annotation.
func (m *Mailbox) HasNotes() bool { return m.notes > 0 }

// cleanNote checks the name of an annotation of a message: levels after slashes, of
// printable ASCII. Whether anybody knows the name is not asked. Faults: Invalid.
func cleanNote(name string) error {
	if len(name) > MaxNoteName {
		return fault.Newf(fault.Invalid, "the name of an annotation may have %d bytes", MaxNoteName)
	}
	for i := range len(name) {
		if c := name[i]; c <= 0x1f || c >= 0x7f || c == '*' || c == '%' {
			return fault.New(fault.Invalid, "the name of an annotation is printable ASCII without * and %")
		}
	}
	if !strings.HasPrefix(name, "/") || slices.Contains(strings.Split(name[1:], "/"), "") {
		return fault.New(fault.Invalid, "an annotation is named /level/level...")
	}
	return nil
}

// reader is whose private annotations the user of the handle has.
func (a *Account) reader() mail.AccountID { return cmp.Or(a.as, a.id) }

// noteKey returns the key of an annotation: mailbox, UID, reader or 0, name.
func noteKey(box mail.MailboxID, uid mail.UID, reader mail.AccountID, name string) []byte {
	return append(engine.Key(famNote, uint64(box), uint64(uid), uint64(reader)), name...)
}

const noteName = 1 + 3*8 // where the name begins in a key

func (n *Note) encode() []byte {
	var b enc
	b.U(uint64(n.ModSeq))
	b.Bool(n.Value != nil)
	b.Bytes(n.Value)
	return seal(recNote, b)
}

func decodeNote(key, v []byte) (n Note, reader mail.AccountID, err error) {
	p, err := unseal(recNote, v)
	if err != nil {
		return Note{}, 0, err
	}
	if len(key) < noteName {
		return Note{}, 0, fault.New(fault.Corrupt, "a stored annotation has no name")
	}
	d := dec{Rest: p}
	reader = mail.AccountID(keyNum(key, 2))
	n = Note{UID: mail.UID(keyNum(key, 1)), Name: string(key[noteName:]), Private: reader != 0, ModSeq: mail.ModSeq(d.U())}
	if has, b := d.Bool(), d.Bytes(); has {
		n.Value = append([]byte{}, b...)
	}
	return n, reader, d.Err("annotation of a message")
}

// EachNote calls fn for the annotations of messages of the set that the user of the
// handle may see, in order of UID, the shared ones of a message first, each kind in order
// of name, until fn returns false. Removed ones, without a value, are among them. It is
// one scan from the first to the last message.
func (s *Snapshot) EachNote(box mail.MailboxID, set mail.UIDSet, fn func(Note) bool) error {
	mine := s.account.reader()
	return s.eachNote(box, set, func(n Note, reader mail.AccountID) bool {
		return reader != 0 && reader != mine || fn(n)
	})
}

func (s *Snapshot) eachNote(box mail.MailboxID, set mail.UIDSet, fn func(Note, mail.AccountID) bool) error {
	if len(set) == 0 {
		return nil
	}
	var bad error
	from := engine.Key(famNote, uint64(box), uint64(set[0].From))
	to := engine.Key(famNote, uint64(box), uint64(set[len(set)-1].To)+1)
	err := s.r.Scan(from, to, false, func(k, v []byte) bool {
		if !set.Contains(mail.UID(keyNum(k, 1))) {
			return true
		}
		var n Note
		var reader mail.AccountID
		n, reader, bad = decodeNote(k, v)
		return bad == nil && fn(n, reader)
	})
	return cmp.Or(err, bad)
}

// notesOf returns the annotations of one message by reader.
func (tx *Tx) notesOf(box mail.MailboxID, uid mail.UID) (list []storedNote, err error) {
	err = tx.eachNote(box, mail.SetOf(uid), func(n Note, reader mail.AccountID) bool {
		list = append(list, storedNote{n, reader})
		return true
	})
	return list, err
}

type storedNote struct {
	Note
	reader mail.AccountID
}

// countNotes keeps the counts of a mailbox and of the account.
func (tx *Tx) countNotes(b *txBox, records int, size int64) error {
	b.notes += uint32(records)
	b.noteBytes += size
	b.dirty = true
	return tx.growMetadata(size)
}

func (tx *Tx) putNote(b *txBox, reader mail.AccountID, n *Note) error {
	return tx.w.Put(noteKey(b.ID, n.UID, reader, n.Name), n.encode())
}

// SetNotes changes annotations of the messages in the set. Those that are so already
// stay as they are, and a message none of whose annotations changes keeps its modseq.
// Faults: NotFound; Denied without the right to write shared ones; Invalid for a name;
// TooLarge for a value; Limited for too many.
func (tx *Tx) SetNotes(box mail.MailboxID, set mail.UIDSet, changes []NoteChange, unchangedSince *mail.ModSeq) (FlagResult, error) {
	b, err := tx.open(box)
	if err != nil {
		return FlagResult{}, err
	}
	if err := tx.mayNote(b, changes); err != nil {
		return FlagResult{}, err
	}
	var changed, failed []mail.UID
	err = tx.each(b, set, func(m Message) error {
		if unchangedSince != nil && m.ModSeq > *unchangedSince {
			failed = append(failed, m.UID)
			return nil
		}
		news, err := tx.noteOne(b, m.UID, changes)
		if err != nil || !news {
			return err
		}
		m.ModSeq = tx.mod
		changed = append(changed, m.UID)
		return tx.mark(b, m)
	})
	if err != nil {
		return FlagResult{}, err
	}
	return tx.changedRows(b, FlagResult{mail.SetOf(changed...), mail.SetOf(failed...)}), nil
}

// mayNote checks changes before any of them is made.
func (tx *Tx) mayNote(b *txBox, changes []NoteChange) error {
	for _, c := range changes {
		right := noteRight
		if c.Private {
			right = mail.RightRead
		}
		if err := tx.need(b, right); err != nil {
			return err
		}
		if err := cleanNote(c.Name); err != nil {
			return err
		}
		if len(c.Value) > MaxNoteValue {
			return fault.Newf(fault.TooLarge, "an annotation may have %d bytes", MaxNoteValue)
		}
	}
	return nil
}

// noteOne changes annotations of one message and tells whether any of them changed.
func (tx *Tx) noteOne(b *txBox, uid mail.UID, changes []NoteChange) (news bool, err error) {
	var list []storedNote
	if b.notes > 0 {
		if list, err = tx.notesOf(b.ID, uid); err != nil {
			return false, err
		}
	}
	for _, c := range changes {
		var reader mail.AccountID
		if c.Private {
			reader = tx.account.reader()
		}
		i := slices.IndexFunc(list, func(n storedNote) bool { return n.reader == reader && n.Name == c.Name })
		if i < 0 && c.Value == nil || i >= 0 && bytes.Equal(list[i].Value, c.Value) && (list[i].Value == nil) == (c.Value == nil) {
			continue
		}
		n := storedNote{Note{uid, c.Name, c.Private, c.Value, tx.mod}, reader}
		records, grows := 1, n.size()
		if i >= 0 {
			records, grows = 0, grows-list[i].size()
			list[i] = n
		} else {
			list = append(list, n)
		}
		if err := cmp.Or(tx.countNotes(b, records, grows), tx.putNote(b, reader, &n.Note)); err != nil {
			return false, err
		}
		news = true
	}
	if !news {
		return false, nil
	}
	return true, tx.fitNotes(b, list)
}

// fitNotes fails if a message has too many annotations for the user, and forgets removed
// ones if there are as many of these.
func (tx *Tx) fitNotes(b *txBox, list []storedNote) error {
	n, gone := 0, 0
	var size int64
	for i := range list {
		switch e := &list[i]; {
		case e.reader != 0 && e.reader != tx.account.reader():
		case e.Value == nil:
			gone++
		default:
			n++
			size += e.size()
		}
	}
	if n > MaxNotes || size > maxNoteBytes {
		return fault.Newf(fault.Limited, "a message may have %d annotations in %d bytes", MaxNotes, maxNoteBytes)
	}
	if gone <= MaxNotes {
		return nil
	}
	for i := range list {
		if e := &list[i]; e.Value == nil && e.ModSeq != tx.mod {
			if err := cmp.Or(tx.w.Delete(noteKey(b.ID, e.UID, e.reader, e.Name)), tx.countNotes(b, -1, 0)); err != nil {
				return err
			}
		}
	}
	return nil
}

// arriveNotes gives a message that has just come in its annotations.
func (tx *Tx) arriveNotes(box mail.MailboxID, uid mail.UID, changes []NoteChange) error {
	b, err := tx.open(box)
	if err != nil {
		return err
	}
	if err := tx.mayNote(b, changes); err != nil {
		return err
	}
	_, err = tx.noteOne(b, uid, changes)
	return err
}

// bringNotes is arriveNotes for a message of another account: shared ones are left out
// where the user may not write such.
func (tx *Tx) bringNotes(box mail.MailboxID, uid mail.UID, notes []NoteChange) error {
	if len(notes) == 0 {
		return nil
	}
	b, err := tx.open(box)
	if err != nil {
		return err
	}
	shared := tx.account.Rights(&b.Mailbox).Has(noteRight)
	_, err = tx.noteOne(b, uid, slices.DeleteFunc(notes, func(n NoteChange) bool { return !n.Private && !shared }))
	return err
}

// copyNotes gives a copy of a message its annotations: the shared ones, if the user may
// write such there, and the user's own, but nobody else's (RFC 5257, 4.6).
func (tx *Tx) copyNotes(src *txBox, from mail.UID, dst *txBox, to mail.UID) error {
	if src.notes == 0 {
		return nil
	}
	list, err := tx.notesOf(src.ID, from)
	if err != nil {
		return err
	}
	shared := tx.account.Rights(&dst.Mailbox).Has(noteRight)
	for _, n := range list {
		if n.Value == nil || n.reader == 0 && !shared || n.reader != 0 && n.reader != tx.account.reader() {
			continue
		}
		n.UID, n.ModSeq = to, tx.mod
		if err := cmp.Or(tx.countNotes(dst, 1, n.size()), tx.putNote(dst, n.reader, &n.Note)); err != nil {
			return err
		}
	}
	return nil
}

// dropNotes removes the annotations of a message that leaves a mailbox.
func (tx *Tx) dropNotes(b *txBox, uid mail.UID) error {
	if b.notes == 0 {
		return nil
	}
	list, err := tx.notesOf(b.ID, uid)
	if err != nil {
		return err
	}
	for i := range list {
		n := &list[i]
		if err := cmp.Or(tx.w.Delete(noteKey(b.ID, uid, n.reader, n.Name)), tx.countNotes(b, -1, -n.size())); err != nil {
			return err
		}
	}
	return nil
}

// dropAllNotes removes those of all messages of a mailbox that is deleted.
func (tx *Tx) dropAllNotes(b *txBox) error {
	if b.notes == 0 {
		return nil
	}
	if err := tx.growMetadata(-b.noteBytes); err != nil {
		return err
	}
	return tx.w.DeleteRange(engine.Key(famNote, uint64(b.ID)), engine.Key(famNote, uint64(b.ID)+1))
}

// One Update may write a few megabytes: a change of annotations takes as many messages
// at a time as that is, and so does a copy of messages that have much of it.
const (
	notesAtOnce = 4 << 20 // bytes of annotations
	notedAtOnce = 8       // messages with as many annotations as may be
)

// few cuts a set, which has UIDs of messages only, into sets of at most n.
func few(set mail.UIDSet, n int) (out []mail.UIDSet) {
	var cur mail.UIDSet
	for uid := range set.All() {
		if cur.Add(uid); cur.Len() == n {
			out, cur = append(out, cur), nil
		}
	}
	if len(cur) > 0 {
		out = append(out, cur)
	}
	return out
}

// SetNotes is Tx.SetNotes for a set of any size. If there are too many annotations, those
// of earlier messages may have been changed.
func (a *Account) SetNotes(ctx context.Context, box mail.MailboxID, set mail.UIDSet, changes []NoteChange, unchangedSince *mail.ModSeq) (FlagResult, error) {
	set, err := a.clamp(ctx, box, set)
	if err != nil {
		return FlagResult{}, err
	}
	each := 100
	for _, c := range changes {
		each += len(c.Name) + len(c.Value)
	}
	parts := few(set, min(max(notesAtOnce/each, 1), bulkMessages/max(len(changes), 1)))
	if len(parts) == 0 {
		parts = []mail.UIDSet{nil} // rights and limits count all the same
	}
	var all FlagResult
	for _, part := range parts {
		var res FlagResult
		err := a.Update(ctx, func(tx *Tx) (err error) {
			res, err = tx.SetNotes(box, part, changes, unchangedSince)
			return err
		})
		if err != nil {
			return all, err
		}
		all.Changed = append(all.Changed, res.Changed...)
		all.Failed = append(all.Failed, res.Failed...)
	}
	all.Changed, all.Failed = merged(all.Changed), merged(all.Failed)
	return all, nil
}

// notes checks the annotations of a mailbox's messages: each whole, of a message that is
// there, and as many as are counted.
func (v *verifier) notes(p *Picture) {
	var records uint32
	var size int64
	err := v.snap.r.Scan(engine.Key(famNote, uint64(v.box.ID)), engine.Key(famNote, uint64(v.box.ID)+1), false, func(k, val []byte) bool {
		n, _, err := decodeNote(k, val)
		if err != nil {
			v.problem(0, "record %x: %s", k, fault.Say(err))
			return true
		}
		records++
		size += n.size()
		if _, there := p.Message(n.UID); !there {
			v.problem(n.UID, "the annotation %s belongs to no message", n.Name)
		}
		return true
	})
	if err != nil {
		v.problem(0, "%s", fault.Say(err))
	}
	if records != v.box.notes || size != v.box.noteBytes {
		v.problem(0, "%d annotations in %d bytes are counted, there are %d in %d", v.box.notes, v.box.noteBytes, records, size)
	}
	v.noteBytes += size
}
