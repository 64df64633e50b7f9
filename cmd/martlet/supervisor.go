package main

import (
	"context"
	"net"
	"os"
	"strconv"
	"time"
)

// supervisor is told how the server is doing, if it wants to know: systemd of a service of
// Type=notify (sd_notify(3)).
type supervisor struct {
	socket string        // "" is nobody
	beat   time.Duration // between two signs of life; 0: none is wanted
}

func newSupervisor() supervisor {
	s := supervisor{socket: os.Getenv("NOTIFY_SOCKET")}
	if pid := os.Getenv("WATCHDOG_PID"); pid == "" || pid == strconv.Itoa(os.Getpid()) {
		if us, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64); err == nil && us > 0 {
			s.beat = time.Duration(us) * time.Microsecond / 2
		}
	}
	return s
}

// tell says a state, such as READY=1. That it cannot is no reason not to serve.
func (s supervisor) tell(state string) error {
	if s.socket == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte(state))
	return err
}

// watch gives signs of life until ctx ends, each after alive has returned: a server that
// hangs gives none.
func (s supervisor) watch(ctx context.Context, alive func()) {
	if s.beat == 0 {
		return
	}
	for tick := time.NewTicker(s.beat); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
			alive()
			s.tell("WATCHDOG=1")
		}
	}
}
