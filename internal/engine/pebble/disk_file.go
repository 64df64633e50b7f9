package pebble

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// diskFile is a file whose failures the disk sees first.
type diskFile struct {
	vfs.File
	disk  *disk
	path  string
	log   bool
	reads bool // only
	table bool // made of blocks
	ahead bool // read from the beginning to the end

	seen  extent // what has been written
	blind bool   // not all of it was seen
	twin  vfs.File
}

// Read sees failures as ReadAt does.
func (f *diskFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		f.disk.readFailed(err)
	}
	return n, err
}

// ReadAt takes its time to fail.
func (f *diskFile) ReadAt(p []byte, off int64) (int, error) {
	if f.table {
		return f.readTable(p, off)
	}
	n, err := f.File.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		f.disk.readFailed(err)
	}
	return n, err
}

func (f *diskFile) Write(p []byte) (int, error) {
	written := 0
	f.seen.sum, f.seen.size = crc32.Update(f.seen.sum, castagnoli, p), f.seen.size+int64(len(p))
	if !f.disk.do(f.log, func() error {
		n, err := f.File.Write(p[written:])
		written += n
		return err
	}) {
		f.blind = true
		return len(p), nil
	}
	f.alike(func(twin vfs.File) error { _, err := twin.Write(p); return err })
	return len(p), nil
}

func (f *diskFile) WriteAt(p []byte, off int64) (int, error) {
	f.blind = true
	f.disk.do(f.log, func() error {
		_, err := f.File.WriteAt(p, off)
		return err
	})
	return len(p), nil
}

// Preallocate only gives a hint; where it matters the write will fail.
func (f *diskFile) Preallocate(off, length int64) error {
	_ = f.disk.call(func() error { return f.File.Preallocate(off, length) })
	return nil
}

func (f *diskFile) Sync() error     { return f.sync(f.File.Sync) }
func (f *diskFile) SyncData() error { return f.sync(f.File.SyncData) }

func (f *diskFile) SyncTo(length int64) (full bool, err error) {
	f.trySync(func() (err error) { full, err = f.File.SyncTo(length); return err })
	return full, nil
}

func (f *diskFile) sync(call func() error) error {
	if f.trySync(call) && !f.blind && grows(f.seen.name) {
		f.alike(vfs.File.Sync)
		f.disk.witnessed(func() error { return f.disk.witness.note(f.seen) })
	}
	return nil
}

// trySync tells whether the sync was more than pretended.
func (f *diskFile) trySync(call func() error) bool {
	return f.disk.do(f.log, func() error {
		if err := call(); err != nil {
			return fmt.Errorf("sync: %v", err) // without the errno: not tried again
		}
		return nil
	})
}

func (f *diskFile) Close() error {
	if f.reads {
		_ = f.File.Close() // nothing can be lost, and the database would stumble
		return nil
	}
	f.alike(vfs.File.Close)
	if f.disk.do(f.log, f.File.Close) && !f.blind && fixed(f.seen.name) {
		f.disk.keepEnd(f.path, f.seen)
		f.disk.witnessed(func() error { return f.disk.witness.keep(f.seen) })
	}
	return nil
}
