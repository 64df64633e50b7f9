//go:build unix

package main

import (
	"net"
	"syscall"
	"testing"
)

// The last descriptors are not for connections.
func TestScarce(t *testing.T) {
	ln := listenTCP(t)
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if scarce(nc) {
		t.Fatal("there are enough")
	}
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	defer syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was)
	raw, err := nc.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		now := was
		now.Cur = uint64(fd) + 2
		err = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &now)
	})
	if err != nil {
		t.Fatal(err)
	}
	if !scarce(nc) {
		t.Error("two are left, and a connection may have one")
	}
	if ours, theirs := net.Pipe(); scarce(ours) {
		theirs.Close()
		t.Error("a pipe has no descriptor")
	}
}
