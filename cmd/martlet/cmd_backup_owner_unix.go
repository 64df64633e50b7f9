//go:build unix

package main

import (
	"errors"
	"os"
	"syscall"
)

// becomeOwner makes a process that is root's that of the user whose folder this is, for
// good: what it writes there, the server can read and write that makes the backups.
func becomeOwner(dir string) error {
	info, err := os.Stat(dir)
	if err != nil || os.Geteuid() != 0 {
		return nil // whoever opens it tells what is wrong
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok || s.Uid == 0 {
		return nil
	}
	uid, gid := int(s.Uid), int(s.Gid)
	// Groups first: afterwards it would not be allowed any more.
	err = errors.Join(syscall.Setgroups([]int{gid}), syscall.Setgid(gid), syscall.Setuid(uid))
	if err != nil {
		return failed("cannot become user %d, whose folder %s is: %v", uid, dir, err)
	}
	ownProc()
	return nil
}
