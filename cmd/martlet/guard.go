package main

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/guard"
)

// newGuard makes what [guard] says.
func newGuard(cfg *conf.Config, eng engine.Engine, resolver dnsx.Resolver, log *slog.Logger) *guard.Guard {
	g := cfg.Guard
	o := guard.Options{
		Engine: eng, Now: time.Now, Log: log, Keep: time.Duration(g.GreylistKeep),
		PerAddress: g.MessagesPerAddress, PerNetwork: g.MessagesPerNetwork,
	}
	if g.Greylist != "off" {
		o.Greylist = time.Duration(g.GreylistDelay)
	}
	if g.Greylist == "nameless" {
		o.Known = func(ctx context.Context, peer netip.Addr) bool { return hasName(ctx, resolver, peer) }
	}
	return guard.New(o)
}

// nameWait is how long a host waits for the answer to its RCPT while its name is looked up.
const nameWait = 10 * time.Second

// hasName tells whether an address has a name that leads back to it. While that cannot be
// known, it has.
func hasName(ctx context.Context, resolver dnsx.Resolver, peer netip.Addr) bool {
	ctx, cancel := context.WithTimeout(ctx, nameWait)
	defer cancel()
	names, _, err := resolver.LookupPTR(ctx, peer)
	if err != nil {
		return !fault.Is(err, fault.NotFound)
	}
	for _, name := range names[:min(len(names), 5)] {
		at, _, err := resolver.LookupAddr(ctx, name)
		if err != nil && !fault.Is(err, fault.NotFound) || slices.Contains(at, peer.Unmap().WithZone("")) {
			return true
		}
	}
	return false
}

// keepGuard forgets what has been long ago.
func (h *house) keepGuard(ctx context.Context) error {
	hour := time.NewTicker(time.Hour)
	defer hour.Stop()
	h.guard.Run(ctx, hour.C)
	return nil
}
