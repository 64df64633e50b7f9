//go:build unix && !solaris && !illumos && !aix

package main

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/martlet-mail/martlet/internal/fault"
)

// lockShared takes a lock on a file, alone or with others who do not want to be alone. It
// ends with the process at the latest.
func lockShared(name string, alone bool) (release func(), err error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if !alone && (errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)) {
		return func() {}, nil // whoever may only read a folder reads it without a lock
	}
	if err != nil {
		return nil, err
	}
	how := syscall.LOCK_SH
	if alone {
		how = syscall.LOCK_EX
	}
	if err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fault.Wrap(fault.Busy, "the lock "+name+" is taken", err)
		}
		return nil, err
	}
	return func() { f.Close() }, nil
}
