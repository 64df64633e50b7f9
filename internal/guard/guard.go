// Package guard keeps hosts that nobody knows from bringing mail too fast: greylisting,
// which asks a stranger to come again, and rates, which an address and a network may not
// exceed.
//
// It knows hosts by their addresses and mail by its envelope, and no message. What
// greylisting has learnt lies in the engine; rates are forgotten with the process. When the
// engine fails, mail passes.
//
// RFC 6647 (greylisting).
package guard

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Shard is where guard keeps what it has learnt.
const Shard engine.Shard = 4

// Options of a Guard. Engine and Now must be given; what is zero is off.
type Options struct {
	Engine engine.Engine
	Now    func() time.Time
	Log    *slog.Logger // nil: discard

	// Greylist delays the first message of a host for one sender and recipient by this.
	Greylist time.Duration
	Keep     time.Duration // after its last mail a host is a stranger again; 0: 35 days
	// Known tells whether a host needs no greylisting: it has a name that leads back to it,
	// say. Nil: none.
	Known func(ctx context.Context, peer netip.Addr) bool

	PerAddress int // messages a minute of one IPv4 address or IPv6 /64
	PerNetwork int // messages a minute of one IPv4 /24 or IPv6 /48
}

// window is how long a stranger may take to come again (RFC 6647, 5).
const window = 24 * time.Hour

// enough is how many messages that came again make a network known: what it sends then is
// not delayed any more.
const enough = 5

// Guard watches hosts. It may be used by many goroutines; a nil Guard lets all pass.
type Guard struct {
	opt   Options
	rates rates
}

// New returns a guard.
func New(o Options) *Guard {
	if o.Keep <= 0 {
		o.Keep = 35 * 24 * time.Hour
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Guard{opt: o, rates: rates{of: map[netip.Prefix]*bucket{}}}
}

// Begin tells whether a host may begin another message. A fault is of kind Limited.
func (g *Guard) Begin(peer netip.Addr) error {
	if g == nil || !peer.IsValid() {
		return nil
	}
	now := g.opt.Now()
	for _, limit := range []struct {
		most  int
		block netip.Prefix
		what  string
	}{{g.opt.PerAddress, Address(peer), "address"}, {g.opt.PerNetwork, Network(peer), "network"}} {
		if limit.most > 0 && !g.rates.take(limit.block, limit.most, now) {
			return fault.Newf(fault.Limited, "your %s %s has sent %d messages within a minute, which is too many; try again later", limit.what, limit.block, limit.most)
		}
	}
	return nil
}

// Recipient tells whether a host may bring mail of a sender for a recipient now. A fault is of
// kind Limited and tells when to come again.
func (g *Guard) Recipient(ctx context.Context, peer netip.Addr, from, to mail.Address) error {
	if g == nil || g.opt.Greylist <= 0 || !peer.IsValid() {
		return nil
	}
	wait, err := g.greylist(ctx, peer, from, to)
	switch {
	case err != nil:
		g.opt.Log.Error("greylisting failed; mail passes", "peer", peer, "err", err)
		return nil
	case wait > 0:
		return fault.Newf(fault.Limited, "this server does not know you yet; try again in %d seconds", int(wait.Seconds()+1))
	}
	return nil
}

// greylist returns how long the host has still to wait.
func (g *Guard) greylist(ctx context.Context, peer netip.Addr, from, to mail.Address) (wait time.Duration, err error) {
	now, home, key := g.opt.Now().UnixMilli(), hostKey(peer), tripletKey(peer, from, to)
	var host, triplet entry
	err = g.opt.Engine.View(ctx, Shard, func(r engine.Reader) (err error) {
		if host, err = g.read(r, home, now); err == nil {
			triplet, err = g.read(r, key, now)
		}
		return err
	})
	delay := g.opt.Greylist.Milliseconds()
	switch {
	case err != nil:
		return 0, err
	case host.passes >= enough, triplet.passes > 0:
		return 0, g.seenAgain(ctx, now, home, key, host, triplet)
	case triplet.first == 0 && g.opt.Known != nil && g.opt.Known(ctx, peer):
		return 0, nil
	case triplet.first == 0 || now-triplet.first > window.Milliseconds() || now < triplet.first:
		return g.opt.Greylist, g.write(ctx, map[string]entry{string(key): {first: now, last: now}})
	case now-triplet.first < delay:
		return time.Duration(delay-(now-triplet.first)) * time.Millisecond, nil
	}
	triplet.passes, triplet.last = 1, now
	host.passes, host.last = host.passes+1, now
	if host.first == 0 {
		host.first = now
	}
	return 0, g.write(ctx, map[string]entry{string(key): triplet, string(home): host})
}

// seenAgain keeps a host known that goes on sending. A day is near enough.
func (g *Guard) seenAgain(ctx context.Context, now int64, home, key []byte, host, triplet entry) error {
	const day = int64(24 * time.Hour / time.Millisecond)
	changed := map[string]entry{}
	if host.passes > 0 && now-host.last > day {
		host.last = now
		changed[string(home)] = host
	}
	if triplet.passes > 0 && now-triplet.last > day {
		triplet.last = now
		changed[string(key)] = triplet
	}
	if len(changed) == 0 {
		return nil
	}
	return g.write(ctx, changed)
}

// Address is what counts as one address: one IPv6 customer has a /64 at least.
func Address(peer netip.Addr) netip.Prefix { return block(peer, 32, 64) }

// Network is what counts as one network.
func Network(peer netip.Addr) netip.Prefix { return block(peer, 24, 48) }

func block(peer netip.Addr, four, six int) netip.Prefix {
	peer = peer.Unmap().WithZone("")
	bits := four
	if peer.Is6() {
		bits = six
	}
	p, _ := peer.Prefix(bits) // these are lengths that there are
	return p
}

// Keys: h and the network; t and a hash of network, sender and recipient.
const (
	famHost    = 'h'
	famTriplet = 't'
)

func hostKey(peer netip.Addr) []byte { return engine.KeyString(famHost, Network(peer).String()) }

// tripletKey is of a network, as large senders try again from another address, and of a
// sender without what changes from one message of a list to the next.
func tripletKey(peer netip.Addr, from, to mail.Address) []byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s\x00%s", Network(peer), steady(from.Local), from.Folded().Domain, to.Folded()))
	return engine.KeyString(famTriplet, string(sum[:16]))
}

// steady is a local part with its numbers left out: VERP and SRS put some in.
func steady(local string) string {
	b := []byte(local)
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			b[n] = c
			n++
		}
	}
	return string(b[:n])
}
