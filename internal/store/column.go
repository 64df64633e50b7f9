package store

import (
	"encoding/binary"
	"math/bits"
)

// column is a list of numbers that is never changed, each as its difference to the
// least of them, in as many bytes as the largest difference takes: none at all if they
// are all the same.
type column struct {
	least uint64
	width int
	bytes []byte // pad more than there are numbers for
}

// pad is how many bytes follow packed numbers, so that eight can be read wherever one
// begins.
const pad = 8

// at returns the i-th number.
func (c *column) at(i int) uint64 {
	if c.width == 0 {
		return c.least
	}
	return c.least + binary.LittleEndian.Uint64(c.bytes[i*c.width:])&widths[c.width&15]
}

// widths are the bits of so many bytes.
var widths = [16]uint64{1: 1<<8 - 1, 2: 1<<16 - 1, 3: 1<<24 - 1, 4: 1<<32 - 1, 5: 1<<40 - 1, 6: 1<<48 - 1, 7: 1<<56 - 1, 8: 1<<64 - 1}

// unpack64 reads packed numbers from the beginning of b on, as many as there is room for.
func unpack64(room []uint64, b []byte, least uint64, width int) {
	switch width {
	case 0:
		for i := range room {
			room[i] = least
		}
	case 1:
		b = b[:len(room)]
		for i := range room {
			room[i] = least + uint64(b[i])
		}
	default:
		mask := widths[width&15]
		for i := range room {
			room[i] = least + binary.LittleEndian.Uint64(b)&mask
			b = b[width:]
		}
	}
}

// read reads the numbers from the i-th on, as many as there is room for.
func (c *column) read(room []uint64, i int) {
	unpack64(room, c.bytes[i*c.width:], c.least, c.width)
}

func newColumn(values []uint64) column {
	least, width := spanOf(values)
	c := column{least: least, width: width}
	if width > 0 {
		c.bytes = appendPacked(make([]byte, 0, width*len(values)+pad), values, least, width)
		c.bytes = c.bytes[:cap(c.bytes)]
	}
	return c
}

// spanOf returns the least number and how many bytes the largest difference to it takes.
func spanOf(values []uint64) (least uint64, width int) {
	if len(values) == 0 {
		return 0, 0
	}
	least = values[0]
	most := least
	for _, v := range values {
		least, most = min(least, v), max(most, v)
	}
	return least, (bits.Len64(most-least) + 7) / 8
}

func appendPacked(b []byte, values []uint64, least uint64, width int) []byte {
	if width == 0 {
		return b
	}
	for _, v := range values {
		b = binary.LittleEndian.AppendUint64(b, v-least)
		b = b[:len(b)-8+width]
	}
	return b
}
