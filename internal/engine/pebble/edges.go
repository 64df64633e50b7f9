package pebble

import (
	"bytes"
	"slices"

	db "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/sstable/block/blockkind"
	"github.com/cockroachdb/pebble/v2/sstable/colblk"
)

// Between a key and the end of a damaged block every seek fails. So where reading works again
// a block of some table begins, and which of these comes first is tried one by one: behind it
// others may be damaged, too.

// edges returns the keys from which on a table reads its next block, in order; none if its index
// cannot be read.
func (r *repair) edges(table *sstable.Reader) (keys [][]byte) {
	format, err := table.TableFormat()
	if err != nil || !format.BlockColumnar() {
		return nil
	}
	l, err := table.Layout()
	if err != nil {
		return nil
	}
	for _, h := range l.Index {
		b, err := table.BlockReader().Read(r.ctx, block.NoReadEnv, nil, h, blockkind.Index, colblk.InitIndexBlockMetadata)
		if err != nil {
			continue
		}
		var it colblk.IndexIter
		if it.InitHandle(db.DefaultComparer, b, block.NoTransforms) != nil {
			b.Release()
			continue
		}
		for ok := it.First(); ok; ok = it.Next() {
			keys = append(keys, append(bytes.Clone(it.Separator()), 0))
		}
		_ = it.Close()
	}
	return keys
}

// allEdges returns the keys at which the database begins to read a block of any table.
func (r *repair) allEdges() [][]byte {
	if r.known != nil {
		return r.known
	}
	r.known = [][]byte{}
	for _, info := range r.count.tables {
		r.known = append(r.known, info.least, append(bytes.Clone(info.most), 0))
		t := remains{r: r, file: tableName(info.backing)}
		if t.begin() {
			r.known = append(r.known, r.edges(t.table)...)
			t.close()
		}
	}
	slices.SortFunc(r.known, bytes.Compare)
	r.known = slices.CompactFunc(r.known, bytes.Equal)
	return r.known
}

// behind returns the first key from which on reading works again, nil if there is none below
// upper: one of the edges, or what a search finds where those are not known.
func behind(from, upper []byte, edges [][]byte, fails func(key []byte) bool) []byte {
	at, _ := slices.BinarySearchFunc(edges, from, bytes.Compare)
	for _, key := range edges[at:] {
		if bytes.Compare(key, upper) >= 0 {
			break
		}
		if !bytes.Equal(key, from) && !fails(key) {
			return key
		}
	}
	return search(from, upper, fails)
}

// search finds one of the keys from which on reading works again, nil if there is none below
// upper: behind the last place of some at which it fails, byte by byte.
func search(from, upper []byte, fails func(key []byte) bool) []byte {
	const longest = 64 // of keys that begin alike; behind that a few are left out
	var key []byte
	for len(key) < longest {
		low, high := -1, 255 // the greatest byte with which it fails
		for low < high {
			mid := (low + high + 1) / 2
			if probe := append(bytes.Clone(key), byte(mid)); bytes.Compare(probe, from) <= 0 || fails(probe) {
				low = mid
			} else {
				high = mid - 1
			}
		}
		if low < 0 {
			break
		}
		key = append(key, byte(low))
	}
	next := append(key, 0)
	if bytes.Compare(next, from) <= 0 {
		next = append(bytes.Clone(from), 0)
	}
	if bytes.Compare(next, upper) >= 0 || fails(next) {
		return nil
	}
	return next
}
