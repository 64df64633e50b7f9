package main

import (
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/conf"
)

// Whoever starts the server may have opened its sockets and hand them over, as systemd
// does for a service with a .socket unit (sd_listen_fds(3)). Such a socket stays open
// while the server is restarted: clients that come meanwhile wait in it, and none is
// refused.

// firstHanded is the descriptor of the first socket.
const firstHanded = 3

// handed are the sockets that nobody has taken yet.
type handed []handedSocket

type handedSocket struct {
	net.Listener
	name string // FileDescriptorName= of the unit
}

// handedOver returns the sockets that this process was started with. It asks once: who
// asks again finds none.
func handedOver() (handed, error) {
	pid, count := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for _, key := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(key)
	}
	if pid != strconv.Itoa(os.Getpid()) {
		return nil, nil // of an ancestor
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 {
		return nil, failed("LISTEN_FDS=%s is no number of sockets", count)
	}
	var all handed
	for i := range n {
		name := ""
		if i < len(names) {
			name = names[i]
		}
		f := os.NewFile(uintptr(firstHanded+i), name)
		ln, err := net.FileListener(f) // a copy, which no child inherits
		f.Close()
		if err != nil {
			all.close()
			return nil, failed("the socket %q that the server was started with cannot be used: %v; it must be a listening one (ListenStream=)", name, err)
		}
		all = append(all, handedSocket{ln, name})
	}
	return all, nil
}

// take returns the socket that listens on the address of a block, or nil.
func (h *handed) take(b conf.Listen) net.Listener {
	want, err := net.ResolveTCPAddr("tcp", string(b.Address))
	if err != nil {
		return nil
	}
	for i, s := range *h {
		if at, ok := s.Addr().(*net.TCPAddr); ok && sameAddress(at, want) {
			*h = append((*h)[:i:i], (*h)[i+1:]...)
			return s.Listener
		}
	}
	return nil
}

// sameAddress tells whether two addresses are the same to a client. Every address of the
// machine may be written in several ways: ":25", "0.0.0.0:25", "[::]:25".
func sameAddress(a, b *net.TCPAddr) bool {
	every := func(ip net.IP) bool { return len(ip) == 0 || ip.IsUnspecified() }
	return a.Port == b.Port && (every(a.IP) && every(b.IP) || a.IP.Equal(b.IP))
}

// rest refuses sockets that nobody took: their clients would wait for ever.
func (h handed) rest() error {
	if len(h) == 0 {
		return nil
	}
	h.close()
	return misused("the server was started with the socket %q on %s, which no [[listen]] block names; add one with this address, or take it out of the .socket unit", h[0].name, h[0].Addr())
}

func (h handed) close() {
	for _, s := range h {
		s.Close()
	}
}
