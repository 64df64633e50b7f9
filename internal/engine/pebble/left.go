package pebble

import (
	"errors"
	"io"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const sector = 4 << 10 // what a disk can read or cannot, at the most

// readLeft reads a file of which the disk may not be able to read everything: what it cannot
// is zeros, and the error says so. Without one nothing is missing.
func readLeft(fs vfs.FS, path string) ([]byte, error) {
	b, err := readWhole(fs, path)
	if err == nil {
		return b, nil
	}
	f, opening := fs.Open(path)
	if opening != nil {
		return nil, opening
	}
	defer f.Close()
	info, unknown := f.Stat()
	if unknown != nil {
		return nil, unknown
	}
	b = make([]byte, info.Size())
	for at := 0; at < len(b); at += sector {
		part := b[at:min(at+sector, len(b))]
		if _, err := f.ReadAt(part, int64(at)); err != nil && !errors.Is(err, io.EOF) {
			clear(part)
		}
	}
	return b, err
}

// loadLeft reads both lists, as far as they can be read.
func (w *witness) loadLeft(names []string, note func(file, what string)) {
	for _, list := range []struct {
		name string
		take func(b []byte)
	}{{syncedName, w.take}, {sumsName, func(b []byte) { w.takeSums(b, names) }}} {
		b, err := readLeft(w.fs, w.path(list.name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			note(list.name, "cannot be read: "+err.Error())
		}
		list.take(b)
	}
}
