package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/martlet-mail/martlet/internal/doctor"
	"github.com/martlet-mail/martlet/internal/engine/postgres"
)

// This file shows the doctor what several nodes share.

// clusterFacts are nil where this machine is alone.
func (h *house) clusterFacts() *doctor.Cluster {
	if !shared(h.cfg) {
		return nil
	}
	c := &doctor.Cluster{Database: h.databaseForDoctor}
	for _, d := range h.doors() {
		if d.Name != postgres.HomeGroup {
			c.Groups = append(c.Groups, d.Name)
		}
	}
	if h.bucket != nil {
		c.Objects = func(ctx context.Context) error {
			if err := h.tryObjects(ctx); err != nil {
				return errors.New(describe(err))
			}
			return nil
		}
	}
	c.Nodes = func(ctx context.Context) (all []doctor.Node, err error) {
		members, err := h.node.List(ctx)
		for _, n := range members {
			all = append(all, doctor.Node{Name: n.Name, State: string(n.State), Version: n.Version, Here: n.Here})
		}
		return all, err
	}
	return c
}

// databaseForDoctor looks at the database of a group; "": the home group.
func (h *house) databaseForDoctor(ctx context.Context, group string) doctor.Database {
	for _, d := range h.doors() {
		if d.Name == cmp.Or(group, postgres.HomeGroup) {
			f := lookThrough(ctx, d)
			return doctor.Database{
				Host: f.Host, Problem: f.Problem, ReadOnly: f.ReadOnly, Latency: time.Duration(f.LatencyMS * float64(time.Millisecond)),
				Foreign: f.Foreign, Commit: f.Commit, Names: f.Names, Standbys: f.Standbys, InStep: f.InStep, Hidden: f.Hidden, Ahead: f.clock, Slack: f.slack,
			}
		}
	}
	return doctor.Database{Problem: "the group is not known"}
}

// openDatabase tells whether connections to a database may go in the clear over a network.
func openDatabase(at string) bool {
	o, err := pgx.ParseConfig(at)
	if err != nil {
		return false // it is told that it cannot be used
	}
	clear := func(host string, tls *tls.Config) bool {
		ip, err := netip.ParseAddr(host)
		return tls == nil && !strings.HasPrefix(host, "/") && host != "localhost" && (err != nil || !ip.IsLoopback())
	}
	for _, f := range o.Fallbacks {
		if clear(f.Host, f.TLSConfig) {
			return true
		}
	}
	return clear(o.Host, o.TLSConfig)
}

// localHost tells whether an address of the web is of this machine.
func localHost(at string) bool {
	u, err := url.Parse(at)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && ip.IsLoopback()
}
