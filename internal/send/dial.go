package send

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Bounds on what a family of addresses that does not work may cost.
const (
	weakConnect = 5 * time.Second  // for a connection
	weakFor     = 10 * time.Minute // until it is tried like the other again
	weakAfter   = 3                // failures in a row, of different hosts
)

// families remembers which of IPv4 and IPv6 leads nowhere from here.
type families struct {
	mu     sync.Mutex
	fails  [2]int
	last   [2]netip.Addr // that failed
	weakTo [2]time.Time
}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// weak tells whether connections over an address's family have failed lately, and those
// over the other have not.
func (f *families) weak(a netip.Addr, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := familyOf(a)
	left := f.weakTo[n].Sub(now)
	return left > 0 && left <= weakFor && !f.weakTo[1-n].After(now)
}

// note remembers how a connection to an address ended. A machine without a route says so
// at once; a network that swallows packets is known by several hosts that do not answer.
func (f *families) note(a netip.Addr, err error, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := familyOf(a)
	var ne net.Error
	switch {
	case err == nil || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET):
		f.fails[n], f.weakTo[n], f.last[n] = 0, time.Time{}, netip.Addr{}
	case errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL):
		f.weakTo[n] = now.Add(weakFor)
	case errors.As(err, &ne) && ne.Timeout() && f.last[n] != a:
		f.last[n] = a
		if f.fails[n]++; f.fails[n] >= weakAfter {
			f.weakTo[n] = now.Add(weakFor)
		}
	}
}

// sorted puts addresses of a family that leads nowhere last, and hosts to which a
// connection is open first. All are equals in preference.
func (c *Courier) sorted(targets []target) []target {
	now := c.opt.Now()
	rank := func(t target) int {
		switch {
		case c.pool.has(t.addr):
			return 0
		case c.families.weak(t.addr.Addr(), now):
			return 2
		}
		return 1
	}
	slices.SortStableFunc(targets, func(a, b target) int { return rank(a) - rank(b) })
	return targets
}

// source returns our address that a connection to a target is made from; invalid is any.
// Mail of one domain always comes from the same one: hosts that greylist know it then.
func (c *Courier) source(j *job, t target) netip.Addr {
	all := c.opt.Sources
	if j.via != nil && len(j.via.Sources) > 0 {
		all = j.via.Sources
	}
	var own []netip.Addr
	for _, a := range all {
		if a.Unmap().Is4() == t.addr.Addr().Is4() {
			own = append(own, a.Unmap())
		}
	}
	if len(own) == 0 {
		return netip.Addr{}
	}
	h := fnv.New32a()
	h.Write([]byte(j.domain))
	return own[h.Sum32()%uint32(len(own))]
}

// dial connects to a target. The error is a *refusal.
func (c *Courier) dial(ctx context.Context, j *job, t target) (net.Conn, error) {
	limit := c.opt.Timeouts.Connect
	if c.families.weak(t.addr.Addr(), c.opt.Now()) {
		limit = min(limit, weakConnect)
	}
	dctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var conn net.Conn
	var err error
	if from := c.source(j, t); from.IsValid() && c.opt.DialFrom != nil {
		conn, err = c.opt.DialFrom(dctx, from, "tcp", t.addr.String())
	} else {
		conn, err = c.opt.Dial(dctx, "tcp", t.addr.String())
	}
	if ctx.Err() == nil {
		c.families.note(t.addr.Addr(), err, c.opt.Now())
	}
	if err != nil {
		return nil, dialError(t, err)
	}
	return conn, nil
}

// dialError puts a failed connection into words.
func dialError(t target, err error) error {
	why := "no connection could be made"
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		why = "no answer to the attempt to connect"
	} else if strings.Contains(err.Error(), "refused") {
		why = "connection refused"
	} else if strings.Contains(err.Error(), "unreachable") {
		why = "network or host unreachable"
	}
	return ours(421, "4.4.1", fmt.Sprintf("%s [%s]: %s", t.host, t.addr.Addr(), why))
}
