package lab

import (
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// apart gives a process namespaces of its own. A Ctrl-C is not for it.
func apart() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Setpgid:    true,
	}
}

// inside calls what on a thread that is in the host's network. Sockets that are made
// there stay there. The thread is given up afterwards.
func (h *Host) inside(what func()) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		if err := unix.Setns(int(h.net.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		what()
		done <- nil
	}()
	return <-done
}
