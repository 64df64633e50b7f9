//go:build !unix

package main

import (
	"os/exec"
	"syscall"
)

// ownProcess has nothing to set up.
func ownProcess(*exec.Cmd, *processUser, syscall.Signal) {}
