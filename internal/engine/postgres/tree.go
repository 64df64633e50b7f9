package postgres

import (
	"bytes"

	"github.com/tidwall/btree"
)

// tree is what is known of the records of a shard in one state: of some keys whether they
// are there and with what value, and of some stretches between keys that nothing is in
// them. What is not known is to be read.
//
// A copy costs nothing until one of the two is changed. Many may read a tree at a time,
// also while a copy of it is changed.
type tree struct {
	b     *btree.BTreeG[item]
	bytes int64 // about what it occupies
	cold  int64 // of that, values of items that are cold
}

// item is what is known of a key and of the stretch behind it.
type item struct {
	key, value []byte // not to be changed
	what       what
	void       bool // there is nothing between this key and that of the next item, or the end
	cold       bool // written once, or passed by a scan: not likely to be asked for soon
}

type what uint8

const (
	unknown what = iota
	absent
	present
)

// itemBytes is what an item costs beside its key and value.
const itemBytes = 96

func (it *item) size() int64 { return int64(len(it.key)+len(it.value)) + itemBytes }

func (it *item) coldSize() int64 {
	if it.cold {
		return int64(len(it.value))
	}
	return 0
}

// newTree returns a tree that knows nothing. Its first item stands before all keys, which
// are never empty.
func newTree() *tree {
	t := &tree{b: btree.NewBTreeGOptions(func(a, b item) bool { return bytes.Compare(a.key, b.key) < 0 }, btree.Options{NoLocks: true, Degree: 16})}
	t.set(item{what: absent})
	return t
}

func (t *tree) copy() *tree { return &tree{b: t.b.Copy(), bytes: t.bytes, cold: t.cold} }

func (t *tree) set(it item) {
	was, there := t.b.Set(it)
	t.bytes, t.cold = t.bytes+it.size(), t.cold+it.coldSize()
	if there {
		t.bytes, t.cold = t.bytes-was.size(), t.cold-was.coldSize()
	}
}

func (t *tree) drop(key []byte) {
	if was, there := t.b.Delete(item{key: key}); there {
		t.bytes, t.cold = t.bytes-was.size(), t.cold-was.coldSize()
	}
}

// trim forgets the values of cold items.
func (t *tree) trim() {
	var list []item
	t.b.Scan(func(it item) bool {
		if it.cold {
			list = append(list, item{key: it.key, what: unknown, void: it.void})
		}
		return true
	})
	for _, it := range list {
		t.set(it)
	}
}

// at returns the item of a key, or the one before it.
func (t *tree) at(key []byte) (it item, exact bool) {
	t.b.Descend(item{key: key}, func(found item) bool {
		it = found
		return false
	})
	return it, len(it.key) == len(key) && bytes.Equal(it.key, key)
}

// before returns the last item in front of a key, nil for the end; false if the key is empty.
func (t *tree) before(key []byte) (it item, ok bool) {
	look := func(found item) bool {
		if key != nil && bytes.Equal(found.key, key) {
			return true
		}
		it, ok = found, true
		return false
	}
	if key == nil {
		t.b.Reverse(look)
	} else {
		t.b.Descend(item{key: key}, look)
	}
	return it, ok
}

// get returns the value of a key, and what is known of it.
func (t *tree) get(key []byte) ([]byte, what) {
	if it, ok := t.b.Get(item{key: key}); ok {
		return it.value, it.what
	}
	if it, _ := t.at(key); it.void {
		return nil, absent
	}
	return nil, unknown
}

// put makes a key be there. Key and value must not be changed afterwards.
func (t *tree) put(key, value []byte) {
	it, exact := t.at(key)
	t.set(item{key: key, value: value, what: present, void: it.void, cold: !exact})
}

// remove makes a key not be there.
func (t *tree) remove(key []byte) {
	it, exact := t.at(key)
	if exact || !it.void {
		t.set(item{key: key, what: absent, void: exact && it.void})
	}
}

// each calls fn for the items in [from, to).
func (t *tree) each(from, to []byte, fn func(item) bool) {
	t.b.Ascend(item{key: from}, func(it item) bool {
		return (to == nil || bytes.Compare(it.key, to) < 0) && fn(it)
	})
}

// clear takes out the items in [from, to).
func (t *tree) clear(from, to []byte) {
	var keys [][]byte
	t.each(from, to, func(it item) bool { keys = append(keys, it.key); return true })
	for _, k := range keys {
		t.drop(k)
	}
}

// border sees to it that there is an item at a key, without saying anything new.
func (t *tree) border(key []byte) {
	if key == nil {
		return
	}
	it, exact := t.at(key)
	switch {
	case exact:
	case it.void:
		t.set(item{key: key, what: absent, void: true})
	default:
		t.set(item{key: key, what: unknown})
	}
}

// removeRange makes there be nothing in [from, to).
func (t *tree) removeRange(from, to []byte) {
	t.border(to)
	t.clear(from, to)
	if it, ok := t.before(from); !ok || from == nil || !it.void {
		t.set(item{key: orEmpty(from), what: absent, void: true})
	}
}

