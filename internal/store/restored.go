package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/record"
)

// What a backup must know of the records of an account, and how an account is made of
// records again. docs/backup.md.

// NewestRecord is the highest kind of record that this version knows. Data that has a
// higher one is of a later version.
const NewestRecord = int(recEnd) - 1

// RegistryShard is where it is noted which accounts have data.
const RegistryShard = registryShard

// RegistryEntry returns the record of RegistryShard that notes that an account has data.
func RegistryEntry(id mail.AccountID) (key, value []byte) {
	return engine.Key(famRegistry, uint64(id)), seal(recRegistry, nil)
}

// ShardOf returns the shard of an account.
func ShardOf(id mail.AccountID) engine.Shard { return accountBase + engine.Shard(id) }

// Derived tells whether the record of a key follows from others, so that a backup need not
// keep it.
func Derived(key []byte) bool {
	return len(key) > 0 && (key[0] == famGrams || key[0] == famBrief)
}

// BodyOf returns the blob that a record of an account's shard names, zero if none, and
// whether the record is the one of its message that every message has. Faults: Corrupt.
func BodyOf(key, value []byte) (body mail.BlobRef, message bool, err error) {
	switch {
	case len(key) == 9 && key[0] == famFacts:
		if len(value) > 0 && value[0] == recLong {
			return body, true, nil
		}
		f, err := decodeFacts(value)
		return f.Body, true, err
	case len(key) > 0 && key[0] == famPiece && engine.Num(key, 0) == uint64(famFacts) && engine.Num(key, 2) == 0:
		body, err = bodyOfPiece(value)
	}
	return body, false, err
}

// Sealing tells where the checksum of a record of an account's shard lies.
func Sealing(key, value []byte) record.Sealing {
	const longest = 1 + binary.MaxVarintLen64 // of what leads to pieces
	switch {
	case key[0] == famPiece:
		return record.Part
	case len(value) > 1 && value[0] == recLong && len(value) <= longest:
		return record.Bare
	}
	return record.Sealed
}

// bodyOfPiece reads the body's name in the first piece of long facts. Only the whole has a
// checksum.
func bodyOfPiece(piece []byte) (body mail.BlobRef, err error) {
	if len(piece) == 0 {
		return body, errFactsPiece
	}
	d := dec{Rest: piece[1:]}
	d.U() // home
	d.U()
	d.I() // sizes
	d.I()
	d.I()
	copy(body[:], d.Take(32))
	return body, d.Err("facts")
}

var errFactsPiece = fault.New(fault.Corrupt, "a piece of a stored record is empty")

// unsigned are the families of records that follow from those of a message's row (facts and
// what lies beside them, for ever the same), or that nobody misses.
var unsigned = [...]byte{famBody, famFacts, famGrams, famHeader, famOnce, famKeys, famLog, famThread, famPiece, famBrief}

// Sign returns a hash that is another one whenever the account has changed in a way that
// lasts. scan is that of a reader of its shard. It reads all but what is kept of each
// message for ever (facts, keys, header, body): of a message's rows the hash has all.
func Sign(scan func(from, to []byte, reverse bool, fn func(key, value []byte) bool) error) ([sha256.Size]byte, error) {
	sum := sha256.New()
	var n enc
	add := func(k, v []byte) bool {
		n = n[:0]
		n.U(uint64(len(k)))
		n.U(uint64(len(v)))
		sum.Write(n)
		sum.Write(k)
		sum.Write(v)
		return true
	}
	skip := unsigned
	slices.Sort(skip[:])
	from := []byte{0}
	for _, family := range skip {
		if err := scan(from, []byte{family}, false, add); err != nil {
			return [sha256.Size]byte{}, err
		}
		from = []byte{family + 1}
	}
	err := scan(from, nil, false, add)
	return [sha256.Size]byte(sum.Sum(nil)), err
}

// adoptBytes is how much of records one Update of Adopt writes.
const adoptBytes = 4 << 20

