package backup

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Disk is where repositories lie.
type Disk struct {
	FS vfs.FS
	// Lock takes a lock on a file, which it makes: alone, or with others that do not want
	// to be alone. It ends with release, and with the process. Busy if it cannot be had.
	Lock func(name string, alone bool) (release func(), err error)
}

func (d Disk) join(elem ...string) string { return d.FS.PathJoin(elem...) }

func (d Disk) read(name string) ([]byte, error) {
	f, err := d.FS.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// list returns the names in a folder, in order.
func (d Disk) list(dir string) ([]string, error) {
	names, err := d.FS.List(dir)
	slices.Sort(names)
	return names, err
}

func (d Disk) exists(name string) (bool, error) {
	_, err := d.FS.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (d Disk) create(name string) (vfs.File, error) {
	return d.FS.Create(name, vfs.WriteCategoryUnspecified)
}

// syncDir makes the names in a folder durable.
func (d Disk) syncDir(dir string) error {
	f, err := d.FS.OpenDir(dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	if closing := f.Close(); err == nil {
		err = closing
	}
	return err
}

// makeDir makes a folder and those above it that are missing, durably.
func (d Disk) makeDir(dir string) error {
	there, err := d.exists(dir)
	if err != nil {
		return err
	}
	above := d.FS.PathDir(dir)
	if there || above == dir {
		_ = d.syncDir(above) // whoever made it may have been stopped before this, or it is not ours
		return nil
	}
	if err := d.makeDir(above); err != nil {
		return err
	}
	if err := d.FS.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return d.syncDir(above)
}

// beginning is the ending of a file that is not whole yet.
const beginning = ".new"

// write makes a small file durable under its name, whole or not at all. Whoever calls it
// holds the writer's lock.
func (d Disk) write(name string, content []byte) error {
	f, err := d.create(name + beginning)
	if err != nil {
		return writing(err)
	}
	_, err = io.Copy(f, bytes.NewReader(content))
	if err == nil {
		err = f.Sync()
	}
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = d.FS.Rename(name+beginning, name)
	}
	if err == nil {
		err = d.syncDir(d.FS.PathDir(name))
	}
	return writing(err)
}

func writing(err error) error {
	if err == nil {
		return nil
	}
	return unavailable("cannot write the backup", err)
}
