package main

import (
	"time"

	"github.com/martlet-mail/martlet/internal/check"
	"github.com/martlet-mail/martlet/internal/check/dnsbl"
	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/receive"
)

// addChecks gives the road in what it needs to check mail from strangers.
func addChecks(o *receive.Options, cfg *conf.Config, resolver *dnsx.Client) {
	o.Forged, o.AuthservID = check.Policy(cfg.Checks.Forged), string(cfg.Checks.AuthservID)
	if o.AuthservID == "" {
		o.AuthservID = string(cfg.Hostname)
	}
	if cfg.Checks.Enabled {
		o.Checks = check.New(checkOptions(cfg, resolver))
	}
}

func checkOptions(cfg *conf.Config, resolver *dnsx.Client) check.Options {
	c := &cfg.Checks
	o := check.Options{
		Resolver: resolver, Hostname: string(cfg.Hostname), Deadline: time.Duration(c.Deadline), Now: time.Now,
		ReverseWeight: c.ReverseWeight, HeloWeight: c.HeloWeight, JunkScore: c.JunkScore, RejectScore: c.RejectScore,
		SPFFail: map[string]check.Disposition{"mark": check.Mark, "junk": check.Junk, "reject": check.Reject}[c.SPFFail],
	}
	for _, f := range c.Forwarders {
		name, err := dnsx.ASCII(string(f))
		if err == nil {
			o.Trusted = append(o.Trusted, name)
		}
	}
	for _, l := range c.Lists {
		o.Zones = append(o.Zones, dnsbl.Zone{Name: string(l.Zone), Action: dnsbl.Action(l.Action), Weight: l.Weight, Codes: l.Prefixes()})
	}
	return o
}
