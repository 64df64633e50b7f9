package backup

import (
	"encoding/binary"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/record"
)

// name is the name of an object: SHA-256 of a chunk or tree before compression; of a body
// the name that the engine has for it.
type name = mail.BlobRef

// Chunks. Where one ends depends on the key and size of the entry that begins the next and
// on nothing else, so that a change moves no boundary but near it.
const (
	chunkMean   = 32 << 10
	chunkMost   = 128 << 10 // a chunk with one entry may be larger
	chunkFormat = 1
)

// chunk is records of a shard in order of key, and which bodies these refer to.
type chunk struct {
	bodies  []name
	entries []byte // length of key, key, length of value, value
	first   []byte // key
	records int
}

func (c *chunk) size() int { return len(c.entries) }

// begins tells whether a chunk begins with this entry, which has about size bytes: as
// likely as it takes up of a chunk.
func begins(key []byte, size int) bool {
	h := uint64(14695981039346656037) // FNV-1a, and its bits mixed
	for _, c := range key {
		h = (h ^ uint64(c)) * 1099511628211
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	return h>>40*chunkMean < uint64(size)<<24
}

// add takes one more entry.
func (c *chunk) add(key, value []byte) {
	if c.records == 0 {
		c.first = append(c.first[:0], key...)
	}
	c.records++
	c.entries = appendBytes(appendBytes(c.entries, key), value)
}

func (c *chunk) reset() { c.bodies, c.entries, c.records = c.bodies[:0], c.entries[:0], 0 }

// encode appends the chunk's content to b.
func (c *chunk) encode(b []byte) []byte {
	b = append(b, chunkFormat)
	b = binary.AppendUvarint(b, uint64(len(c.bodies)))
	for i := range c.bodies {
		b = append(b, c.bodies[i][:]...)
	}
	return append(b, c.entries...)
}

func appendBytes(b, s []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// entry is one record.
type entry struct{ key, value []byte }

// readChunk reads what encode wrote. The entries alias b.
func readChunk(b []byte) (bodies []name, entries []entry, err error) {
	d := record.Dec{Rest: b}
	if d.Byte() != chunkFormat {
		return nil, nil, errChunk
	}
	for range d.Count() {
		bodies = append(bodies, takeName(&d))
	}
	for len(d.Rest) > 0 {
		e := entry{key: d.Bytes(), value: d.Bytes()}
		if len(e.key) == 0 {
			return nil, nil, errChunk
		}
		entries = append(entries, e)
	}
	if d.Err("chunk") != nil {
		return nil, nil, errChunk
	}
	return bodies, entries, nil
}

var errChunk = fault.New(fault.Corrupt, "a chunk in the backup is not in a form that this version knows")

// tree is the chunks of one shard, in order of key.
type tree struct {
	records, bytes, messages int64
	chunks                   []leaf
}

type leaf struct {
	name  name
	first []byte // key
}

const treeFormat = 1

func (t *tree) encode() []byte {
	b := []byte{treeFormat}
	for _, n := range [...]int64{t.records, t.bytes, t.messages, int64(len(t.chunks))} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	for i := range t.chunks {
		b = appendBytes(append(b, t.chunks[i].name[:]...), t.chunks[i].first)
	}
	return b
}

func readTree(b []byte) (*tree, error) {
	d := record.Dec{Rest: b}
	if d.Byte() != treeFormat {
		return nil, errTree
	}
	t := &tree{records: int64(d.U()), bytes: int64(d.U()), messages: int64(d.U())}
	for range d.Count() {
		t.chunks = append(t.chunks, leaf{takeName(&d), d.Bytes()})
	}
	if d.End("tree") != nil {
		return nil, errTree
	}
	return t, nil
}

var errTree = fault.New(fault.Corrupt, "the list of a shard's chunks in the backup is not in a form that this version knows")

func takeName(d *record.Dec) (n name) {
	copy(n[:], d.Take(uint64(len(n))))
	return n
}
