//go:build unix

package main

import (
	"net"
	"syscall"
)

// Descriptors are limited for each process. If connections had them all, the store could
// not open a file and mail on its way would be refused; so the last ones are kept.

// maxFiles is how many files the store keeps open where there are enough descriptors.
const maxFiles = 1000

// spare is how many more the store, the spool and the queue may need in a moment.
const spare = 250

// descriptors returns how many this process may have. Whoever runs the machine may change
// it at any time.
func descriptors() uint64 {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 1 << 20
	}
	return uint64(limit.Cur)
}

// storeFiles is how many files the store is to keep open.
func storeFiles() int { return int(min(maxFiles, max(descriptors()/4, 16))) }

// scarce tells whether a connection has one of the descriptors that are kept for files.
// The system gives out the lowest that is free, so a high one means that few are.
func scarce(nc net.Conn) bool {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	var mine uint64
	limit := descriptors()
	err = raw.Control(func(fd uintptr) { mine = uint64(fd) })
	return err == nil && mine >= limit-min(limit/8*3+1, maxFiles+spare)
}

// fewest is how many descriptors the store can work with.
const fewest = 64

// enoughFiles wants so many: with fewer the database fails somewhere, and seldom says why.
func enoughFiles() error {
	if n := descriptors(); n < fewest {
		return failed("this process may have only %d file descriptors, and the store needs %d; raise the limit: ulimit -n, or LimitNOFILE of the service", n, fewest)
	}
	return nil
}
