package netsrv

import (
	"cmp"
	"net"
	"os"
	"syscall"
)

// poller watches sockets by an epoll of its own. The runtime watches that one as it does
// any socket, so no thread waits in the kernel for it.
type poller struct {
	file *os.File
	raw  syscall.RawConn
}

// newPoller returns a poller that calls tell with what arm was given, or nil.
func newPoller(tell func(place, turn int32)) *poller {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil
	}
	syscall.SetNonblock(fd, true) // or the runtime would not watch it
	p := &poller{file: os.NewFile(uintptr(fd), "epoll")}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		p.file.Close()
		return nil
	}
	go p.run(tell)
	return p
}

func (p *poller) close() { p.file.Close() }

func (p *poller) run(tell func(place, turn int32)) {
	events := make([]syscall.EpollEvent, 128)
	for {
		n := 0
		err := p.raw.Read(func(fd uintptr) bool {
			var err error
			n, err = syscall.EpollWait(int(fd), events, 0)
			return n > 0 || err != nil && err != syscall.EINTR
		})
		if err != nil {
			return // closed
		}
		for _, e := range events[:max(n, 0)] {
			tell(e.Fd, e.Pad)
		}
	}
}

// arm watches a socket until it has been told of once: that there is input, or that the
// client is gone, at once if that is so already.
func (p *poller) arm(nc net.Conn, place, turn int32) error {
	if p == nil {
		return os.ErrClosed
	}
	raw, err := nc.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	e := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT, Fd: place, Pad: turn}
	var done, open error
	err = raw.Control(func(fd uintptr) {
		open = p.raw.Control(func(epoll uintptr) {
			done = syscall.EpollCtl(int(epoll), syscall.EPOLL_CTL_MOD, int(fd), &e)
			if done == syscall.ENOENT { // not yet among those it watches
				done = syscall.EpollCtl(int(epoll), syscall.EPOLL_CTL_ADD, int(fd), &e)
			}
		})
	})
	return cmp.Or(err, open, done)
}

// canPoll tells whether a connection is a socket of the kernel.
func canPoll(nc net.Conn) bool {
	switch nc.(type) {
	case *net.TCPConn, *net.UnixConn:
		return true
	}
	return false
}
