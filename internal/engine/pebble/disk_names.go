package pebble

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func (d *disk) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	d.beforeMarker(name)
	d.forget(name)
	d.witness.begins(d.FS.PathBase(name))
	f, err := d.open(name, func() (vfs.File, error) { return d.FS.Create(name, category) })
	if file, ok := f.(*diskFile); ok {
		file.twin = d.twin(name)
	}
	return f, err
}

// ReuseForWrite opens a file that may be another under a new name. Where tidy has removed
// that one it makes a new one.
func (d *disk) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	d.forget(old)
	return d.open(name, func() (vfs.File, error) {
		f, err := d.FS.ReuseForWrite(old, name, category)
		if errors.Is(err, fs.ErrNotExist) {
			return d.FS.Create(name, category)
		}
		return f, err
	})
}

func (d *disk) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return d.open(name, func() (vfs.File, error) { return d.FS.OpenReadWrite(name, category, opts...) })
}

func (d *disk) open(name string, call func() (vfs.File, error)) (vfs.File, error) {
	var f vfs.File
	if !d.do(isLog(name), func() (err error) { f, err = call(); return err }) {
		f = vfs.NewMemFile(nil) // never written: the disk has failed
	}
	return &diskFile{File: f, disk: d, path: name, log: isLog(name), seen: extent{name: d.FS.PathBase(name)}}, nil
}

// readFailed counts a read that failed, logs it if none was lately, and takes its time:
// the database tries a compaction that failed again at once and for ever.
func (d *disk) readFailed(err error) {
	n := d.unread.Add(1)
	now, last := d.now().UnixNano(), d.unreadAt.Load()
	if (last == 0 || now < last || now-last >= int64(unreadEvery)) && d.unreadAt.CompareAndSwap(last, now) {
		d.log.Error("the disk cannot be read", "cause", err.Error(), "failures", n)
	}
	d.pause(d.brake)
}

const unreadEvery = time.Second // between two lines about reads that failed

// Open takes its time to fail, as ReadAt does.
func (d *disk) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	if isTable(name) {
		return d.openTable(name, opts)
	}
	f, err := d.FS.Open(name, opts...)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			d.readFailed(err)
		}
		return nil, err
	}
	return &diskFile{File: f, disk: d, reads: true}, nil
}

// OpenDir opens a directory. Its sync is hidden like the log's, which needs it; the
// rest can do no harm once nothing is written.
func (d *disk) OpenDir(name string) (vfs.File, error) {
	var f vfs.File
	err := d.patiently(func() (err error) { f, err = d.FS.OpenDir(name); return err })
	if err != nil {
		return nil, err
	}
	return &diskFile{File: f, disk: d, log: true}, nil
}

// MkdirAll makes directories that only their owner can enter: mail is private.
func (d *disk) MkdirAll(dir string, perm os.FileMode) error {
	return d.FS.MkdirAll(dir, perm&0o700)
}

func (d *disk) Link(old, name string) error {
	d.do(false, func() error { return d.FS.Link(old, name) })
	return nil
}

func (d *disk) Rename(old, name string) error {
	d.do(false, func() error {
		err := d.FS.Rename(old, name)
		if err == nil {
			err = d.witness.renamed(d.FS.PathBase(old), d.FS.PathBase(name))
		}
		return err
	})
	return nil
}

// forget takes a file that is about to go off the lists of the witness. If that fails
// the disk does: else the next Open would miss the file.
func (d *disk) forget(name string) {
	err := d.patiently(func() error { return d.witness.forget(d.FS.PathBase(name)) })
	if err != nil {
		d.fail(err)
	}
}

// witnessed has the witness note something. What it cannot note for want of space it
// does not vouch for.
func (d *disk) witnessed(note func() error) {
	if err := d.call(note); err != nil && passes(err) == nil {
		d.fail(err)
	}
}

// beforeMarker syncs the directory if the name is a marker's. A marker is an empty
// file whose name says which manifest is the current one. The database makes the
// manifest, makes the new marker and removes the old one with but one sync of the
// directory at the end; after a power cut between, a file system that does not keep
// the order could have a marker without its manifest, or none.
func (d *disk) beforeMarker(name string) {
	if !strings.HasPrefix(d.FS.PathBase(name), "marker.") {
		return
	}
	dir, err := d.OpenDir(d.FS.PathDir(name))
	if err != nil {
		d.fail(err)
		return
	}
	_, _ = dir.Sync(), dir.Close() // never fail
}

// Remove does nothing once the disk has failed: what the database thinks obsolete
// may be needed to repair it. That a removal fails is no reason to stop.
func (d *disk) Remove(name string) error {
	d.beforeMarker(name)
	d.forget(name)
	d.removeTwin(name)
	d.removeEnd(name)
	return d.remove(func() error { return d.FS.Remove(name) })
}

func (d *disk) RemoveAll(name string) error {
	return d.remove(func() error { return d.FS.RemoveAll(name) })
}

func (d *disk) remove(call func() error) error {
	if err := d.call(call); err != error(errStopped) {
		return err
	}
	return nil
}

func (d *disk) Lock(name string) (io.Closer, error) {
	lock, err := d.FS.Lock(name)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.lockErr = err
		return nil, err
	}
	if d.failed.Load() != nil { // given up meanwhile
		return nil, errors.Join(errStopped, lock.Close())
	}
	d.lock = lock
	return heldLock{d}, nil
}

// inUse tells whether Open failed because somebody else holds the lock.
func (d *disk) inUse() bool {
	var path *fs.PathError
	var errno syscall.Errno
	switch {
	case d.lockErr == nil, errors.As(d.lockErr, &path):
		return false
	case errors.As(d.lockErr, &errno):
		return errno == syscall.EAGAIN || errno == syscall.EACCES
	}
	return true
}

// heldLock is the lock as the database sees it.
type heldLock struct{ d *disk }

func (l heldLock) Close() error {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if l.d.lock == nil {
		return nil // given back already
	}
	err := l.d.lock.Close()
	l.d.lock = nil
	return err
}
