package pebble

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	db "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"

	"github.com/martlet-mail/martlet/internal/engine"
)

// Hole is what a repair could not read: records between two keys, as one file had them.
// What other files had of them was brought over; what was newest may be gone, and it
// is not known whether there was anything.
type Hole struct {
	File     string
	Commits  bool // the file is a log: some of the last changes, of anything
	Bodies   bool // bodies or pieces of them: those who refer to one know
	From, To Spot // of records
}

// Spot is a key of a shard.
type Spot struct {
	Shard engine.Shard
	Key   []byte
}

func spotOf(key []byte) Spot {
	if len(key) < 9 {
		key = append(bytes.Clone(key), make([]byte, 9-len(key))...)
	}
	return Spot{engine.Shard(binary.BigEndian.Uint64(key[1:])), bytes.Clone(key[9:])}
}

// hole notes that nothing can be read from one key to another, which is not part of it.
func (r *repair) hole(file string, from, to []byte) {
	h := Hole{File: file, Bodies: from[0] != spaceShards}
	if h.Bodies && slices.Contains(r.bodies, file) {
		return // one of a file says all
	}
	if h.Bodies {
		r.bodies = append(r.bodies, file)
	} else {
		h.From, h.To = spotOf(from), spotOf(to)
		if to[0] != spaceShards {
			h.To = Spot{Shard: ^engine.Shard(0)}
		}
	}
	r.done.Holes = append(r.done.Holes, h)
}

// gap reads each table by itself where a block of one cannot be read: the others have
// some of the keys there, and newer ones. Of each key the newest that is left counts.
func (r *repair) gap(from, to, upper []byte) error {
	if to == nil {
		to = upper
	}
	if from[0] != spaceShards { // only of records the tables hold all values themselves
		r.hole("", from, to)
		return nil
	}
	g := &gap{r: r, to: to}
	defer g.close()
	for _, t := range r.count.tables {
		if bytes.Compare(t.least, to) < 0 && bytes.Compare(t.most, from) >= 0 {
			g.ahead = append(g.ahead, t)
		}
	}
	slices.SortFunc(g.ahead, func(a, b tableInfo) int {
		return cmp.Or(bytes.Compare(a.least, b.least), cmp.Compare(a.backing, b.backing))
	})
	for {
		key := g.least(from)
		if key == nil {
			return nil
		}
		newest := g.take(key)
		if newest.set && newest.number >= g.deleted(key) {
			r.done.Beside++
			if err := r.put(key, newest.value); err != nil {
				return err
			}
		}
	}
}

// gap is the merge of what is left of tables between two keys.
type gap struct {
	r     *repair
	to    []byte
	ahead []tableInfo // not opened yet, by their first key
	open  []*remains
	dels  []rangeDel
}

// rangeDel says that all older keys of a range are gone.
type rangeDel struct {
	from, to []byte
	number   uint64
}

// version is a version of a key.
type version struct {
	number uint64
	set    bool
	value  []byte
}

// least returns the lowest key that a table has, nil if there is none any more. Tables are
// opened when their keys come.
func (g *gap) least(from []byte) (key []byte) {
	for {
		key = nil
		for _, t := range g.open {
			if key == nil || bytes.Compare(t.key, key) < 0 {
				key = t.key
			}
		}
		if len(g.ahead) == 0 || key != nil && bytes.Compare(g.ahead[0].least, key) > 0 {
			return key
		}
		g.enter(g.ahead[0], from)
		g.ahead = g.ahead[1:]
	}
}

func (g *gap) enter(info tableInfo, from []byte) {
	t := &remains{r: g.r, file: tableName(info.backing), from: from, to: g.to}
	if bytes.Compare(info.least, t.from) > 0 {
		t.from = info.least
	}
	if end := append(bytes.Clone(info.most), 0); bytes.Compare(end, t.to) < 0 {
		t.to = end
	}
	if !t.begin() {
		g.r.hole(t.file, t.from, t.to)
		return
	}
	g.dels = append(g.dels, t.dels()...)
	if t.next(); t.key == nil {
		t.close()
		return
	}
	g.open = append(g.open, t)
}

// take returns the newest version of a key and goes on behind it.
func (g *gap) take(key []byte) (newest version) {
	key = bytes.Clone(key)
	g.open = slices.DeleteFunc(g.open, func(t *remains) bool {
		for t.key != nil && bytes.Equal(t.key, key) {
			if t.number >= newest.number {
				newest = t.version
			}
			t.next()
		}
		if t.key == nil {
			t.close()
		}
		return t.key == nil
	})
	return newest
}

