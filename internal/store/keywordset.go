package store

// KeywordSet is a set of keywords as a bit string; bit i stands for the i-th of the
// mailbox's Keywords. It has no trailing zero bytes, so equal sets are ==.
type KeywordSet string

// Has tells whether the i-th keyword is in.
func (k KeywordSet) Has(i int) bool { return i>>3 < len(k) && k[i>>3]&(1<<(i&7)) != 0 }

// with returns k with the bits of other put in (on) or taken out.
func (k KeywordSet) with(other KeywordSet, on bool) KeywordSet {
	b := make([]byte, max(len(k), len(other)))
	copy(b, k)
	for i := range len(other) {
		if on {
			b[i] |= other[i]
		} else {
			b[i] &^= other[i]
		}
	}
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return KeywordSet(b)
}

// keywordBit returns the set of just the i-th keyword.
func keywordBit(i int) KeywordSet {
	b := make([]byte, i>>3+1)
	b[i>>3] = 1 << (i & 7)
	return KeywordSet(b)
}
