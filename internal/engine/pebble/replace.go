package pebble

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"slices"
	"strings"

	db "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/fault"
)

const (
	lockName  = "LOCK"
	freshName = ".repaired" // the new store, beside the damaged one
	wholeName = "complete"  // in the new one, once all is in it, and until the records are mended
)

// completed is what a new store that has everything says of itself.
type completed struct {
	Done Salvaged
	Of   string // the state of the old one
}

// takeLock takes the lock of a folder that is there. What is moved takes its lock along, so a
// folder is locked before it gets the name by which others know it.
func takeLock(opt Options, dir string) (io.Closer, error) {
	if _, err := opt.FS.Stat(dir); err != nil {
		return nil, err
	}
	d := newDisk(dir, opt)
	lock, err := db.LockDirectory(dir, d)
	switch {
	case err == nil:
		return lock, nil
	case d.inUse():
		return nil, fault.Wrap(fault.Busy, "the store is in use by another process; stop it first", err)
	}
	return nil, fault.Wrap(fault.Unavailable, "the store cannot be locked", err)
}

// stateOf describes the files of a folder, so that it shows whether somebody has used it since.
func stateOf(fs vfs.FS, dir string) (string, error) {
	names, err := fs.List(dir)
	if err != nil {
		return "", err
	}
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		if name == lockName {
			continue
		}
		info, err := fs.Stat(fs.PathJoin(dir, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%s %d %d", name, info.Size(), info.ModTime().UnixNano())
		if name == syncedName || isLog(name) || strings.HasPrefix(name, "MANIFEST-") {
			all, _ := readLeft(fs, fs.PathJoin(dir, name))
			fmt.Fprintf(&b, " %08x", crc32.Checksum(all, castagnoli))
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}

// unfinished tells whether a repair was cut short when the old store had been moved away
// and the new one did not have its name yet.
func unfinished(files vfs.FS, dir string) bool {
	if _, err := files.Stat(files.PathJoin(dir+freshName, wholeName)); err != nil {
		return false
	}
	_, err := files.Stat(dir)
	return errors.Is(err, fs.ErrNotExist)
}

// finish puts a new store that is complete in the place of the old one, whose lock is held.
// A new one that was made of an earlier state of the old one is of no use: what came since
// would be lost with it.
func (r *repair) finish() (done bool, err error) {
	b, err := readWhole(r.fs, r.fs.PathJoin(r.dir+freshName, wholeName))
	if err != nil {
		return false, nil
	}
	var made completed
	_ = json.Unmarshal(b, &made) // else it is of no state
	_, err = r.fs.Stat(r.dir)
	moved := errors.Is(err, fs.ErrNotExist)
	if err != nil && !moved || !moved && made.Of != r.state {
		return false, err
	}
	r.done = made.Done
	fresh, err := takeLock(r.opt, r.dir+freshName)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, fresh.Close()) }()
	if !moved {
		if err := r.moveAway(); err != nil {
			return false, err
		}
	}
	if err := r.fs.Rename(r.dir+freshName, r.dir); err != nil {
		return false, err
	}
	err = errors.Join(syncDir(r.fs, r.fs.PathDir(r.dir)), r.fs.RemoveAll(r.dir+linkedName))
	if err == nil && !r.opt.Mending {
		err = removeMark(r.fs, r.dir)
	}
	return true, err
}

// moveAway moves the old store. Until the new one has its name there is none, and no process
// begins one: see unfinished.
func (r *repair) moveAway() error {
	to := r.fs.PathDir(r.away)
	if err := r.fs.MkdirAll(to, 0o700); err != nil {
		return err
	}
	if err := r.fs.Rename(r.dir, r.away); err != nil {
		return err
	}
	return syncDir(r.fs, to)
}

// BeginMending marks a store whose records are to be brought into accord, as Repair does if
// Options.Mending is set. Nobody else opens it before EndMending: of a queue that is half mended,
// say, not all would be sent.
func BeginMending(dir string, opt Options) (err error) {
	lock, err := takeLock(opt.withDefaults(), dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	mark, err := json.Marshal(completed{})
	if err != nil {
		return err
	}
	return replaceFile(opt.FS, dir, wholeName, mark)
}

// EndMending takes the mark off: the records are in accord, and what was lost has been told.
func EndMending(dir string, opt Options) error { return removeMark(opt.FS, dir) }

func removeMark(fs vfs.FS, dir string) error {
	if err := fs.Remove(fs.PathJoin(dir, wholeName)); err != nil {
		return err
	}
	return syncDir(fs, dir)
}

// marked tells whether a store has the mark, and what the repair that left it had lost.
func marked(fs vfs.FS, dir string) (by Salvaged, ok bool) {
	b, err := readWhole(fs, fs.PathJoin(dir, wholeName))
	if err != nil {
		return Salvaged{}, false
	}
	var made completed
	_ = json.Unmarshal(b, &made) // a mark all the same
	return made.Done, true
}
