// Package record is the form of what is stored under a key: a byte that says what it
// is and in which version, numbers and strings, and a CRC-32C of all before it.
//
// What a record holds is its owner's affair (store, directory, queue); docs/schema.md
// lists all. The package reads any bytes safely and never guesses.
package record

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Sum is the checksum of every record.
func Sum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// Seal puts the record's kind in front and the checksum behind.
func Seal(kind byte, payload []byte) []byte {
	b := make([]byte, 0, len(payload)+5)
	b = append(b, kind)
	b = append(b, payload...)
	return binary.BigEndian.AppendUint32(b, Sum(b))
}

// Open checks a record and returns its kind and payload, which aliases b. Faults:
// Corrupt.
func Open(b []byte) (kind byte, payload []byte, err error) {
	n := len(b) - 4
	if n < 1 || Sum(b[:n]) != binary.BigEndian.Uint32(b[n:]) {
		return 0, nil, fault.New(fault.Corrupt, "a stored record fails its checksum")
	}
	return b[0], b[1:n], nil
}

// Enc appends numbers and byte strings to a payload.
type Enc []byte

// U appends an unsigned varint.
func (e *Enc) U(n uint64) { *e = binary.AppendUvarint(*e, n) }

// I appends a signed varint.
func (e *Enc) I(n int64) { *e = binary.AppendVarint(*e, n) }

// Bytes appends a length and the bytes.
func (e *Enc) Bytes(b []byte) { e.U(uint64(len(b))); *e = append(*e, b...) }

// Str appends each string as Bytes does.
func (e *Enc) Str(list ...string) {
	for _, s := range list {
		e.U(uint64(len(s)))
		*e = append(*e, s...)
	}
}

// Raw appends bytes as they are.
func (e *Enc) Raw(b ...byte) { *e = append(*e, b...) }

// Bool appends a byte 0 or 1 for each.
func (e *Enc) Bool(list ...bool) {
	for _, v := range list {
		b := byte(0)
		if v {
			b = 1
		}
		*e = append(*e, b)
	}
}

// Dec reads what Enc wrote. After the first thing that is not there it returns zeros
// and Err tells.
type Dec struct {
	Rest []byte // what has not been read
	bad  bool
}

func (d *Dec) fail() { d.bad, d.Rest = true, nil }

// U reads an unsigned varint.
func (d *Dec) U() uint64 {
	n, k := binary.Uvarint(d.Rest)
	if k <= 0 {
		d.fail()
		return 0
	}
	d.Rest = d.Rest[k:]
	return n
}

// I reads a signed varint.
func (d *Dec) I() int64 {
	n, k := binary.Varint(d.Rest)
	if k <= 0 {
		d.fail()
		return 0
	}
	d.Rest = d.Rest[k:]
	return n
}

// Take reads n bytes, which alias the record.
func (d *Dec) Take(n uint64) []byte {
	if n > uint64(len(d.Rest)) {
		d.fail()
		return nil
	}
	b := d.Rest[:n:n]
	d.Rest = d.Rest[n:]
	return b
}

// Bytes reads a length and bytes, which alias the record.
func (d *Dec) Bytes() []byte { return d.Take(d.U()) }

// Str reads a string.
func (d *Dec) Str() string { return string(d.Bytes()) }

// Byte reads one byte.
func (d *Dec) Byte() byte {
	if b := d.Take(1); b != nil {
		return b[0]
	}
	return 0
}

// Bool reads one byte as a truth.
func (d *Dec) Bool() bool { return d.Byte() != 0 }

// Count reads a number of items that each take at least one byte, so that a broken
// record cannot ask for memory.
func (d *Dec) Count() int {
	n := d.U()
	if n > uint64(len(d.Rest)) {
		d.fail()
		return 0
	}
	return int(n)
}

// Err returns a fault of kind Corrupt if something was missing; what names the
// record.
func (d *Dec) Err(what string) error {
	if d.bad {
		return fault.Newf(fault.Corrupt, "a stored %s record is cut short", what)
	}
	return nil
}

// End is Err for a record that must have been read to its end.
func (d *Dec) End(what string) error {
	if !d.bad && len(d.Rest) > 0 {
		return fault.Newf(fault.Corrupt, "a stored %s record is too long", what)
	}
	return d.Err(what)
}
