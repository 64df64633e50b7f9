package main

import (
	"errors"
	"net"
	"strconv"
	"syscall"

	"github.com/martlet-mail/martlet/internal/conf"
)

// door is a listener that is bound: clients that come before the server is ready wait
// in it.
type door struct {
	net.Listener
	conf.Listen
}

// openDoors binds all listeners of a configuration, or none. Those that the process was
// started with it takes as they are.
func openDoors(blocks []conf.Listen) ([]door, error) {
	given, err := handedOver()
	if err != nil {
		return nil, err
	}
	var doors []door
	for _, b := range blocks {
		ln := given.take(b)
		if ln == nil {
			if ln, err = net.Listen("tcp", string(b.Address)); err != nil {
				closeDoors(doors)
				given.close()
				return nil, bindError(b, err)
			}
		}
		doors = append(doors, door{ln, b})
	}
	if err := given.rest(); err != nil {
		closeDoors(doors)
		return nil, err
	}
	return doors, nil
}

func closeDoors(doors []door) {
	for _, d := range doors {
		d.Listener.Close()
	}
}

// takenError is that of a port that somebody else listens on.
type takenError struct {
	failure
	holder int // process, or 0 if unknown
}

func (e *takenError) Unwrap() error { return &e.failure }

func bindError(b conf.Listen, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		_, port, _ := net.SplitHostPort(string(b.Address))
		n, _ := strconv.Atoi(port)
		holder, who := portHolder(n), "another process"
		if holder > 0 {
			who = processName(holder)
		}
		text := failed("port %s (%s) is taken by %s; stop it, or choose another address in [[listen]]", port, b.Name(), who)
		return &takenError{*text.(*failure), holder}
	case errors.Is(err, syscall.EACCES):
		return failed("no permission to listen on %s (%s); ports below 1024 need root or the capability CAP_NET_BIND_SERVICE", b.Address, b.Name())
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return failed("cannot listen on %s (%s): this machine has no such address; see its addresses with: ip addr", b.Address, b.Name())
	}
	return failed("cannot listen on %s (%s): %v", b.Address, b.Name(), err)
}

// ports maps the names of listeners to their ports, to the first where there are several.
func ports(doors []door) map[string]int {
	m := make(map[string]int, len(doors))
	for _, d := range doors {
		tcp, ok := d.Addr().(*net.TCPAddr)
		if _, known := m[d.Name()]; ok && !known {
			m[d.Name()] = tcp.Port
		}
	}
	return m
}
