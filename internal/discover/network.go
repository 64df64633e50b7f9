package discover

import (
	"context"
	"errors"
	"time"
)

// network asks everybody at once and waits until the answer is good enough.
func (h *hunt) network(stop context.CancelFunc) {
	defer h.running.Wait()
	defer stop()
	if h.f.opt.Resolver == nil || h.f.opt.Dial == nil {
		return
	}
	h.ask()
	known, late := time.NewTimer(min(quick, h.f.opt.Deadline)), time.NewTimer(h.f.opt.Deadline/4)
	part := time.NewTimer(h.f.opt.Deadline * 35 / 100)
	defer known.Stop()
	defer late.Stop()
	defer part.Stop()
	var over <-chan time.Time
	var now passed
	for {
		switch h.state(now) {
		case ready:
			return
		case lingered:
			if over == nil {
				t := time.NewTimer(linger)
				defer t.Stop()
				over = t.C
			}
		}
		select {
		case <-h.changed:
		case <-known.C:
			now.known = true
		case <-late.C:
			now.late = true
		case <-part.C:
			now.part = true
		case <-over:
			return
		case <-h.ctx.Done():
			return
		}
	}
}

// ask starts all sources that are asked over the network. What is worse than the table is not
// asked about a domain that the table has, unless every step is to be told.
func (h *hunt) ask() {
	d := h.who.Domain
	h.mx = &mailHosts{done: make(chan struct{})}
	h.start(rankPACC, "pacc", "https://ua-auto-config."+d, h.pacc)
	h.start(rankAutoconfig, "autoconfig", "https://autoconfig."+d+", https://"+d, func(ctx context.Context, s *step) (found, error) {
		return h.autoconfig(ctx, s, gets(false, h.autoconfigURLs("https", d)...), Published)
	})
	if h.f.table.byDomain(d) != nil && !h.f.opt.Explain {
		return
	}
	h.start(rankTableMX, "table-mx", "the built-in table, by mail host", h.tableByHost)
	if h.f.opt.Database != "" {
		h.start(rankDatabase, "database", h.f.opt.Database+d, func(ctx context.Context, s *step) (found, error) {
			return h.autoconfig(ctx, s, gets(true, h.f.opt.Database+d), Database)
		})
	}
	h.start(rankSRV, "srv", "SRV records of "+d, h.services)
	h.start(rankMX, "mx-table", "the built-in table, by the domain of the mail host", h.tableByHostsDomain)
	h.start(rankMX, "alias", "the built-in table, by what autodiscover."+d+" is an alias of", h.tableByAlias)
	h.start(rankMX, "mx", "autoconfig of the mail host", h.byMailHost)
	if h.f.opt.Database != "" {
		h.start(rankMX, "mx-database", "the database, about the mail host", h.databaseByHost)
	}
	h.start(rankAutodiscover, "autodiscover", "https://autodiscover."+d+", https://"+d, h.outlook)
	h.start(rankPlain, "autoconfig-http", "http://autoconfig."+d+", http://"+d, func(ctx context.Context, s *step) (found, error) {
		return h.plainAutoconfig(ctx, s, gets(true, h.autoconfigURLs("http", d)...))
	})
	h.start(rankGuess, "guess", "the usual names of "+d, h.guess)
	h.start(rankHost, "mx-host", "the mail host, and its owner's usual names", h.guessHost)
}

var errNothing = errors.New("names no server that is known here")
