package pebble

import (
	"errors"
	"syscall"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// space remembers how much room there was.
type space struct {
	at   time.Time // of the last look
	free uint64
}

const spaceEvery = time.Second // between two looks at the free space

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
