package lab

import (
	"encoding/binary"
	"net"
	"sync/atomic"
	"time"
)

// Clock tells the time by NTP (RFC 5905, 14), wrong if it is told to.
type Clock struct {
	off atomic.Int64
}

// Wrong has the clock be ahead.
func (c *Clock) Wrong(by time.Duration) { c.off.Store(int64(by)) }

// clock tells the time on the host until the world ends.
func (h *Host) clock() (*Clock, error) {
	var in net.PacketConn
	var err error
	if inside := h.inside(func() { in, err = net.ListenPacket("udp", ":123") }); inside != nil {
		return nil, inside
	}
	if err != nil {
		return nil, err
	}
	c := &Clock{}
	go func() {
		ask := make([]byte, 1024)
		for {
			n, from, err := in.ReadFrom(ask)
			if err != nil {
				return
			}
			if n < 48 {
				continue
			}
			now := time.Now().Add(time.Duration(c.off.Load()))
			answer := make([]byte, 48)
			answer[0], answer[1] = 0x24, 1 // version 4, of a server; a clock of its own
			copy(answer[24:32], ask[40:48])
			for _, at := range []int{16, 32, 40} { // set, received, sent
				binary.BigEndian.PutUint32(answer[at:], uint32(now.Unix()+2208988800))
				binary.BigEndian.PutUint32(answer[at+4:], uint32(uint64(now.Nanosecond())<<32/1e9))
			}
			in.WriteTo(answer, from)
		}
	}()
	h.world.mu.Lock()
	defer h.world.mu.Unlock()
	h.world.ends = append(h.world.ends, in)
	return c, nil
}
