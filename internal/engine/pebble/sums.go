package pebble

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// begins notes that a file is being written: nothing can be said of it yet.
func (w *witness) begins(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writing[name] = true
}

// keep records the checksum of a file that will not change any more. Lines are not
// synced one by one: a power cut may take the last ones, and of the files they spoke of
// the blocks still have checksums of their own.
func (w *witness) keep(f extent) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sums[f.name] = f
	delete(w.writing, f.name)
	if w.dead || temporary(f.name) || w.sumsFile == nil && !w.sumsFailed {
		return nil
	}
	if w.sumsFailed || w.lines > 2*len(w.sums)+manyLines {
		return w.writeSums()
	}
	w.lines++
	_, err := w.sumsFile.Write(sumsLine(f))
	w.sumsFailed = err != nil
	return err
}

// manyLines may be of files that are gone, before the list is written anew.
const manyLines = 1000

// renamed carries the checksum of a file to its new name.
func (w *witness) renamed(old, name string) error {
	w.mu.Lock()
	f, ok := w.sums[old]
	delete(w.sums, old)
	w.mu.Unlock()
	if !ok {
		return nil
	}
	f.name = name
	return w.keep(f)
}

func sumsLine(f extent) []byte {
	line := fmt.Appendf(nil, "%08x %d %s", f.sum, f.size, f.name)
	return fmt.Appendf(line, " %08x\n", crc32.Checksum(line, castagnoli))
}

// parseSums reads the lines that are whole; whole is false if there were others.
func parseSums(b []byte) (sums map[string]extent, whole bool) {
	sums, whole = map[string]extent{}, true
	for line := range bytes.Lines(b) {
		var f extent
		var check uint32
		_, err := fmt.Sscanf(string(line), "%08x %d %s %08x\n", &f.sum, &f.size, &f.name, &check)
		if err != nil || !bytes.Equal(line, sumsLine(f)) {
			whole = false
			continue
		}
		sums[f.name] = f
	}
	return sums, whole
}

// loadSums reads the checksums of the files that are there. Those that are gone have
// been removed: of the ones it needs the database itself knows.
func (w *witness) loadSums() error {
	b, err := readWhole(w.fs, w.path(sumsName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	names, err := w.fs.List(w.dir)
	if err == nil {
		w.takeSums(b, names)
	}
	return err
}

func (w *witness) takeSums(b []byte, names []string) {
	sums, _ := parseSums(b) // a power cut may have taken some
	for _, name := range names {
		if f, ok := sums[name]; ok {
			w.sums[name] = f
		}
	}
}

// beginSums writes the list anew, as it was read before the database could remove anything, and
// goes on with it.
func (w *witness) beginSums() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.writeSums()
}

// writeSums writes the list anew, and goes on with it. If it cannot, the list does not hold all,
// and is written anew with the next line. mu is held.
func (w *witness) writeSums() error {
	w.sumsFailed = true
	var all []byte
	lines := 0
	for _, name := range slices.Sorted(maps.Keys(w.sums)) {
		if !temporary(name) {
			all = append(all, sumsLine(w.sums[name])...)
			lines++
		}
	}
	fresh := w.path(sumsName + ".new")
	f, err := w.fs.Create(fresh, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(all)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = w.fs.Rename(fresh, w.path(sumsName))
	}
	if err == nil {
		err = syncDir(w.fs, w.dir)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if w.sumsFile != nil {
		_ = w.sumsFile.Close()
	}
	w.sumsFile, w.lines, w.sumsFailed = f, lines, false // renamed, still the same
	return nil
}
