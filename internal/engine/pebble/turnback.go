package pebble

import (
	"bytes"
	"context"
	"hash/crc32"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// castagnoliReversed is the polynomial of CRC-32C, its lowest power in the highest bit.
const castagnoliReversed = 0x82F63B78

// turnedBit finds the one bit that was turned over in bytes of which the CRC-32C is known.
// In less than 2^31 bits there is at most one such bit, and two or three turned bits are
// never taken for one.
func turnedBit(b []byte, want uint32) (at int, bit byte, ok bool) {
	wrong := crc32.Checksum(b, castagnoli) ^ want
	if wrong == 0 {
		return 0, 0, false
	}
	r := uint32(castagnoliReversed) // what the last bit does to the checksum
	for at := len(b) - 1; at >= 0; at-- {
		for bit := 7; bit >= 0; bit-- {
			if r == wrong {
				return at, 1 << bit, true
			}
			if r&1 != 0 {
				r = r>>1 ^ castagnoliReversed
			} else {
				r >>= 1
			}
		}
	}
	return 0, 0, false
}

// turnBack returns what a file held if one bit of it was turned over, nil if it was more.
func turnBack(b []byte, f extent) []byte {
	if int64(len(b)) < f.size {
		return nil
	}
	at, bit, ok := turnedBit(b[:f.size], f.sum)
	if !ok {
		return nil
	}
	b = bytes.Clone(b)
	b[at] ^= bit
	return b
}

// linkTable takes a table or blob file as it is, or as it was if one bit of it is another, or
// with the end that it had.
func (r *repair) linkTable(w *witness, name string) error {
	f, listed := w.sums[name]
	damaged := false
	if listed {
		wrong, err := w.holds(f)
		damaged = err != nil || wrong != ""
	}
	if damaged {
		b, err := readWhole(r.fs, r.old(name))
		if err == nil && int64(len(b)) == f.size {
			if b = turnBack(b, f); b != nil && r.fits(name, b) {
				r.done.Turned = append(r.done.Turned, name)
				return r.write(name, b)
			}
		}
	}
	if damaged || !listed {
		if b := r.withEnd(name, f); b != nil {
			if crc32.Checksum(b, castagnoli) == f.sum && listed {
				r.done.Turned = append(r.done.Turned, name)
			}
			return r.write(name, b)
		}
	}
	return r.fs.Link(r.old(name), r.linked(name))
}

// fits tells whether all blocks of a table are whole. Of much damage a single bit may be
// the answer too, once in a hundred times, and a wrong one. A blob file says too little of
// its blocks; each value in it has a checksum of its own.
func (r *repair) fits(name string, b []byte) bool {
	if isBlobFile(name) {
		return true
	}
	fs := vfs.NewMem()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return false
	}
	if _, err := f.Write(b); err != nil || f.Close() != nil {
		return false
	}
	if f, err = fs.Open(name); err != nil {
		return false
	}
	return checkBlocks(context.WithoutCancel(r.ctx), f) == nil
}
