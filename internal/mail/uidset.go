package mail

import (
	"encoding/binary"
	"errors"
	"iter"
	"slices"
	"sort"
	"strconv"
)

// Range is a run of UIDs, both ends in it; From <= To.
type Range struct{ From, To UID }

// UIDSet is a set of UIDs as sorted ranges that neither touch nor overlap. The zero
// value is empty.
type UIDSet []Range

// SetOf returns the set of the given UIDs, in any order.
func SetOf(uids ...UID) UIDSet {
	if !slices.IsSorted(uids) {
		uids = slices.Clone(uids)
		slices.Sort(uids)
	}
	var s UIDSet
	for _, u := range uids {
		s.Add(u)
	}
	return s
}

// Add puts one UID in. It is O(1) at the end and O(ranges) elsewhere.
func (s *UIDSet) Add(u UID) { s.AddRange(u, u) }

// AddRange puts in all UIDs between from and to, in whichever order they stand.
func (s *UIDSet) AddRange(from, to UID) {
	if from > to {
		from, to = to, from
	}
	set := *s
	n := len(set)
	if n == 0 || uint64(set[n-1].To)+1 < uint64(from) {
		*s = append(set, Range{from, to})
		return
	}
	if set[n-1].To == from-1 { // the next one, as most come
		set[n-1].To = to
		return
	}
	// i: first range that touches or follows; j: first one wholly after.
	i := sort.Search(len(set), func(i int) bool { return uint64(set[i].To)+1 >= uint64(from) })
	j := sort.Search(len(set), func(j int) bool { return uint64(set[j].From) > uint64(to)+1 })
	if i < j {
		from, to = min(from, set[i].From), max(to, set[j-1].To)
	}
	*s = slices.Replace(set, i, j, Range{from, to})
}

// Contains tells whether u is in s, in O(log ranges).
func (s UIDSet) Contains(u UID) bool {
	i := sort.Search(len(s), func(i int) bool { return s[i].To >= u })
	return i < len(s) && s[i].From <= u
}

// Len returns how many UIDs are in s.
func (s UIDSet) Len() int {
	n := 0
	for _, r := range s {
		n += int(r.To-r.From) + 1
	}
	return n
}

// IsEmpty tells whether s has no UID.
func (s UIDSet) IsEmpty() bool { return len(s) == 0 }

// All yields the UIDs in rising order.
func (s UIDSet) All() iter.Seq[UID] {
	return func(yield func(UID) bool) {
		for _, r := range s {
			for u := uint64(r.From); u <= uint64(r.To); u++ {
				if !yield(UID(u)) {
					return
				}
			}
		}
	}
}

// String returns s as IMAP writes it: 1:3,7 (RFC 9051, 9 "sequence-set").
func (s UIDSet) String() string { return string(s.AppendText(nil)) }

// AppendText appends the IMAP form to b.
func (s UIDSet) AppendText(b []byte) []byte {
	for i, r := range s {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(r.From), 10)
		if r.To != r.From {
			b = append(b, ':')
			b = strconv.AppendUint(b, uint64(r.To), 10)
		}
	}
	return b
}

// AppendBinary appends a compact form for records: the number of ranges, then for
// each the gap and the length, as varints.
func (s UIDSet) AppendBinary(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	var last UID
	for _, r := range s {
		b = binary.AppendUvarint(b, uint64(r.From-last))
		b = binary.AppendUvarint(b, uint64(r.To-r.From))
		last = r.To
	}
	return b
}

var errUIDSet = errors.New("broken UID set")

// ParseBinaryUIDSet reads what AppendBinary wrote and returns what follows it.
func ParseBinaryUIDSet(b []byte) (UIDSet, []byte, error) {
	n, k := binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)) {
		return nil, nil, errUIDSet
	}
	b = b[k:]
	s := make(UIDSet, 0, n)
	var last uint64
	for i := range n {
		gap, k := binary.Uvarint(b)
		if k <= 0 {
			return nil, nil, errUIDSet
		}
		span, k2 := binary.Uvarint(b[k:])
		if k2 <= 0 || (i > 0 && gap < 2) || gap > 1<<32 || span > 1<<32 || last+gap+span > 1<<32-1 {
			return nil, nil, errUIDSet
		}
		b = b[k+k2:]
		s = append(s, Range{UID(last + gap), UID(last + gap + span)})
		last += gap + span
	}
	return s, b, nil
}