// deleted returns the number of the last deletion of a range with the key.
func (g *gap) deleted(key []byte) (number uint64) {
	for _, d := range g.dels {
		if bytes.Compare(d.from, key) <= 0 && bytes.Compare(key, d.to) < 0 {
			number = max(number, d.number)
		}
	}
	return number
}

func (g *gap) close() {
	for _, t := range g.open {
		t.close()
	}
}

// remains is what can be read of a table, key by key.
type remains struct {
	r        *repair
	file     string
	from, to []byte
	table    *sstable.Reader
	it       sstable.Iterator
	seek     []byte // where to go on, nil: at the next key
	edges    [][]byte

	key []byte // nil: at the end
	version
}

func (t *remains) begin() bool {
	f, err := t.r.disk.Open(t.r.linked(t.file)) // which finds damage at less cost than the database
	if err != nil {
		return false
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		_ = f.Close()
		return false
	}
	opts := new(db.Options)
	opts.EnsureDefaults()
	if t.table, err = sstable.NewReader(t.r.ctx, readable, opts.MakeReaderOptions()); err != nil {
		_ = readable.Close()
		return false
	}
	t.seek = t.from
	return true
}

func (t *remains) close() {
	if t.it != nil {
		_ = t.it.Close()
	}
	_ = t.table.Close()
}

// dels reads the deletions of ranges.
func (t *remains) dels() (list []rangeDel) {
	it, err := t.table.NewRawRangeDelIter(t.r.ctx, sstable.NoFragmentTransforms, sstable.NoReadEnv)
	if err != nil || it == nil {
		return nil
	}
	defer it.Close()
	for span, err := it.First(); span != nil && err == nil; span, err = it.Next() {
		if bytes.Compare(span.Start, t.to) >= 0 || bytes.Compare(span.End, t.from) <= 0 {
			continue
		}
		d := rangeDel{from: bytes.Clone(span.Start), to: bytes.Clone(span.End)}
		for _, k := range span.Keys {
			d.number = max(d.number, uint64(k.SeqNum()))
		}
		list = append(list, d)
	}
	return list
}

// next goes to the next key that can be read.
func (t *remains) next() {
	last := t.seek // the first key that was not seen
	if last == nil {
		last = append(bytes.Clone(t.key), 0)
	}
	for !t.step() && t.failed() {
		if t.edges == nil {
			t.edges = t.r.edges(t.table)
		}
		t.seek = behind(last, t.to, t.edges, func(key []byte) bool { return !t.begins(key) || t.failed() })
		end := t.seek
		if end == nil {
			end = t.to
		}
		t.r.hole(t.file, last, end)
		if t.seek == nil {
			return
		}
		last = t.seek
	}
}

func (t *remains) failed() bool { return t.it == nil || t.it.Error() != nil }

// step reads one key, at the place to go on or the next one.
func (t *remains) step() bool {
	t.key = nil
	if t.seek == nil {
		kv := t.it.Next()
		if kv != nil {
			value, _, err := kv.Value(nil)
			t.keep(kv.K.UserKey, uint64(kv.K.SeqNum()), kv.K.Kind(), value, err)
		}
		return kv != nil
	}
	if !t.begins(t.seek) {
		return false
	}
	kv := t.it.SeekGE(t.seek, 0)
	t.seek = nil
	if kv != nil {
		value, _, err := kv.Value(nil)
		t.keep(kv.K.UserKey, uint64(kv.K.SeqNum()), kv.K.Kind(), value, err)
	}
	return kv != nil
}

func (t *remains) keep(key []byte, number uint64, kind db.InternalKeyKind, value []byte, err error) {
	t.key = bytes.Clone(key)
	t.version = version{number, kind == db.InternalKeyKindSet || kind == db.InternalKeyKindSetWithDelete, bytes.Clone(value)}
	if err != nil {
		t.set = false
		t.r.hole(t.file, t.key, append(bytes.Clone(t.key), 0))
	}
}

// begins seeks a key on a new iterator: one that has failed may not be asked again.
func (t *remains) begins(key []byte) bool {
	if t.it != nil {
		_ = t.it.Close()
		t.it = nil
	}
	it, err := t.table.NewIter(sstable.NoTransforms, t.from, t.to, sstable.AssertNoBlobHandles)
	if err != nil {
		return false
	}
	t.it = it
	it.SeekGE(key, 0)
	return true
}
