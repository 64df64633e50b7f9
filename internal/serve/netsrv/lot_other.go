//go:build !linux

package netsrv

import (
	"errors"
	"net"
)

// poller is for Linux; elsewhere a connection keeps its goroutine while it waits.
type poller struct{}

func newPoller(func(place, turn int32)) *poller { return nil }

func (p *poller) close() {}

func (p *poller) arm(net.Conn, int32, int32) error { return errors.ErrUnsupported }

func canPoll(net.Conn) bool { return false }

func boundUnsent(net.Conn) {}

func presence(net.Conn) Presence { return Here }
