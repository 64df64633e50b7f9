package pebble

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"strings"

	db "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Nothing of a table or blob file can be read without its end, where it is said which block
// lies where, nor are the deletions of ranges anywhere else. So each has a copy of it. It is
// read by repairs, and by nobody else, and not synced: a power cut may take it. One that is
// missing or empty is made anew at the start, one that is damaged by verify, of what is whole.

// end is the last part of a file, without that which can be missed.
type end struct {
	of     extent // all of the file; of its checksum 0 if it is not known
	pieces []piece
}

type piece struct {
	at    int64
	bytes []byte
}

const (
	endSuffix  = ".end" // behind the name of the file; so the database does not take it for its own
	endVersion = 1
)

func hasEnd(name string) bool { return isTable(name) }

// encode writes an end as its file has it.
func (e *end) encode() []byte {
	b := []byte{endVersion}
	b = binary.BigEndian.AppendUint64(b, uint64(e.of.size))
	b = binary.BigEndian.AppendUint32(b, e.of.sum)
	for _, p := range e.pieces {
		b = binary.BigEndian.AppendUint64(b, uint64(p.at))
		b = binary.BigEndian.AppendUint32(b, uint32(len(p.bytes)))
		b = append(b, p.bytes...)
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodeEnd reads the file of an end; nil if it is not whole.
func decodeEnd(name string, b []byte) *end {
	n := len(b) - 4
	if n < 13 || b[0] != endVersion || crc32.Checksum(b[:n], castagnoli) != binary.BigEndian.Uint32(b[n:]) {
		return nil
	}
	e := &end{of: extent{name, int64(binary.BigEndian.Uint64(b[1:])), binary.BigEndian.Uint32(b[9:])}}
	for b = b[13:n]; len(b) > 0; {
		if len(b) < 12 {
			return nil
		}
		at, length := int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint32(b[8:]))
		if b = b[12:]; length > int64(len(b)) || at < 0 || at > e.of.size-length {
			return nil
		}
		e.pieces = append(e.pieces, piece{at, b[:length]})
		b = b[length:]
	}
	return e
}

// readEnd reads the end that is kept of a file; nil if there is none.
func readEnd(files vfs.FS, path string) *end {
	b, err := readWhole(files, path+endSuffix)
	if err != nil {
		return nil
	}
	return decodeEnd(files.PathBase(path), b)
}

// put returns the bytes of a file with its end in its place.
func (e *end) put(b []byte) []byte {
	whole := make([]byte, e.of.size)
	copy(whole, b)
	for _, p := range e.pieces {
		copy(whole[p.at:], p.bytes)
	}
	return whole
}

// keepEnd makes the copy of the end of a file that is done. It is made of what lies on
// the disk, where all blocks are checked: the end of a damaged file is not kept.
func (d *disk) keepEnd(path string, of extent) {
	if !hasEnd(path) {
		return
	}
	pieces := d.endOf(path)
	if pieces == nil {
		return
	}
	d.witnessed(func() error {
		f, err := d.FS.Create(path+endSuffix, vfs.WriteCategoryUnspecified)
		if err != nil {
			return err
		}
		_, err = f.Write((&end{of, pieces}).encode())
		return errors.Join(err, f.Close())
	})
}

// endOf reads the end of a table or blob file, nil if it cannot.
func (d *disk) endOf(path string) []piece {
	f, err := d.Open(path)
	if err != nil {
		return nil
	}
	read := blobEnd
	if !isBlobFile(path) {
		read = tableEnd
	}
	return read(f)
}

// blobEnd reads the index and what follows, and closes the file.
func blobEnd(f vfs.File) []piece {
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() < blobFooter {
		return nil
	}
	foot := make([]byte, blobFooter)
	at := info.Size() - blobFooter
	if _, err := f.ReadAt(foot, at); err != nil {
		return nil
	}
	index := block.Handle{Offset: binary.LittleEndian.Uint64(foot[4:]), Length: binary.LittleEndian.Uint64(foot[12:])}
	if index.Offset > uint64(at) || index.Length > uint64(at)-index.Offset {
		return nil
	}
	return readPieces(f, []block.Handle{index}, piece{at, foot})
}

// tableEnd reads all blocks but those of data and filters, and closes the file.
func tableEnd(f vfs.File) []piece {
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		_ = f.Close()
		return nil
	}
	opts := new(db.Options)
	opts.EnsureDefaults()
	r, err := sstable.NewReader(context.Background(), readable, opts.MakeReaderOptions())
	if err != nil {
		_ = readable.Close()
		return nil
	}
	defer r.Close()
	l, err := r.Layout()
	if err != nil {
		return nil
	}
	foot := make([]byte, l.Footer.Length)
	if _, err := f.ReadAt(foot, int64(l.Footer.Offset)); err != nil {
		return nil
	}
	blocks := append(l.Index, l.TopIndex, l.RangeDel, l.RangeKey, l.ValueIndex, l.BlobReferenceIndex, l.Properties, l.MetaIndex)
	return readPieces(f, blocks, piece{int64(l.Footer.Offset), foot})
}

