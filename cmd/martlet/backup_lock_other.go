//go:build !unix || solaris || illumos || aix

package main

import (
	"errors"
	"io/fs"
	"os"

	"github.com/martlet-mail/martlet/internal/fault"
)

// lockShared takes a lock by making a file, which a crash leaves behind. Who wants to share
// takes none.
func lockShared(name string, alone bool) (release func(), err error) {
	if !alone {
		return func() {}, nil
	}
	f, err := os.OpenFile(name+".taken", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, fault.Wrap(fault.Busy, "the lock "+name+".taken is there", err)
	}
	if err != nil {
		return nil, err
	}
	return func() { f.Close(); os.Remove(f.Name()) }, nil
}
