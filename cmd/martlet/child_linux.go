package main

import (
	"os/exec"
	"syscall"
)

// ownProcess sets up a process of its own group, so that Ctrl-C reaches only us, which ends
// with this one by a signal of the system's. Another user's if as is given.
func ownProcess(cmd *exec.Cmd, as *processUser, end syscall.Signal) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: end}
	if as != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(as.uid), Gid: uint32(as.gid), Groups: as.groups}
	}
}
