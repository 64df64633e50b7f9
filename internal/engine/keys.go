package engine

import "encoding/binary"

// Key helpers. A key is a family byte, then numbers in big-endian, so that byte
// order is numeric order.

// Key returns a key of a family and numbers of 8 bytes each.
func Key(family byte, nums ...uint64) []byte {
	k := make([]byte, 1, 1+8*len(nums))
	k[0] = family
	for _, n := range nums {
		k = binary.BigEndian.AppendUint64(k, n)
	}
	return k
}

// KeyString returns a key of a family and a string.
func KeyString(family byte, s string) []byte {
	return append([]byte{family}, s...)
}

// Num returns the i-th number of a key made by Key, or 0 if the key is too short.
func Num(key []byte, i int) uint64 {
	at := 1 + 8*i
	if len(key) < at+8 {
		return 0
	}
	return binary.BigEndian.Uint64(key[at:])
}

// After returns the first key that does not begin with prefix, or nil if there is
// none: the upper bound of a scan over a prefix.
func After(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] != 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return nil
}
