package pebble

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/fault"
)

// disk stands between the database and the file system and sees every failure
// first, because the database ends or locks up on some of them.
//
//   - No space, or no file descriptor: the call waits and tries again until there is one.
//     Meanwhile nobody waits for the disk: writes are refused, those under way are Unknown.
//   - Any other failed write, sync, create or rename: the disk has failed for good.
//     From then on nothing reaches it, so that it stays as after a power cut, which
//     the next Open repairs. Writes to the log pretend to succeed, so that the
//     database goes on answering reads; its background work waits for ever.
//
// A failed sync is never tried again: the system may have dropped the data and
// call the next sync a success.
type disk struct {
	vfs.FS
	log   *slog.Logger
	now   func() time.Time
	retry time.Duration // between two attempts at a full disk
	brake time.Duration // after a read that failed

	halt   atomic.Pointer[chan struct{}] // closed while nobody must wait for the disk
	failed atomic.Pointer[failure]
	dead   chan struct{} // closed when the disk has failed
	quit   chan struct{} // closed when the engine is to close

	witness *witness

	mu      sync.Mutex
	calls   int        // in the file system at this moment, to change something
	idle    *sync.Cond // calls is 0
	halted  bool       // halt is closed
	waiting int        // calls that wait for what there is too little of
	lack    error      // what that is
	lock    io.Closer
	lockErr error
	space   space

	unread   atomic.Int64 // reads that failed
	unreadAt atomic.Int64 // when one was last logged, in nanoseconds
}

// Causes are logged as text: as values the database's errors print the stack that they
// come from.
type failure struct{ cause error }

// space remembers how much room there was.
type space struct {
	at   time.Time // of the last look
	free uint64
}

const spaceEvery = time.Second // between two looks at the free space

func newDisk(dir string, opt Options) *disk {
	d := &disk{FS: opt.FS, witness: newWitness(opt.FS, dir), log: opt.Log, now: opt.Now, retry: opt.retry, brake: opt.brake, dead: make(chan struct{}), quit: make(chan struct{})}
	d.idle = sync.NewCond(&d.mu)
	d.halt.Store(new(make(chan struct{})))
	return d
}

// Unwrap returns the file system below.
func (d *disk) Unwrap() vfs.FS { return d.FS }

// stop returns a channel that is closed when nobody must wait for the disk.
func (d *disk) stop() <-chan struct{} { return *d.halt.Load() }

// fail records that the disk can no longer be trusted.
func (d *disk) fail(cause error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.failed.CompareAndSwap(nil, &failure{cause}) {
		return
	}
	d.log.Error("the data directory is no longer written; a restart is needed", "cause", cause.Error())
	close(d.dead)
	d.stopWaiting()
}

// stopWaiting frees who waits for the disk. mu is held.
func (d *disk) stopWaiting() {
	if !d.halted {
		d.halted = true
		close(*d.halt.Load())
	}
}

// lacks begins a wait for space, or for file descriptors.
func (d *disk) lacks(what, cause error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting++; d.waiting == 1 && d.failed.Load() == nil {
		d.lack = what
		d.log.Error(fault.Say(what)+"; waiting", "cause", cause.Error())
		d.stopWaiting()
	}
}

// hasAgain ends the wait.
func (d *disk) hasAgain() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting--; d.waiting == 0 && d.failed.Load() == nil {
		d.log.Warn("the disk can be written again", "before", fault.Say(d.lack))
		d.lack = nil
		d.halted = false
		d.halt.Store(new(make(chan struct{})))
	}
}

// check refuses a write if the disk has failed or fewer than need bytes are free.
// It looks at the file system at most once a second.
func (d *disk) check(dir string, now time.Time, need uint64) error {
	if f := d.failed.Load(); f != nil {
		return fault.Wrap(fault.Unavailable, "the store has stopped writing after a disk failure", f.cause)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting > 0 {
		return d.lack
	}
	if age := now.Sub(d.space.at); age >= spaceEvery || age < 0 {
		usage, err := d.FS.GetDiskUsage(dir)
		if err != nil {
			usage.AvailBytes = 1 << 62 // not every file system can tell
		}
		d.space = space{at: now, free: usage.AvailBytes}
	}
	if d.space.free < need {
		return errFull
	}
	return nil
}

var (
	errFull  = fault.New(fault.Unavailable, "the disk is full")
	errFiles = fault.New(fault.Unavailable, "the server has too many files open")
)

// lacking returns what there is too little of, or nil.
func (d *disk) lacking() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lack
}

// abandon ends all writing and gives the lock back, if the database has not done so:
// it may never come to rest on a failed disk. It waits until nothing can reach the
// directory any more. The files the database has open then stay so until the
// process ends.
func (d *disk) abandon() error {
	d.mu.Lock()
	d.failed.CompareAndSwap(nil, &failure{errClosed})
	d.stopWaiting()
	for d.calls > 0 {
		d.idle.Wait()
	}
	d.mu.Unlock()
	d.witness.stop()
	return heldLock{d}.Close()
}

// isLog tells whether the file is part of the log, whose failures the database
// must not see.
func isLog(name string) bool { return strings.HasSuffix(name, ".log") }

// do runs a call that changes the disk. It returns done == false if the call is
// only pretended: those of the log seem to succeed, and all else waits for ever, as
// it is background work, or an Open nobody waits for, which there is nothing to tell.
func (d *disk) do(log bool, call func() error) (done bool) {
	err := d.patiently(call)
	if err == nil {
		return true
	}
	d.fail(err)
	if !log {
		select {}
	}
	return false
}

// patiently runs a call as often as that takes, if all that is wrong will pass.
func (d *disk) patiently(call func() error) error {
	err := d.call(call)
	if what := passes(err); what != nil {
		d.lacks(what, err)
		for passes(err) != nil {
			time.Sleep(d.retry)
			err = d.call(call)
		}
		d.hasAgain()
	}
	return err
}

// call runs a call unless the disk has failed.
func (d *disk) call(call func() error) error {
	d.mu.Lock()
	if d.failed.Load() != nil {
		d.mu.Unlock()
		return errStopped
	}
	d.calls++
	d.mu.Unlock()
	err := call()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.calls--; d.calls == 0 {
		d.idle.Broadcast()
	}
	return err
}

// passes returns what there is too little of if that is why a call failed.
func passes(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return errFull
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return errFiles
	}
	return nil
}

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
