//go:build unix

package main

import "syscall"

// openNoWait opens a pipe without waiting for who writes into it.
const openNoWait = syscall.O_NONBLOCK

// folderOwner returns whose a folder is.
func folderOwner(path string) (uid, gid int) {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return 0, 0
	}
	return int(st.Uid), int(st.Gid)
}
