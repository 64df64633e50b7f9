package record

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
)

// Sealing is where the checksum of what is stored under a key lies.
type Sealing byte

const (
	Sealed Sealing = iota // in the value
	Part                  // in what values under keys that differ only in the last 8 bytes are, put together
	Bare                  // there is none
)

// Checker checks the checksums of records of any kind, given in order of their keys. It
// keeps nothing of them.
type Checker struct {
	Sealing func(key, value []byte) Sealing // nil: all are Sealed
	Spoilt  func(key []byte)                // a record, or the first part of one, is not what was written

	first []byte // key of the first part; nil: there is none
	sum   uint32 // of all parts but the tail
	tail  []byte // their last 4 bytes
}

// Add checks a record.
func (c *Checker) Add(key, value []byte) {
	kind := Sealed
	if c.Sealing != nil {
		kind = c.Sealing(key, value)
	}
	if kind == Part && len(key) > 8 {
		c.part(key, value)
		return
	}
	c.End()
	if kind == Sealed {
		if _, _, err := Open(value); err != nil {
			c.Spoilt(key)
		}
	}
}

func (c *Checker) part(key, value []byte) {
	n := len(key) - 8
	if c.first == nil || !bytes.Equal(c.first[:len(c.first)-8], key[:n]) {
		c.End()
		c.first = bytes.Clone(key)
	}
	c.tail = append(c.tail, value...)
	if n := len(c.tail) - 4; n > 0 {
		c.sum = crc32.Update(c.sum, crc32.MakeTable(crc32.Castagnoli), c.tail[:n])
		c.tail = append(c.tail[:0], c.tail[n:]...)
	}
}

// End checks what was put together so far. It is to be called after the last Add.
func (c *Checker) End() {
	if c.first != nil && (len(c.tail) < 4 || c.sum != binary.BigEndian.Uint32(c.tail)) {
		c.Spoilt(c.first)
	}
	c.first, c.sum, c.tail = nil, 0, c.tail[:0]
}
