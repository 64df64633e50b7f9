package netsrv

import (
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// unsent is how many bytes of an answer the kernel takes in before the client takes any:
// what is on its way does not count, so that it slows down no one. Without it, a client
// that does not read can have megabytes kept for it.
const unsent = 64 << 10

func boundUnsent(nc net.Conn) {
	if raw, err := tcpOf(nc); err == nil {
		raw.Control(func(fd uintptr) {
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsent) // or it is as it was
		})
	}
}

func tcpOf(nc net.Conn) (syscall.RawConn, error) {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return tcp.SyscallConn()
}

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
