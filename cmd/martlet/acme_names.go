package main

import (
	"context"
	"net/netip"
	"slices"

	"github.com/martlet-mail/martlet/internal/dnsx"
)

// clientNames are what people's programs put in front of a domain to find its servers. They ask the
// domain itself, too.
var clientNames = []string{"mail", "imap", "smtp", "pop", "autoconfig", "autodiscover", "mta-sts", "ua-auto-config"}

// peoplesNames are the names of hosted domains that clients use and that lead here. What
// cannot be looked up now is looked up again later.
func (h *house) peoplesNames(ctx context.Context) (names []string) {
	ours := slices.Clone(h.cfg.DNS.Addresses)
	if here, _, err := h.resolver.LookupAddr(ctx, string(h.cfg.Hostname)); err == nil {
		ours = append(ours, here...)
	}
	domains, err := h.directory.Domains(ctx)
	if err != nil {
		h.log.Warn("the hosted domains cannot be listed, for their certificates", "err", err)
	}
	for _, d := range domains {
		domain, err := dnsx.ASCII(d.Name)
		if err != nil {
			continue
		}
		for _, name := range append([]string{domain}, below(domain, clientNames)...) {
			if h.leadsTo(ctx, name, ours) {
				names = append(names, name)
			}
		}
	}
	return names
}

// below puts labels in front of a domain.
func below(domain string, labels []string) (names []string) {
	for _, l := range labels {
		names = append(names, l+"."+domain)
	}
	return names
}

// leadsTo tells whether a name has one of the addresses.
func (h *house) leadsTo(ctx context.Context, name string, to []netip.Addr) bool {
	at, _, err := h.resolver.LookupAddr(ctx, name)
	return err == nil && slices.ContainsFunc(at, func(a netip.Addr) bool { return slices.Contains(to, a) })
}
