package backup

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/test/memory"
)

// damaged fails unless an error is the one of something that is damaged.
func damaged(t *testing.T, err error) {
	t.Helper()
	if !fault.Is(err, fault.Corrupt) && !fault.Is(err, fault.Unsupported) {
		t.Fatal(err)
	}
}

// FuzzChunk: a chunk is refused, or has records that make the same chunk, in no more memory
// than its length is worth.
func FuzzChunk(f *testing.F) {
	c := chunk{bodies: []name{{1}, {2}}}
	c.add([]byte("a"), nil)
	c.add([]byte("b"), []byte("value"))
	f.Add(c.encode(nil))
	f.Add((&chunk{}).encode(nil))
	f.Add([]byte{chunkFormat, 200, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var bodies []name
		var entries []entry
		var err error
		memory.Bounded(t, 200*len(b), func() { bodies, entries, err = readChunk(b) })
		if err != nil {
			damaged(t, err)
			return
		}
		c := chunk{bodies: bodies}
		for _, e := range entries {
			c.add(e.key, e.value)
		}
		bodies2, entries2, err := readChunk(c.encode(nil))
		if err != nil || !reflect.DeepEqual(bodies2, bodies) || fmt.Sprint(entries2) != fmt.Sprint(entries) {
			t.Fatalf("%v %v, written anew %v %v, %v", bodies, entries, bodies2, entries2, err)
		}
	})
}

// FuzzTree: a list of chunks is refused, or is read and written again as the same.
func FuzzTree(f *testing.F) {
	f.Add((&tree{3, 900, 2, []leaf{{name{1}, []byte("a")}, {name{2}, []byte("k")}}}).encode())
	f.Add((&tree{}).encode())
	f.Add([]byte{treeFormat, 0, 0, 0, 200, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var tr *tree
		var err error
		memory.Bounded(t, 400*len(b), func() { tr, err = readTree(b) })
		if err != nil {
			damaged(t, err)
			return
		}
		again, err := readTree(tr.encode())
		if err != nil || !reflect.DeepEqual(again, tr) {
			t.Fatalf("%+v, written anew %+v, %v", tr, again, err)
		}
	})
}

// FuzzPack: the index in a file of a pack is refused, or all objects lie one behind the
// other between the two ends of the file, and written again it is the same.
func FuzzPack(f *testing.F) {
	list := []packed{
		{object: object{kindBody, name{1}}, off: int64(len(packMagic)), size: 5, needs: []name{{9}}},
		{object: object{kindTree, name{2}}, off: int64(len(packMagic)) + 5, size: 0},
	}
	index := encodeIndex(list)
	f.Add(index, uint16(5), uint64(len(index)))
	f.Add([]byte(nil), uint16(0), uint64(0))
	f.Add(index, uint16(5), uint64(1)<<63)
	f.Add(append(index[:33:33], 255, 255, 255, 255, 255, 255, 255, 255, 127), uint16(5), uint64(42))
	f.Fuzz(func(t *testing.T, index []byte, content uint16, length uint64) {
		fs := vfs.NewMem()
		d := on(fs)
		b := append([]byte(packMagic), make([]byte, content)...)
		b = binary.BigEndian.AppendUint64(append(b, index...), length)
		b = append(b, packMagic...)
		claimed := index
		if n := len(b) - footer - len(packMagic); length <= uint64(n) {
			claimed = b[len(b)-footer-int(length) : len(b)-footer]
		}
		file := packName(claimed)
		put := func() {
			w, err := d.create(file)
			if err == nil {
				_, err = w.Write(b)
				w.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		put()
		var got []packed
		var err error
		memory.Bounded(t, 400*len(b), func() { got, err = readIndex(d, file) })
		if err != nil {
			damaged(t, err)
			return
		}
		at := int64(len(packMagic))
		for _, p := range got {
			if p.off != at || p.size < 0 {
				t.Fatalf("%+v does not follow at %d", p, at)
			}
			at += p.size
		}
		if at+int64(length)+int64(footer) != int64(len(b)) {
			t.Fatalf("the objects end at %d of %d", at, len(b))
		}
		again, err := decodeIndex(encodeIndex(got))
		if err != nil || !reflect.DeepEqual(again, got) {
			t.Fatalf("%+v, written anew %+v, %v", got, again, err)
		}
	})
}

// FuzzSnapshot: what a file of a snapshot says is refused, or is read and written again as
// the same, with its shards in order; the whole file counts under its own name, with its
// sum, and not a byte shorter.
func FuzzSnapshot(f *testing.F) {
	at := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	s := snapshot{
		head: snapHead{snapFormat, "1.0 <x>", at, true, ourSchema()}, end: snapEnd{Accounts: 1, Lost: []string{"a"}},
		shards: []snapShard{{Shard: 2, Tree: strings.Repeat("ab", 32)}, {Shard: 1 << 33, Tree: strings.Repeat("0", 64), Sign: "x"}},
	}
	b, err := s.encode()
	if err != nil {
		f.Fatal(err)
	}
	body := b[:bytes.LastIndexByte(b[:len(b)-1], '\n')+1]
	f.Add(body)
	f.Add(bytes.Replace(body, []byte(`"martlet_snapshot":1`), []byte(`"martlet_snapshot":2`), 1))
	f.Add([]byte("{}\n{}\n"))
	s.shards[0], s.shards[1] = s.shards[1], s.shards[0]
	if b, err = s.encode(); err != nil {
		f.Fatal(err)
	}
	f.Add(b[:bytes.LastIndexByte(b[:len(b)-1], '\n')+1])
	f.Fuzz(func(t *testing.T, b []byte) {
		var s *snapshot
		var err error
		memory.Bounded(t, 200*len(b)+64<<10, func() { s, err = decodeSnapshot(b) })
		if err != nil {
			damaged(t, err)
			return
		}
		for i := range s.shards {
			if i > 0 && s.shards[i].Shard <= s.shards[i-1].Shard {
				t.Fatalf("the shards are not in order: nobody would find %d", s.shards[i].Shard)
			}
		}
		if s.head.Format != snapFormat {
			t.Fatalf("format %d is read", s.head.Format)
		}
		written, err := s.encode()
		if err != nil {
			t.Fatal(err)
		}
		fs := vfs.NewMem()
		d := on(fs)
		file := snapName(s.head.Time)
		read := func(b []byte) (*snapshot, error) {
			w, err := d.create(file)
			if err == nil {
				_, err = w.Write(b)
				w.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
			return readSnapshot(d, file)
		}
		again, err := read(written)
		if err != nil {
			if strings.Contains(file, "/") || len(file) != len(snapName(time.Unix(0, 0))) {
				return // a year that has no name
			}
			t.Fatalf("%+v, written anew: %v", s, err)
		}
		if again.file = ""; !again.head.Time.Equal(s.head.Time) {
			t.Fatalf("%v became %v", s.head.Time, again.head.Time)
		}
		again.head.Time = s.head.Time
		if fmt.Sprintf("%+v", again) != fmt.Sprintf("%+v", s) {
			t.Fatalf("%+v, written anew %+v", s, again)
		}
		if _, err := read(written[:len(written)-1]); err == nil {
			t.Fatal("it is read though it is cut")
		}
		written[len(written)/2] ^= 1
		if _, err := read(written); err == nil {
			t.Fatal("it is read though it is damaged")
		}
	})
}