// orEmpty keeps the first key of all apart from nil, which means the end.
func orEmpty(key []byte) []byte {
	if key == nil {
		return []byte{}
	}
	return key
}

// learn notes that [from, to) holds these records, as far as nothing is known of it yet:
// what is known may be newer.
func (t *tree) learn(from, to []byte, records []record) {
	from = orEmpty(from)
	t.border(to)
	t.border(from)
	var known []item
	t.each(from, to, func(it item) bool {
		if it.what == unknown || !it.void {
			known = append(known, it)
		}
		return true
	})
	i := 0
	for _, it := range known {
		for i < len(records) && bytes.Compare(records[i].key, it.key) < 0 {
			i++
		}
		if it.what == unknown {
			if it.what = absent; i < len(records) && bytes.Equal(records[i].key, it.key) {
				it.what, it.value, it.cold = present, records[i].value, true
			}
			t.set(it)
		}
	}
	for _, r := range records {
		if _, w := t.get(r.key); w == unknown {
			t.set(item{key: r.key, value: r.value, what: present, cold: true})
		}
	}
	var open []item
	t.each(from, to, func(it item) bool {
		if !it.void {
			open = append(open, it)
		}
		return true
	})
	for _, it := range open {
		it.void = true
		t.set(it)
	}
}

// learnKey notes what one key holds, if nothing is known of it yet.
func (t *tree) learnKey(key, value []byte, there bool) {
	it, exact := t.at(key)
	if exact && it.what != unknown || !exact && it.void {
		return
	}
	learned := item{key: key, what: absent, void: exact && it.void}
	if there {
		learned.what, learned.value = present, value
	}
	t.set(learned)
}

// forget makes a key unknown.
func (t *tree) forget(key []byte) {
	it, exact := t.at(key)
	if exact || it.void {
		t.set(item{key: key, what: unknown, void: it.void})
	}
}

// forgetRange makes [from, to) unknown.
func (t *tree) forgetRange(from, to []byte) {
	t.border(to)
	t.clear(from, to)
	it, ok := t.before(from)
	switch {
	case !ok || from == nil:
		t.set(item{key: []byte{}, what: absent})
	case it.void:
		t.set(item{key: from, what: unknown})
	}
}

// hides tells whether all that was touched within [from, to) is known: then what is learnt of
// the stretch afterwards does not show it.
func (t *tree) hides(d *touched, from, to []byte) bool {
	if d.all {
		return false
	}
	for _, k := range d.keys {
		if bytes.Compare(k, from) >= 0 && (to == nil || bytes.Compare(k, to) < 0) {
			if _, w := t.get(k); w == unknown {
				return false
			}
		}
	}
	for _, s := range d.spans {
		if (s.to == nil || bytes.Compare(from, s.to) < 0) && (to == nil || bytes.Compare(s.from, to) < 0) {
			return false // it may have taken away what nobody here knows of
		}
	}
	return true
}

// record is a key and its value.
type record struct{ key, value []byte }

// walkForward appends the records of [from, to) that are known up to the first thing that
// is not, at most so many, and returns where it stopped: nil at the end.
func (t *tree) walkForward(list []record, from, to []byte, most int) (_ []record, next []byte, known bool) {
	it, exact := t.at(from)
	if !exact && !it.void {
		return list, from, false
	}
	next, known = nil, true
	var gap []byte // behind a key of which is not known what follows: unless the next one does at once
	t.each(from, to, func(it item) bool {
		if gap != nil && !bytes.Equal(gap, it.key) {
			return false
		}
		gap = nil
		if it.what == unknown || most == 0 {
			next, known = it.key, it.what != unknown
			return false
		}
		if it.what == present {
			list = append(list, record{it.key, it.value})
			most--
		}
		if !it.void {
			gap = after(it.key)
		}
		return true
	})
	if gap != nil {
		next, known = gap, false
	}
	if next != nil && to != nil && bytes.Compare(next, to) >= 0 {
		return list, nil, true
	}
	return list, next, known
}

// walkBack is walkForward from the end: what it returns as next is the end of what is left.
// done tells that nothing is left.
func (t *tree) walkBack(list []record, from, to []byte, most int) (_ []record, next []byte, known, done bool) {
	next, known, done = to, true, true
	visit := func(it item) bool {
		if to != nil && bytes.Compare(it.key, to) >= 0 {
			return true
		}
		below := bytes.Compare(it.key, from) < 0
		switch {
		case !it.void && !(next != nil && bytes.Equal(next, after(it.key))):
			known, done = false, next != nil && bytes.Compare(next, from) <= 0
			return false
		case below:
			return false
		case it.what == unknown:
			next, known, done = after(it.key), false, false
			return false
		case most == 0:
			next, done = after(it.key), false
			return false
		}
		if it.what == present {
			list = append(list, record{it.key, it.value})
			most--
		}
		next = it.key
		return true
	}
	if to == nil {
		t.b.Reverse(visit)
	} else {
		t.b.Descend(item{key: to}, visit)
	}
	return list, next, known, done
}

// after returns the key that follows a key at once.
func after(key []byte) []byte {
	next := make([]byte, len(key)+1)
	copy(next, key)
	return next
}
