package main

import (
	"context"
	"time"

	"github.com/martlet-mail/martlet/internal/doctor"
	"github.com/martlet-mail/martlet/internal/engine"
)

// This file shows the doctor what several nodes share.

// clusterFacts are nil where this machine is alone.
func (h *house) clusterFacts() *doctor.Cluster {
	if !shared(h.cfg) {
		return nil
	}
	c := &doctor.Cluster{Database: h.databaseForDoctor}
	if h.bucket != nil {
		c.Objects = func(ctx context.Context) error {
			return h.bucket.Check(engine.Patient(ctx, lookWait), "doctor/"+connectionID()+connectionID())
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

func (h *house) databaseForDoctor(ctx context.Context) doctor.Database {
	f := lookAtDatabase(ctx, databaseURL(h.cfg))
	return doctor.Database{
		Host: f.Host, Problem: f.Problem, ReadOnly: f.ReadOnly, Latency: time.Duration(f.LatencyMS * float64(time.Millisecond)),
		Foreign: f.Foreign, Commit: f.Commit, Names: f.Names, Standbys: f.Standbys, InStep: f.InStep, Hidden: f.Hidden, Ahead: f.clock, Slack: f.slack,
	}
}
