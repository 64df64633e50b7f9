package store

import (
	"bytes"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Limits on annotations (RFC 5464, 4.1 and 7).
const (
	MaxEntries    = 200      // of one mailbox for one reader, removed ones not counted
	MaxEntryName  = 512      // bytes of a name
	MaxEntryValue = 64 << 10 // bytes of a value
	MaxMetadata   = 32 << 20 // bytes of all names and values of an account
)

// An annotation belongs to a mailbox, or to the account as a whole as mailbox 0, and
// is either shared or of one reader (RFC 5464, 3.3). A removed one stays on record
// without a value until its mailbox has too many of them, so that MetadataChanges can
// tell that it went.

// Entry is an annotation.
type Entry struct {
	Name   string // in lower case
	Value  []byte
	ModSeq mail.ModSeq // of its last change
	gone   bool
}

// privatePrefix is what the names begin with that belong to one reader.
const privatePrefix = "/private/"

// metaKey returns the key of an entry: mailbox, reader or 0, name.
func metaKey(box mail.MailboxID, reader mail.AccountID, name string) []byte {
	if !strings.HasPrefix(name, privatePrefix) {
		reader = 0
	}
	return append(engine.Key(famMeta, uint64(box), uint64(reader)), name...)
}

func (e *Entry) size() int64 { return int64(len(e.Name) + len(e.Value)) }

func (e *Entry) encode() []byte {
	var b enc
	b.U(uint64(e.ModSeq))
	b.Bool(!e.gone)
	b.Bytes(e.Value)
	return seal(recMeta, b)
}

func decodeEntry(key, v []byte) (Entry, error) {
	p, err := unseal(recMeta, v)
	if err != nil {
		return Entry{}, err
	}
	d := dec{Rest: p}
	e := Entry{Name: string(key[17:]), ModSeq: mail.ModSeq(d.U()), gone: !d.Bool(), Value: bytes.Clone(d.Bytes())}
	return e, d.Err("annotation")
}

// CleanEntry checks the name of an annotation and returns it in lower case, for case
// does not count (RFC 5464, 3.2). Faults: Invalid with the reason.
func CleanEntry(name string) (string, error) {
	if len(name) > MaxEntryName {
		return "", fault.Newf(fault.Invalid, "the name of an annotation may have %d bytes", MaxEntryName)
	}
	for i := range len(name) {
		if c := name[i]; c <= 0x1f || c >= 0x7f || c == '*' || c == '%' {
			return "", fault.New(fault.Invalid, "the name of an annotation is printable ASCII without * and %")
		}
	}
	low := strings.ToLower(name)
	levels := strings.Split(low, "/")
	switch {
	case len(levels) < 3 || levels[0] != "" || levels[1] != "private" && levels[1] != "shared":
		return "", fault.New(fault.Invalid, "an annotation is named /private/... or /shared/...")
	case slices.Contains(levels[1:], ""):
		return "", fault.New(fault.Invalid, "the name of an annotation has an empty level")
	case levels[2] == "vendor" && len(levels) < 5:
		return "", fault.New(fault.Invalid, "a vendor's annotation has a name of four levels at least")
	}
	return low, nil
}

// EachEntry calls fn for each annotation of a mailbox (0: of the account) that a
// reader may see, the shared ones first, each kind in order of name, until fn returns
// false.
func (s *Snapshot) EachEntry(box mail.MailboxID, reader mail.AccountID, fn func(Entry) bool) error {
	return s.eachEntry(box, reader, func(e Entry) bool { return e.gone || fn(e) })
}

func (s *Snapshot) eachEntry(box mail.MailboxID, reader mail.AccountID, fn func(Entry) bool) error {
	more := true
	readers := []mail.AccountID{0, reader}
	if reader == 0 {
		readers = readers[:1]
	}
	for _, r := range readers {
		if !more {
			break
		}
		from := engine.Key(famMeta, uint64(box), uint64(r))
		var bad error
		err := s.r.Scan(from, engine.After(from), false, func(k, v []byte) bool {
			var e Entry
			if e, bad = decodeEntry(k, v); bad != nil {
				return false
			}
			more = fn(e)
			return more
		})
		if err == nil {
			err = bad
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Entry returns one annotation; ok is false if it has no value.
func (s *Snapshot) Entry(box mail.MailboxID, reader mail.AccountID, name string) (e Entry, ok bool, err error) {
	key := metaKey(box, reader, name)
	v, ok, err := s.r.Get(key)
	if err != nil || !ok {
		return Entry{}, false, err
	}
	e, err = decodeEntry(key, v)
	return e, err == nil && !e.gone, err
}

// MetadataChanges returns the annotations that changed after a modseq, by mailbox (0:
// the account), each with the modseq of its change, and the modseq up to which that
// is true. What changed in a mailbox that is gone is left out.
func (s *Snapshot) MetadataChanges(reader mail.AccountID, since mail.ModSeq) (map[mail.MailboxID][]Entry, mail.ModSeq, error) {
	c, err := changes(s.r, &Mailbox{HighestModSeq: s.acct.modSeq}, since)
	if err != nil {
		return nil, 0, err
	}
	found := map[mail.MailboxID][]Entry{}
	for uid := range c.Changed.All() {
		box := mail.MailboxID(uid)
		err := s.eachEntry(box, reader, func(e Entry) bool {
			if e.ModSeq > since {
				found[box] = append(found[box], Entry{Name: e.Name, ModSeq: e.ModSeq})
			}
			return true
		})
		if err != nil {
			return nil, 0, err
		}
	}
	return found, s.acct.modSeq, nil
}

// metadataSize returns how many bytes all annotations of the account take.
func (s *Snapshot) metadataSize() (int64, error) {
	v, ok, err := s.r.Get([]byte{famMeta})
	if err != nil || !ok {
		return 0, err
	}
	p, err := unseal(recMetaSize, v)
	if err != nil {
		return 0, err
	}
	d := dec{Rest: p}
	return d.I(), d.Err("size of annotations")
}

// growMetadata counts bytes of annotations that come or, below zero, go.
func (tx *Tx) growMetadata(by int64) error {
	had, err := tx.metadataSize()
	if err != nil || by == 0 {
		return err
	}
	if by > 0 && had+by > MaxMetadata {
		return fault.Newf(fault.Limited, "the annotations of an account may have %d bytes", MaxMetadata)
	}
	var e enc
	e.I(had + by)
	tx.acctDirty = true
	return tx.w.Put([]byte{famMeta}, seal(recMetaSize, e))
}

// SetEntry sets an annotation of a mailbox (0: of the account) for a reader, or
// removes it if value is nil. Faults: Invalid for a bad name, NotFound, TooLarge for
// the value, Limited for too many.
func (tx *Tx) SetEntry(box mail.MailboxID, reader mail.AccountID, name string, value []byte) error {
	name, err := CleanEntry(name)
	if err != nil {
		return err
	}
	if len(value) > MaxEntryValue {
		return fault.Newf(fault.TooLarge, "an annotation may have %d bytes", MaxEntryValue)
	}
	var b *txBox
	if box != 0 {
		if b, err = tx.open(box); err != nil {
			return err
		}
	}
	old, had, err := tx.Entry(box, reader, name)
	if err != nil || !had && value == nil {
		return err
	}
	now := Entry{Name: name, Value: value, ModSeq: tx.mod, gone: value == nil}
	grows := -old.size()
	if !now.gone {
		grows += now.size()
	}
	if !had {
		grows = now.size()
		if err := tx.roomForEntry(box, reader); err != nil {
			return err
		}
	}
	if err := tx.growMetadata(grows); err != nil {
		return err
	}
	if b != nil { // it counts as a change of the mailbox (RFC 7162, 3.2)
		tx.touch(b)
	}
	tx.acctDirty = true
	tx.account0.Changed.AddRange(mail.UID(box), mail.UID(box))
	return tx.w.Put(metaKey(box, reader, name), now.encode())
}

// roomForEntry fails if a mailbox has all the annotations it may have. If it keeps as
// many removed ones, these are forgotten.
func (tx *Tx) roomForEntry(box mail.MailboxID, reader mail.AccountID) error {
	n := 0
	var gone [][]byte
	err := tx.eachEntry(box, reader, func(e Entry) bool {
		if n++; e.gone {
			n--
			gone = append(gone, metaKey(box, reader, e.Name))
		}
		return true
	})
	if err != nil {
		return err
	}
	if n >= MaxEntries {
		return fault.Newf(fault.Limited, "there may be %d annotations", MaxEntries)
	}
	if len(gone) >= MaxEntries {
		for _, k := range gone {
			if err := tx.w.Delete(k); err != nil {
				return err
			}
		}
	}
	return nil
}

// eachRecord calls fn for each annotation of a mailbox, of all readers, removed ones
// too. fn must not write.
func (s *Snapshot) eachRecord(box mail.MailboxID, fn func(key []byte, e Entry) bool) error {
	var bad error
	err := s.r.Scan(engine.Key(famMeta, uint64(box)), engine.Key(famMeta, uint64(box)+1), false, func(k, v []byte) bool {
		var e Entry
		if e, bad = decodeEntry(k, v); bad != nil {
			return false
		}
		return fn(k, e)
	})
	if err == nil {
		err = bad
	}
	return err
}

// dropEntries removes all annotations of a mailbox that is deleted.
func (tx *Tx) dropEntries(box mail.MailboxID) error {
	var size int64
	any := false
	err := tx.eachRecord(box, func(_ []byte, e Entry) bool {
		if any = true; !e.gone {
			size += e.size()
		}
		return true
	})
	if err != nil || !any {
		return err
	}
	if err := tx.growMetadata(-size); err != nil {
		return err
	}
	return tx.w.DeleteRange(engine.Key(famMeta, uint64(box)), engine.Key(famMeta, uint64(box)+1))
}

// copyEntries gives a mailbox the annotations of another: INBOX keeps its own when it
// is renamed (RFC 5464, 4.1).
func (tx *Tx) copyEntries(from, to mail.MailboxID) error {
	type copied struct {
		reader mail.AccountID
		Entry
	}
	var list []copied
	err := tx.eachRecord(from, func(k []byte, e Entry) bool {
		if !e.gone {
			list = append(list, copied{mail.AccountID(keyNum(k, 1)), e})
		}
		return true
	})
	for i := 0; err == nil && i < len(list); i++ {
		value := list[i].Value
		if value == nil {
			value = []byte{}
		}
		err = tx.SetEntry(to, list[i].reader, list[i].Name, value)
	}
	return err
}

// metadata checks the annotations of an account: each whole, of a mailbox that is
// there, and all together as large as is counted.
func (v *verifier) metadata(boxes map[mail.MailboxID]bool) error {
	var size int64
	err := v.snap.r.Scan(engine.Key(famMeta, 0), []byte{famMeta + 1}, false, func(k, val []byte) bool {
		if len(k) < 17 {
			v.problem(0, "record %x is no annotation", k)
			return true
		}
		e, err := decodeEntry(k, val)
		if err != nil {
			v.problem(0, "record %x: %s", k, fault.Say(err))
			return true
		}
		if !e.gone {
			size += e.size()
		}
		if box := mail.MailboxID(keyNum(k, 0)); box != 0 && !boxes[box] {
			v.problem(0, "annotation %s belongs to no mailbox", e.Name)
		}
		return true
	})
	if err != nil {
		return err
	}
	counted, err := v.snap.metadataSize()
	if err != nil {
		v.problem(0, "%s", fault.Say(err))
	} else if size += v.noteBytes; counted != size {
		v.problem(0, "annotations are counted as %d bytes and have %d", counted, size)
	}
	return nil
}
