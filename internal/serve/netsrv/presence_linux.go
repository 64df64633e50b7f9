package netsrv

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

func presence(nc net.Conn) (p Presence) {
	if !canPoll(nc) {
		return Here
	}
	raw, err := nc.(syscall.Conn).SyscallConn()
	if err != nil {
		return Gone
	}
	err = raw.Control(func(fd uintptr) {
		fds := [...]unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(fds[:], 0)
		switch {
		case err != nil || n == 0:
		case fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0:
			p = Gone
		case fds[0].Revents&unix.POLLRDHUP != 0:
			p = Silent
		}
	})
	if err != nil { // closed from here
		return Gone
	}
	return p
}
