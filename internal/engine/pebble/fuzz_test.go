package pebble

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"reflect"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/test/memory"
)

// FuzzHeader: the header of a blob is refused, or read and written again as the same; one
// with a checksum holds under its own name only.
func FuzzHeader(f *testing.F) {
	name, other := mail.BlobRef{1}, mail.BlobRef{2}
	full := header{time.UnixMilli(1<<40 + 1), 77, []mail.BlobRef{{9}, {8}}}
	f.Add(full.encode(name), true)
	f.Add(header{at: time.UnixMilli(-1)}.encode(name), true)
	old := full.encode(name)
	old[0] = blobNeeds
	f.Add(old[:len(old)-4], false)
	old = bytes.Clone(old[:headerBytes])
	old[0] = blobVersion
	f.Add(old, false)
	f.Fuzz(func(t *testing.T, b []byte, sum bool) {
		if sum && len(b) >= 4 {
			n := len(b) - 4
			b = binary.BigEndian.AppendUint32(bytes.Clone(b[:n]), headerSum(name, b[:n]))
		}
		var h header
		var err error
		memory.Bounded(t, 4*len(b), func() { h, err = decodeHeader(name, b) })
		if err != nil {
			if !fault.Is(err, fault.Corrupt) {
				t.Fatal(err)
			}
			return
		}
		again, err := decodeHeader(name, h.encode(name))
		if err != nil || !again.at.Equal(h.at) || again.size != h.size || !reflect.DeepEqual(again.needs, h.needs) {
			t.Fatalf("%+v, %+v, %v", h, again, err)
		}
		if _, err := decodeHeader(other, h.encode(name)); err == nil {
			t.Fatal("the header is good for another blob")
		}
	})
}

// FuzzSlot: a slot of the list of synced files, with the right checksum, is refused, or read
// and written again as the same, wherever it ends.
func FuzzSlot(f *testing.F) {
	w := witness{number: 7, synced: []extent{{"000002.log", 99, 5}, {"MANIFEST-000001", 1 << 40, 1}}}
	f.Add(w.encode())
	f.Add((&witness{}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 8 {
			return
		}
		b = bytes.Clone(b)
		binary.BigEndian.PutUint32(b, uint32(len(b)))
		binary.BigEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b[:len(b)-4], castagnoli))
		var got witness
		var ok bool
		memory.Bounded(t, 32*len(b), func() { got.number, got.synced, ok = decodeSlot(append(b, make([]byte, 40)...)) })
		if !ok {
			return
		}
		number, synced, ok := decodeSlot(got.encode())
		if !ok || number != got.number || !reflect.DeepEqual(synced, got.synced) {
			t.Fatalf("%d %+v, written anew %v %d %+v", got.number, got.synced, ok, number, synced)
		}
	})
}

// FuzzSums: of a list of checksums every line counts that is whole, and no other.
func FuzzSums(f *testing.F) {
	lines := append(sumsLine(extent{"000005.sst", 10, 1}), sumsLine(extent{"000006.blob", 1 << 40, 1 << 31})...)
	f.Add(lines)
	f.Add(append(lines[:len(lines)-9], "\n\x00 garbage"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		sums, whole := parseSums(b)
		var again []byte
		for name, s := range sums {
			if s.name != name {
				t.Fatalf("%q is under %q", s.name, name)
			}
			line := sumsLine(s)
			if !bytes.Contains(b, line) {
				t.Fatalf("%q is not in %q", line, b)
			}
			again = append(again, line...)
		}
		if got, ok := parseSums(again); !ok || !reflect.DeepEqual(got, sums) {
			t.Fatalf("%v became %v", sums, got)
		}
		if whole && len(b) > 0 && len(sums) == 0 {
			t.Fatalf("%q is whole and says nothing", b)
		}
		if got, ok := parseSums(append(bytes.Clone(b), '\n')); ok && whole && !reflect.DeepEqual(got, sums) {
			t.Fatalf("%q and an empty line: %v, not %v", b, got, sums)
		}
	})
}

// FuzzFormat: the line that says the format is refused unless it is the one that would be
// written.
func FuzzFormat(f *testing.F) {
	f.Add(string(formatLine(2, "martlet 1.0")))
	f.Add(string(formatLine(-1, "")))
	f.Add("2\n")
	f.Fuzz(func(t *testing.T, line string) {
		number, writer, ok := parseFormat(line)
		if ok && string(formatLine(number, writer)) != line {
			t.Fatalf("%q is read as %d, %q", line, number, writer)
		}
		own := string(formatLine(len(line), line))
		if n, w, ok := parseFormat(own); !bytes.Contains([]byte(line), []byte("\n")) && (!ok || n != len(line) || w != line) {
			t.Fatalf("%q is read as %d, %q, %v", own, n, w, ok)
		}
	})
}

// FuzzManifest: whatever is in the manifest, the census ends, has no more in it than the
// manifest has bytes, and says the same twice. The fuzzer writes the records, which have the
// database's checksums.
func FuzzManifest(f *testing.F) {
	f.Add([]byte{tagComparer, 1, 'x', tagMinLog, 5, tagNewTable, 0, 7, 99, 1, 'a', 1, 'b', 1, 2, moreEnd, tagNewBlob, 3, 4, 50, 0, 0})
	f.Add([]byte{tagNewTableRange, 6, 8, 99, 1, 1, 'a', 1, 'b', 1, 'a', 1, 'b', 1, 2, moreRefs, 9, 2, 3, 4, 5, 6, moreVirt, 7, moreEnd, tagDeletedTable, 6, 8})
	f.Add([]byte{tagComparer, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, tagMinLog, 5})
	f.Fuzz(func(t *testing.T, b []byte) {
		fs := vfs.NewMem()
		file, err := fs.Create("m", vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		w := record.NewWriter(file)
		if _, err := w.WriteRecord(b); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		file.Close()
		var c *census
		memory.Bounded(t, 400*len(b)+256<<10, func() { c, err = readCensus(fs, "m") })
		again, err2 := readCensus(fs, "m")
		if (err == nil) != (err2 == nil) || !reflect.DeepEqual(c, again) {
			t.Fatalf("%+v %v, then %+v %v", c, err, again, err2)
		}
		if err != nil {
			return
		}
		if len(b) > 10 && b[0] == tagComparer && bytes.Equal(b[1:10], bytes.Repeat([]byte{255}, 9)) {
			t.Fatalf("a field of 2^63 bytes and more is passed over, then minimum log %d", c.minLog)
		}
		refs := len(c.tables) + len(c.blobs)
		for _, t := range c.tables {
			refs += len(t.refs)
		}
		if refs > len(b) {
			t.Fatalf("%d files in %d bytes", refs, len(b))
		}
		for n := range b { // a record that is cut is an error, or is one of whole fields
			if n > 0 && b[0] == tagComparer && n < 1+1+int(b[1]) && b[1] < 128 {
				e := edit{in: bufio.NewReader(bytes.NewReader(b[:n]))}
				for e.next(&census{tables: map[uint64]tableInfo{}, blobs: map[uint64]blobInfo{}}) {
				}
				if e.err == nil {
					t.Fatalf("cut at %d it is read", n)
				}
			}
		}
	})
}
