package store

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Key families of an account's shard. docs/schema.md describes each.
const (
	famAccount  = 'a' // the account record
	famPlaces   = 'c' // message id -> where it lies, once it is not just at home
	famDoomed   = 'd' // mailbox id -> deleted, its messages not all released yet
	famMeta     = 'e' // mailbox id, reader, entry name -> annotation; without id their size
	famFacts    = 'f' // message id -> facts
	famHeader   = 'h' // message id -> first bytes of the message, compressed
	famOnce     = 'i' // idempotency key -> when it was used
	famURLKey   = 'k' // mailbox id, user -> key that signs URLs
	famLog      = 'l' // mailbox id, modseq -> what changed
	famMailbox  = 'm' // mailbox id -> mailbox record
	famName     = 'n' // mailbox name -> mailbox id
	famPage     = 'p' // mailbox id, page number -> page
	famSub      = 's' // subscribed name
	famThread   = 't' // hash of a Message-ID -> thread id
	famPiece    = 'y' // family, id, number -> the rest of a long record
	famRegistry = 'A' // (registry shard) account id
)

// The first byte of every record: what it is and in which version.
const (
	recAccount byte = iota + 1
	recMailbox
	recPage
	recFacts
	recHeader
	recLog
	recPlaces
	recName
	recSub
	recThread
	recOnce
	recDoomed
	recRegistry
	recParcel
	recMeta
	recMetaSize
	recURLKey
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal puts the record's kind in front and a CRC-32C behind.
func seal(kind byte, payload []byte) []byte {
	b := make([]byte, 0, len(payload)+5)
	b = append(b, kind)
	b = append(b, payload...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// unseal checks kind and checksum and returns the payload, which aliases b.
func unseal(kind byte, b []byte) ([]byte, error) {
	n := len(b) - 4
	if n < 1 || crc32.Checksum(b[:n], castagnoli) != binary.BigEndian.Uint32(b[n:]) {
		return nil, fault.New(fault.Corrupt, "a stored record fails its checksum")
	}
	if b[0] != kind {
		return nil, fault.Newf(fault.Corrupt, "a stored record has kind %d, not %d", b[0], kind)
	}
	return b[1:n], nil
}

// enc appends numbers and byte strings to a record.
type enc []byte

func (e *enc) u(n uint64)     { *e = binary.AppendUvarint(*e, n) }
func (e *enc) i(n int64)      { *e = binary.AppendVarint(*e, n) }
func (e *enc) bytes(b []byte) { e.u(uint64(len(b))); *e = append(*e, b...) }
func (e *enc) str(s string)   { e.u(uint64(len(s))); *e = append(*e, s...) }
func (e *enc) raw(b ...byte)  { *e = append(*e, b...) }
func (e *enc) bool(v bool) {
	if v {
		*e = append(*e, 1)
	} else {
		*e = append(*e, 0)
	}
}

// dec reads what enc wrote. After the first thing that is not there it returns
// zeros and err tells.
type dec struct {
	b   []byte
	bad bool
}

func (d *dec) u() uint64 {
	n, k := binary.Uvarint(d.b)
	if k <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[k:]
	return n
}

func (d *dec) i() int64 {
	n, k := binary.Varint(d.b)
	if k <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[k:]
	return n
}

func (d *dec) take(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return nil
	}
	b := d.b[:n:n]
	d.b = d.b[n:]
	return b
}

func (d *dec) bytes() []byte { return d.take(d.u()) }
func (d *dec) str() string   { return string(d.bytes()) }
func (d *dec) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}
func (d *dec) bool() bool { return d.byte() != 0 }

// count reads a number of items that each take at least one byte.
func (d *dec) count() int {
	n := d.u()
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return 0
	}
	return int(n)
}

func (d *dec) err(what string) error {
	if d.bad {
		return fault.Newf(fault.Corrupt, "a stored %s record is cut short", what)
	}
	return nil
}

// Keys that several files make.

func pageKey(box mail.MailboxID, number uint64) []byte {
	return engine.Key(famPage, uint64(box), number)
}
func doomedKey(box mail.MailboxID) []byte { return engine.Key(famDoomed, uint64(box)) }
func keyNum(key []byte, i int) uint64     { return engine.Num(key, i) }
