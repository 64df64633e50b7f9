package pebble

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A manifest is the one file of the database that nothing else can replace: without it
// nobody knows which tables count. So each has a copy, written and synced beside it, for
// repairs; nothing else reads it.

// twinOf names the copy of a manifest.
func twinOf(name string) string { return "copy-of-" + name }

func hasTwin(base string) bool { return strings.HasPrefix(base, "MANIFEST-") }

// twin makes the copy of a new manifest.
func (d *disk) twin(name string) (f vfs.File) {
	base := d.FS.PathBase(name)
	if !hasTwin(base) {
		return nil
	}
	d.witnessed(func() (err error) {
		f, err = d.FS.Create(d.FS.PathJoin(d.FS.PathDir(name), twinOf(base)), vfs.WriteCategoryUnspecified)
		return err
	})
	return f
}

// alike does to the copy what was done to the manifest.
func (f *diskFile) alike(do func(vfs.File) error) {
	if f.twin != nil {
		f.disk.witnessed(func() error { return do(f.twin) })
	}
}

// removeTwin removes the copy of a manifest that is gone.
func (d *disk) removeTwin(name string) {
	base := d.FS.PathBase(name)
	if !hasTwin(base) {
		return
	}
	d.witnessed(func() error {
		err := d.FS.Remove(d.FS.PathJoin(d.FS.PathDir(name), twinOf(base)))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
}
