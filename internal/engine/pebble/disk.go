package pebble

import (
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
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
