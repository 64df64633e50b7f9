package limits

import (
	"net"
	"sync"

	"golang.org/x/sys/unix"
)

// ends are the server's ends of the connections it has accepted.
type ends struct {
	mu  sync.Mutex
	all []*net.TCPConn
}

func (e *ends) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = nil
}

// unsent asks the kernel what it keeps at most for one client: bytes that have been
// written to it and not been sent.
func (e *ends) unsent() (most int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, nc := range e.all {
		raw, err := nc.SyscallConn()
		if err != nil {
			continue
		}
		raw.Control(func(fd uintptr) {
			if n, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQNSD); err == nil {
				most = max(most, n)
			}
		})
	}
	return most
}

// noting is a listener that notes what it accepts.
type noting struct {
	net.Listener
	ends *ends
}

func (l noting) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err == nil {
		l.ends.mu.Lock()
		l.ends.all = append(l.ends.all, nc.(*net.TCPConn))
		l.ends.mu.Unlock()
	}
	return nc, err
}
