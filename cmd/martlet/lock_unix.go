//go:build unix

package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockHolder returns the process that holds the lock on a file, or 0. It must not be
// called by the holder itself: closing the file would release the lock.
func lockHolder(path string) int {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil || lock.Type == unix.F_UNLCK {
		return 0
	}
	return int(lock.Pid)
}