// Adopt makes an account of the records that a backup has of it; what there was of this id
// before is gone. records calls put for each; bodies are to be there already. Nobody may
// know the account yet. After a failure the call may be repeated.
//
// UIDs, ids and modseqs go on far above where the records end: what came after them, and is
// lost, may have been told to clients. If that cannot be done, as records were damaged when they
// were saved, the account is mended first, and mended is told of all that this does.
func (s *Store) Adopt(ctx context.Context, id mail.AccountID, records func(put func(key, value []byte) error) error, mended func(Mended)) error {
	a := s.Account(id)
	was, err := a.born(ctx)
	if err != nil {
		return err
	}
	if err := s.register(ctx, id); err != nil {
		return err
	}
	defer a.forgetPictures()
	b := adoption{ctx: ctx, account: a, birth: s.newBirth()}
	if err := a.erase(ctx, was, b.birth); err != nil {
		return err
	}
	if err := records(b.put); err != nil {
		return err
	}
	if err := b.finish(); err != nil {
		return err
	}
	a.forgetPictures()
	err = a.Depart(ctx)
	if fault.Is(err, fault.Corrupt) {
		if err = a.Repair(ctx, mended); err == nil {
			err = a.Depart(ctx)
		}
	}
	if err != nil {
		return err
	}
	return a.noteGrants(ctx)
}

// adoption gathers records for Updates.
type adoption struct {
	ctx     context.Context
	account *Account
	list    [][2][]byte
	size    int
	birth   []byte // of the account that is being made
	last    []byte // the account's own record, without which the others are none
}

func (b *adoption) put(key, value []byte) error {
	if len(key) == 1 && key[0] == famAccount {
		b.last = slices.Clone(value)
		return nil
	}
	if key[0] == famBirth {
		return nil // of the account that was
	}
	b.list = append(b.list, [2][]byte{slices.Clone(key), slices.Clone(value)})
	if b.size += len(key) + len(value); b.size < adoptBytes {
		return nil
	}
	return b.flush()
}

func (b *adoption) finish() error {
	if b.last == nil {
		return fault.New(fault.Corrupt, "the backup has no record of the account")
	}
	b.list = append(b.list, [2][]byte{{famAccount}, b.last})
	return b.flush()
}

func (b *adoption) flush() error {
	err := b.account.store.eng.Update(b.ctx, b.account.shard, func(w engine.Writer) error {
		if err := b.account.mustBe(b.ctx, w, b.birth); err != nil {
			return err
		}
		for _, kv := range b.list {
			if err := w.Put(kv[0], kv[1]); err != nil {
				return err
			}
		}
		return nil
	})
	b.list, b.size = nil, 0
	return err
}

// forgetPictures drops what is in memory of an account whose records were exchanged.
func (a *Account) forgetPictures() {
	a.mu.Lock()
	a.boxes, a.named, a.sharing = map[boxKey]*boxState{}, nil, sharing{}
	a.mu.Unlock()
	a.generation.Add(1)
	a.changed(context.Background(), nil)
}

// How far an account departs from what its records say it has given out.
const (
	departUIDs      = 1 << 20
	departMessages  = 1 << 24
	departMailboxes = 1 << 16
	departModSeq    = 1 << 24
	departValidity  = 1 << 16
	departAtOnce    = 64 // sheets: their marks are a part of what one Update may write
)

