package pebble

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Damage to tables and blob files is found here, one floor below the database, which
// checks the same sums: but on a block that fails it spends a second of processor time on
// the question which bit it was, each time, and a blob file whose end is damaged or that is
// gone makes it panic or give up all writing. What it sees of ours is a read that failed.

const (
	blockTrailer = 5  // type and checksum behind a block
	longFooter   = 61 // the end of a table, which the database checks
	blobFooter   = 38 // the end of a blob file: checksum, then what it is of
)

// isTable tells whether a file is made of blocks.
func isTable(name string) bool { return strings.HasSuffix(name, ".sst") || isBlobFile(name) }

func isBlobFile(name string) bool { return strings.HasSuffix(name, ".blob") }

// blockSum is the checksum that the database gives a block.
func blockSum(b []byte) uint32 {
	c := crc32.Checksum(b, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

// openTable opens a table or blob file for reading.
func (d *disk) openTable(name string, opts []vfs.OpenOption) (vfs.File, error) {
	base := d.FS.PathBase(name)
	f, err := d.FS.Open(name, opts...)
	if errors.Is(err, fs.ErrNotExist) {
		d.log.Error("a file of the store is missing; run martlet verify", "file", base)
		d.pause(d.brake)
		return nil, fault.Newf(fault.Corrupt, "the file %s of the store is missing", base)
	}
	if err != nil {
		d.readFailed(err)
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	t := &diskFile{File: f, disk: d, reads: true, table: true, seen: extent{name: base, size: info.Size()}}
	for _, o := range opts {
		t.ahead = t.ahead || o == vfs.SequentialReadsOption
	}
	return t, nil
}

// sound checks what was read of a table: a block, or its end.
func (f *diskFile) sound(p []byte, off int64) bool {
	switch end := off+int64(len(p)) == f.seen.size; {
	case end && isBlobFile(f.seen.name) && len(p) == blobFooter:
		return binary.LittleEndian.Uint32(p) == blockSum(p[4:])
	case end && len(p) <= longFooter, len(p) < blockTrailer:
		return true
	}
	n := len(p) - 4
	return binary.LittleEndian.Uint32(p[n:]) == blockSum(p[:n])
}

// readTable reads of a table or blob file.
func (f *diskFile) readTable(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	if err == nil && f.sound(p, off) {
		return n, nil
	}
	if err != nil && !errors.Is(err, io.EOF) {
		f.disk.readFailed(err)
		return n, err
	}
	f.disk.log.Error("a file of the store is damaged; run martlet verify", "file", f.seen.name, "offset", off, "bytes", len(p))
	brake := f.disk.brake / 20
	if f.ahead {
		brake = f.disk.brake * 20 // a compaction, which will be tried again at once and for ever
	}
	f.disk.pause(brake)
	return 0, fault.Newf(fault.Corrupt, "the file %s of the store is damaged at byte %d", f.seen.name, off)
}

// pause waits, but not beyond Close.
func (d *disk) pause(t time.Duration) {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-d.quit:
	}
}