// readPieces reads blocks, which are checked on the way, and puts the footer behind them.
func readPieces(f vfs.File, blocks []block.Handle, foot piece) (pieces []piece) {
	for _, h := range blocks {
		if h.Length == 0 {
			continue
		}
		p := piece{int64(h.Offset), make([]byte, h.Length+blockTrailer)}
		if _, err := f.ReadAt(p.bytes, p.at); err != nil {
			return nil
		}
		pieces = append(pieces, p)
	}
	return append(pieces, foot)
}

// mendEnds makes copies of ends that are missing or empty, or all that are damaged, and
// removes those of files that are gone.
func (e *Engine) mendEnds(ctx context.Context, damaged bool) error {
	names, err := e.disk.FS.List(e.dir)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, name := range names {
		there[name] = true
	}
	for name := range there {
		path := e.disk.FS.PathJoin(e.dir, name)
		if of, isEnd := strings.CutSuffix(name, endSuffix); isEnd && !there[of] && hasEnd(of) {
			e.disk.removeEnd(e.disk.FS.PathJoin(e.dir, of))
		}
		if !hasEnd(name) || there[name+endSuffix] && !e.disk.spoilt(path, damaged) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if of, done := e.disk.witness.done(name, path); done {
			e.disk.keepEnd(path, of)
		}
	}
	return nil
}

// spoilt tells whether the copy of an end is of no use, as far as is seen without reading it, or
// all the same.
func (d *disk) spoilt(path string, read bool) bool {
	if read {
		return readEnd(d.FS, path) == nil
	}
	info, err := d.FS.Stat(path + endSuffix)
	return err == nil && info.Size() == 0
}

// done returns what a file that nobody writes holds.
func (w *witness) done(name, path string) (extent, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if f, ok := w.sums[name]; ok {
		return f, true
	}
	info, err := w.fs.Stat(path)
	if err != nil || w.writing[name] {
		return extent{}, false
	}
	return extent{name: name, size: info.Size()}, true
}

// removeEnd removes the copy of the end of a file that is to go. That it fails does no harm.
func (d *disk) removeEnd(path string) {
	if hasEnd(path) {
		_ = d.remove(func() error { return d.FS.Remove(path + endSuffix) })
	}
}

// withEnd returns a file with the end that is kept of it, nil if it has that already or
// none is kept of this very file: f is what is known of it, or nothing.
func (r *repair) withEnd(name string, f extent) []byte {
	e := readEnd(r.fs, r.old(name))
	if e == nil || f.name != "" && (f.size != e.of.size || e.of.sum != 0 && f.sum != e.of.sum) {
		return nil
	}
	if size := r.count.needed()[name]; size != 0 && size != uint64(e.of.size) {
		return nil
	}
	b, unread := readLeft(r.fs, r.old(name))
	whole := e.put(b)
	if unread == nil && bytes.Equal(whole, b) {
		return nil
	}
	return whole
}
