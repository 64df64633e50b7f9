//go:build linux

package forgetful

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"syscall"
)

// Sizes of what a disk writes: what is dirty is noted by page, and of a page that was not
// synced each sector may be there or not.
const (
	page   = 4096
	sector = 512
)

// node is a file or a directory, twice: as programs see it, and as a power cut would leave
// it.
type node struct {
	id   uint64
	dir  bool
	mode uint32 // with the type

	data, kept []byte         // of a file
	dirty      map[int64]bool // pages of data that are not in kept

	names, keptNames map[string]*node // of a directory
}

// entry is one name of a directory and what it leads to; nil is nothing.
type entry struct {
	dir  *node
	name string
	to   *node
}

// change is one call that changed directories: a power cut leaves all of it or nothing.
type change []entry

func (c change) touches(dirs []*node) bool {
	return slices.ContainsFunc(c, func(e entry) bool { return slices.Contains(dirs, e.dir) })
}

// tree is all nodes, and the changes of directories that were not synced, in order.
type tree struct {
	nodes   map[uint64]*node
	last    uint64
	pending []change
}

const rootID = 1

func newTree() *tree {
	t := &tree{nodes: map[uint64]*node{}}
	t.add(syscall.S_IFDIR | 0o755)
	return t
}

func (t *tree) root() *node { return t.nodes[rootID] }

func (t *tree) add(mode uint32) *node {
	t.last++
	n := &node{id: t.last, dir: mode&syscall.S_IFMT == syscall.S_IFDIR, mode: mode}
	if n.dir {
		n.names, n.keptNames = map[string]*node{}, map[string]*node{}
	} else {
		n.dirty = map[int64]bool{}
	}
	t.nodes[n.id] = n
	return n
}

// apply makes a change that programs see at once.
func (t *tree) apply(c change) {
	for _, e := range c {
		set(e.dir.names, e.name, e.to)
	}
	t.pending = append(t.pending, c)
}

func set(names map[string]*node, name string, to *node) {
	if to == nil {
		delete(names, name)
	} else {
		names[name] = to
	}
}

func (c change) keep() {
	for _, e := range c {
		set(e.dir.keptNames, e.name, e.to)
	}
}

// write writes as pwrite does.
func (n *node) write(b []byte, off int64) {
	end := off + int64(len(b))
	if end > int64(len(n.data)) {
		n.resize(end)
	}
	copy(n.data[off:], b)
	for p := off / page; p*page < end; p++ {
		n.dirty[p] = true
	}
}

// resize makes a file longer by zeros, or shorter. Pages that are cut off are dirty:
// should the file grow again they are zeros, whatever is kept of them.
func (n *node) resize(size int64) {
	old := int64(len(n.data))
	if size > old {
		n.data = append(n.data, make([]byte, size-old)...)
	} else {
		clear(n.data[size:])
		n.data = n.data[:size]
	}
	for p := min(old, size) / page; p*page < max(old, size); p++ {
		n.dirty[p] = true
	}
}

// sync makes a file durable.
func (n *node) sync() {
	n.keepSize(int64(len(n.data)))
	for p := range n.dirty {
		n.keepBytes(p*page, page)
	}
	clear(n.dirty)
}

func (n *node) keepSize(size int64) {
	if old := int64(len(n.kept)); size > old {
		n.kept = append(n.kept, make([]byte, size-old)...)
	} else {
		clear(n.kept[size:])
		n.kept = n.kept[:size]
	}
}

// keepBytes makes a part of a file durable, as far as the durable file reaches.
func (n *node) keepBytes(off, count int64) {
	end := min(off+count, int64(len(n.data)), int64(len(n.kept)))
	if off < end {
		copy(n.kept[off:end], n.data[off:end])
	}
}

// syncDir makes a directory durable: the changes that touched it, and of others what came
// before these in the same places.
func (t *tree) syncDir(d *node) {
	dirs := []*node{d}
	due := make([]bool, len(t.pending))
	for i, c := range slices.Backward(t.pending) {
		if due[i] = c.touches(dirs); due[i] {
			for _, e := range c {
				dirs = append(dirs, e.dir)
			}
		}
	}
	left := t.pending[:0:0]
	for i, c := range t.pending {
		if due[i] {
			c.keep()
		} else {
			left = append(left, c)
		}
	}
	t.pending = left
}

// cut takes the power away. Of each thing that was not synced it leaves a share: sectors,
// sizes and changes of directories, each by itself. What nothing leads to is gone.
func (t *tree) cut(rng *rand.Rand, share float64) {
	luck := func() bool { return share > 0 && rng.Float64() < share }
	for _, c := range t.pending {
		if luck() {
			c.keep()
		}
	}
	t.pending = nil
	alive := map[uint64]*node{}
	t.root().settle(alive, luck)
	t.nodes = alive
}

// settle leaves a node, and all below it, as the power cut does.
func (n *node) settle(alive map[uint64]*node, luck func() bool) {
	if alive[n.id] != nil {
		return
	}
	alive[n.id] = n
	if n.dir {
		n.names = map[string]*node{}
		for _, name := range sorted(n.keptNames) {
			n.names[name] = n.keptNames[name]
			n.names[name].settle(alive, luck)
		}
		return
	}
	if len(n.data) != len(n.kept) && luck() {
		n.keepSize(int64(len(n.data)))
	}
	for _, p := range sorted(n.dirty) {
		for off := p * page; off < (p+1)*page; off += sector {
			if luck() {
				n.keepBytes(off, sector)
			}
		}
	}
	n.data = bytes.Clone(n.kept)
	clear(n.dirty)
}

func sorted[K int64 | string, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
