package main

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/martlet-mail/martlet/internal/doctor"
	"github.com/martlet-mail/martlet/internal/move/link"
)

// What /metrics and the doctor are told of links.

type linkMetrics struct{ links *link.Links }

var (
	linkStates  = prometheus.NewDesc("martlet_links", "Links to mailboxes elsewhere, by state.", []string{"state"}, nil)
	linkBrought = prometheus.NewDesc("martlet_links_messages_total", "Messages that links brought.", nil, nil)
)

func (m linkMetrics) Describe(to chan<- *prometheus.Desc) {
	to <- linkStates
	to <- linkBrought
}

func (m linkMetrics) Collect(to chan<- prometheus.Metric) {
	states, brought := m.links.Count()
	for state, n := range states {
		to <- prometheus.MustNewConstMetric(linkStates, prometheus.GaugeValue, float64(n), state)
	}
	to <- prometheus.MustNewConstMetric(linkBrought, prometheus.CounterValue, float64(brought))
}

func (h *house) linkFacts(ctx context.Context) ([]doctor.LinkFact, error) {
	list, err := h.links.List(ctx, 0)
	var facts []doctor.LinkFact
	for _, s := range list {
		f := doctor.LinkFact{ID: uint64(s.ID), What: fmt.Sprintf("%s at %s", s.User, s.Server.Host), Error: s.Error, Fix: s.Fix}
		if s.State == link.Paused {
			if f.Paused = s.Refusing(); !f.Paused {
				continue // by an administrator
			}
		}
		facts = append(facts, f)
	}
	return facts, err
}