// Depart sets an account that was brought back from an earlier time apart from what came
// after that time: UIDs, UIDVALIDITYs, message and mailbox ids and modseqs that may have been
// given out meanwhile are never given out again. Every message gets a modseq above them, and
// the log begins anew: whoever asks what has changed since a modseq of the lost time is told
// of all that is there and of all that is not. If the clock is behind that time, a modseq of
// then may be above all there are, and counts as none (FromElsewhere). Messages keep their UIDs, mailboxes their
// UIDVALIDITY.
func (a *Account) Depart(ctx context.Context) error {
	var ids []mail.MailboxID
	err := a.Update(ctx, func(tx *Tx) error {
		boxes, err := tx.mailboxes()
		ids = ids[:0]
		for _, m := range boxes {
			ids = append(ids, m.ID)
		}
		tx.leap() // as the lost time may have, when mail was brought with its UIDs
		tx.mod += departModSeq
		tx.acct.nextMessage += departMessages
		tx.acct.nextMailbox += departMailboxes
		// Those of the lost time followed the clock, or each other.
		tx.acct.validity = max(tx.acct.validity, validityAt(tx.now))
		tx.acct.validity += min(departValidity, (1<<32-1-tx.acct.validity)/2)
		tx.acctDirty = true
		return err
	})
	if err != nil {
		return err
	}
	parts, err := a.sheetsOf(ctx, ids)
	if err != nil {
		return err
	}
	for some := range slices.Chunk(parts, departAtOnce) {
		err := a.Update(ctx, func(tx *Tx) error {
			for _, p := range some {
				if err := tx.departSheet(p); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// sheetPart is one sheet of a mailbox. Each mailbox has a first one, with messages or not.
type sheetPart struct {
	box    mail.MailboxID
	number uint64
	first  bool
}

// sheetsOf returns the sheets that mailboxes have.
func (a *Account) sheetsOf(ctx context.Context, ids []mail.MailboxID) (parts []sheetPart, err error) {
	err = a.View(ctx, func(s *Snapshot) error {
		parts = parts[:0]
		for _, id := range ids {
			p := sheetPart{box: id, first: true}
			parts = append(parts, p)
			err := s.r.Scan(pageKey(id, 0), pageKey(id+1, 0), false, func(k, _ []byte) bool {
				if number := keyNum(k, 1) / sheetPages; number != p.number {
					p = sheetPart{box: id, number: number}
					parts = append(parts, p)
				}
				return true
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return parts, err
}

func (tx *Tx) departSheet(p sheetPart) error {
	b, err := tx.open(p.box)
	if err != nil {
		return err
	}
	b.LogFloor = tx.mod
	tx.touch(b)
	d, err := tx.sheetMarks(b, p.number, false)
	if err != nil {
		return err
	}
	if d != nil {
		for i := range d.mods {
			d.mods[i] = uint64(tx.mod) // those of no message count for nothing
		}
		d.dirty = true
	}
	if !p.first {
		return nil
	}
	b.UIDNext += min(departUIDs, (1<<32-1-b.UIDNext)/2)
	return tx.w.DeleteRange(engine.Key(famLog, uint64(p.box)), engine.Key(famLog, uint64(p.box)+1))
}

// noteGrants notes with the others what the account shares with them: the notes went when
// it did.
func (a *Account) noteGrants(ctx context.Context) error {
	var with []mail.AccountID
	err := a.View(ctx, func(s *Snapshot) error {
		boxes, err := s.mailboxes()
		with = with[:0]
		for _, m := range boxes {
			for _, g := range m.Grants {
				with = append(with, g.Who)
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	slices.Sort(with)
	for _, who := range slices.Compact(with) {
		if who == a.id {
			continue
		}
		if err := a.noteSharer(ctx, who); err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
	}
	return nil
}

// Fingerprint returns a hash of the whole message: two that have the same one are the same
// bytes. Faults: NotFound.
func (s *Snapshot) Fingerprint(id mail.MessageID) ([sha256.Size]byte, error) {
	f, err := s.Facts(id)
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	b, err := s.Head(nil, id)
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	body := f.Body
	if f.small() {
		small, err := s.body(id, &f)
		if err == nil {
			small.small, err = unpack(s.account.store.pack.unbody, nil, small.small)
		}
		if err != nil {
			return [sha256.Size]byte{}, err
		}
		body = sha256.Sum256(small.small)
	}
	return sha256.Sum256(append(b, body[:]...)), nil
}
