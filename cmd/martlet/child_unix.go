//go:build unix && !linux

package main

import (
	"os/exec"
	"syscall"
)

// ownProcess sets up a process of its own group, so that Ctrl-C reaches only us. Another
// user's if as is given.
func ownProcess(cmd *exec.Cmd, as *processUser, _ syscall.Signal) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if as != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(as.uid), Gid: uint32(as.gid), Groups: as.groups}
	}
}
