package pebble

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	db "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/fault"
)

// link makes a folder that the database can open: the files themselves where they are
// whole, and in place of the others what can be made of them.
func (r *repair) link() error {
	names, err := r.fs.List(r.dir)
	if err == nil {
		err = r.fs.MkdirAll(r.dir+linkedName, 0o700)
	}
	if err != nil {
		return err
	}
	w := newWitness(r.fs, r.dir)
	w.loadLeft(names, func(file, what string) {}) // inspect has said it
	current := currentManifest(names)
	if current == "" {
		if current = w.newestManifest(); current == "" {
			return fault.New(fault.Corrupt, "no manifest is left that names the files of the store; restore a backup")
		}
		names = append(names, "marker.manifest.000001."+current)
	}
	if !strings.Contains(strings.Join(names, " "), "marker.format-version.") {
		names = append(names, fmt.Sprintf("marker.format-version.000001.%03d", db.FormatValueSeparation))
	}
	if err := r.linkManifest(w, current); err != nil {
		return err
	}
	for _, name := range names {
		if err := r.linkOne(w, name); err != nil {
			return err
		}
	}
	for _, f := range w.synced {
		if number, isNumber := logNumber(f.name); isNumber && number >= r.count.minLog && !slices.Contains(names, f.name) {
			r.done.Holes = append(r.done.Holes, Hole{File: f.name, Commits: true})
		}
	}
	return r.stand()
}

func (r *repair) old(name string) string    { return r.fs.PathJoin(r.dir, name) }
func (r *repair) linked(name string) string { return r.fs.PathJoin(r.dir+linkedName, name) }

func (r *repair) write(name string, b []byte) error {
	f, err := r.fs.Create(r.linked(name), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

// linkManifest takes the manifest, or its twin if it is damaged.
func (r *repair) linkManifest(w *witness, current string) (err error) {
	b, whole := r.manifest(w, current, current)
	if !whole {
		b, whole = r.manifest(w, current, twinOf(current))
	}
	if !whole {
		return fault.Newf(fault.Corrupt, "the file %s of the store and its copy are damaged; restore a backup", current)
	}
	if err := r.write(current, b); err != nil {
		return err
	}
	r.count, err = readCensus(r.fs, r.linked(current))
	return err
}

// manifest reads the manifest or its twin, and tells whether it is as it was.
func (r *repair) manifest(w *witness, current, name string) (b []byte, whole bool) {
	b, err := readWhole(r.fs, r.old(name))
	if err != nil {
		return nil, false
	}
	for _, f := range w.synced {
		if f.name != current {
			continue
		}
		if int64(len(b)) < f.size || crc32.Checksum(b[:f.size], castagnoli) != f.sum {
			return nil, false
		}
		if name != current {
			b = b[:f.size] // behind that it may be anything
		}
	}
	return b, true
}

func (r *repair) linkOne(w *witness, name string) error {
	switch {
	case strings.HasPrefix(name, "marker."):
		return r.write(name, nil)
	case isLog(name):
		return r.linkLog(w, name)
	case isTable(name):
		return r.linkTable(w, name)
	}
	return nil // the database makes its own, and those of the witness say nothing of copies
}

// linkLog takes a log, or those of its records that are whole.
func (r *repair) linkLog(w *witness, name string) error {
	number, ok := logNumber(name)
	if !ok || number < r.count.minLog {
		return nil
	}
	b, unread := readLeft(r.fs, r.old(name))
	damaged := unread != nil
	for _, f := range w.synced {
		if f.name != name {
			continue
		}
		if int64(len(b)) >= f.size && crc32.Checksum(b[:f.size], castagnoli) == f.sum {
			continue
		}
		damaged = true
		left := salvageLog(b, uint32(number))
		if back := turnBack(b, f); back != nil && len(bytes.Join(salvageLog(back, uint32(number)), nil)) > len(bytes.Join(left, nil)) {
			r.done.Turned = append(r.done.Turned, name)
			b, damaged = back, unread != nil
		}
	}
	if damaged {
		r.done.Holes = append(r.done.Holes, Hole{File: name, Commits: true})
		b = writeLog(salvageLog(b, uint32(number)), uint32(number))
	}
	return r.write(name, b)
}

// stand puts something of the right size in the place of tables and blob files that are
// missing or cut short: the database wants to see them.
func (r *repair) stand() error {
	for name, size := range r.count.needed() {
		info, err := r.fs.Stat(r.linked(name))
		if err == nil && (size == 0 || uint64(info.Size()) == size) {
			continue
		}
		b := r.withEnd(name, extent{}) // what there is
		if b == nil {
			b, _ = readLeft(r.fs, r.old(name))
		}
		if err == nil {
			if err := r.fs.Remove(r.linked(name)); err != nil {
				return err
			}
		}
		whole := make([]byte, size)
		copy(whole, b)
		if err := r.write(name, whole); err != nil {
			return err
		}
	}
	return nil
}
