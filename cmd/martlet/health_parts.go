package main

import (
	"context"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/martlet-mail/martlet/internal/engine/postgres"
	"github.com/martlet-mail/martlet/internal/engine/s3"
)

// engineFigure is something that is counted, for /metrics and the health page.
type engineFigure struct {
	name, help string
	value      func() int64
}

// databaseFigures are what the engine of a shared store counts.
func databaseFigures(s *postgres.Stats) []engineFigure {
	return []engineFigure{
		{"reads", "Round trips for records that were not in memory.", s.Reads.Load},
		{"proofs", "Round trips that asked whether what is in memory is true.", s.Proofs.Load},
		{"proven", "Shards whose records in memory were asked about.", s.Proven.Load},
		{"snapshots", "Transactions that held a moment still for a reader.", s.Snapshots.Load},
		{"loads", "Transactions that carried commits of shards.", s.Loads.Load},
		{"commits", "Commits of shards, of which a transaction carries one or several.", s.Commits.Load},
		{"updates", "Changes, of which a commit of a shard carries one or several.", s.Updates.Load},
		{"row_locks", "Transactions that locked a shard first, as others work on it, too.", s.RowLocks.Load},
		{"clashes", "Commits that came too late, after another node's.", s.Clashes.Load},
		{"serialization", "Transactions that the database gave up for others.", s.Serialization.Load},
		{"reruns", "Changes that were made once more.", s.Reruns.Load},
		{"doubts", "Commits whose connection broke before the answer.", s.Doubts.Load},
		{"unknown", "Commits of which it stayed unknown whether they came to be.", s.Unknown.Load},
		{"vouched", "Commits whose wait for a standby was cancelled, and that were made sure of.", s.Vouched.Load},
		{"forwarded", "Shards brought up to date after commits of other nodes.", s.Forwarded.Load},
		{"forgotten", "Shards of which all records in memory were dropped after commits of other nodes.", s.Forgotten.Load},
		{"hits", "Records found in memory.", s.Hits.Load},
		{"misses", "Records, and parts of lists, not found in memory.", s.Misses.Load},
		{"blobs", "Statements for bodies.", s.Blobs.Load},
		{"hints", "Hints sent to other nodes.", s.Hints.Load},
		{"looks", "Looks at shards that somebody waits for.", s.Looks.Load},
		{"connects", "Connections made to databases.", s.Connects.Load},
	}
}

// objectFigures are what is counted of the object store, and of the cache in front of it.
func objectFigures(b *s3.Bucket, c *s3.Cache) (all []engineFigure) {
	if b != nil {
		all = append(all,
			engineFigure{"object_puts", "Requests to the object store that put an object.", func() int64 { return b.Counts().Puts }},
			engineFigure{"object_gets", "Requests to the object store that read an object.", func() int64 { return b.Counts().Gets }},
			engineFigure{"object_removes", "Requests to the object store that removed an object.", func() int64 { return b.Counts().Removes }},
			engineFigure{"object_lists", "Requests to the object store that listed objects.", func() int64 { return b.Counts().Lists }},
			engineFigure{"object_retries", "Requests to the object store that were made once more.", func() int64 { return b.Counts().Retries }},
			engineFigure{"object_resumed", "Objects that broke off and were read on.", func() int64 { return b.Counts().Resumed }},
			engineFigure{"object_sent_bytes", "Bytes of objects put.", func() int64 { return b.Counts().Sent }},
			engineFigure{"object_received_bytes", "Bytes of objects read.", func() int64 { return b.Counts().Received }})
	}
	if c != nil {
		all = append(all,
			engineFigure{"object_cache_hits", "Objects found on this node's disk.", func() int64 { return c.Counts().Hits }},
			engineFigure{"object_cache_misses", "Objects not found on this node's disk.", func() int64 { return c.Counts().Misses }},
			engineFigure{"object_cache_damaged", "Objects on this node's disk that were damaged, and read anew.", func() int64 { return c.Counts().Damaged }})
	}
	return all
}

func (h *house) engineFigures() []engineFigure {
	e, ok := h.engine.(*postgres.Engine)
	if !ok {
		return nil
	}
	return append(databaseFigures(e.Stats()), objectFigures(h.bucket, h.cache)...)
}

// groupsHealth looks at the databases of all groups at once, the home group's first.
func (h *house) groupsHealth(ctx context.Context) []groupHealth {
	doors := h.doors()
	all := make([]groupHealth, len(doors))
	var wg sync.WaitGroup
	for i, d := range doors {
		wg.Go(func() { all[i] = groupState(d, lookThrough(ctx, d)) })
	}
	wg.Wait()
	return all
}

// groupState puts together what a look has shown, and what the engine met with.
func groupState(d postgres.Door, seen databaseFacts) groupHealth {
	g := groupHealth{Name: d.Name, State: "up", Database: &seen}
	switch {
	case !seen.Reachable:
		g.State, g.Down = "down", seen.Problem
	case seen.ReadOnly:
		g.State = "standby"
	case d.Down != nil:
		g.State, g.Down = "down", oneLine(d.Down.Error())
	}
	return g
}

// fillGroups adds what the home group's database knows of the groups.
func (h *house) fillGroups(ctx context.Context, all []groupHealth) {
	e, ok := h.engine.(*postgres.Engine)
	if !ok || len(all) == 0 {
		return
	}
	list, err := e.Groups(ctx)
	if err != nil {
		return // that the database is away is told
	}
	for i := range min(len(all), len(list)) { // both by number; one may have come since
		all[i].Accounts, all[i].Bytes, all[i].Full = list[i].Accounts, list[i].Size, list[i].Full
	}
}

// engineCounters are what the engine has counted.
func (h *house) engineCounters() (all []engineCounter) {
	for _, f := range h.engineFigures() {
		all = append(all, engineCounter{strings.ReplaceAll(f.name, "_", " "), f.value()})
	}
	return all
}

// clusterMetrics adds what a node among others has to tell.
func (h *house) clusterMetrics(r *prometheus.Registry) {
	for _, f := range h.engineFigures() {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "martlet_engine_" + f.name + "_total", Help: f.help}, func() float64 { return float64(f.value()) }))
	}
	if c := h.cache; c != nil {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "martlet_engine_object_cache_bytes", Help: "Bytes of objects on this node's disk."}, func() float64 { return float64(c.Counts().Bytes) }))
	}
	if !shared(h.cfg) {
		return
	}
	gauge := func(name, help string, value func() bool) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			if value() {
				return 1
			}
			return 0
		}))
	}
	r.MustRegister(groupMetrics{h})
	gauge("martlet_node_draining", "1 while this node is about to leave, else 0.", h.draining)
	gauge("martlet_node_ready", "1 while clients are welcome at this node, else 0.", func() bool { return h.vitals.ready() == nil })
}

// groupMetrics tell of each group whether it can be used.
type groupMetrics struct{ house *house }

var groupHealthy = prometheus.NewDesc("martlet_group_healthy", "1 while this node can use the database of the group, else 0.", []string{"group"}, nil)

func (m groupMetrics) Describe(to chan<- *prometheus.Desc) { to <- groupHealthy }

func (m groupMetrics) Collect(to chan<- prometheus.Metric) {
	for _, d := range m.house.doors() {
		well := 1.0
		if d.Down != nil {
			well = 0
		}
		to <- prometheus.MustNewConstMetric(groupHealthy, prometheus.GaugeValue, well, d.Name)
	}
}
