package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
)

// newMetrics returns what /metrics tells.
func newMetrics(h *house, sessions *netsrv.Server) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	b := thisBuild()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "martlet_build_info", Help: "Always 1; the labels say which program runs.",
		ConstLabels: prometheus.Labels{"version": b.Version, "revision": b.Revision, "go": b.Go},
	})
	info.Set(1)
	r.MustRegister(info)

	gauge := func(name, help string, value func() float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	counter := func(name, help string, value func(netsrv.Stats) int64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help},
			func() float64 { return float64(value(sessions.Stats())) }))
	}
	gauge("martlet_connections", "Connections of mail clients and hosts that are open.",
		func() float64 { return float64(sessions.Stats().Open) })
	counter("martlet_connections_accepted_total", "Connections handed to a protocol.", func(s netsrv.Stats) int64 { return s.Accepted })
	counter("martlet_connections_refused_total", "Connections over the limits.", func(s netsrv.Stats) int64 { return s.Refused })
	counter("martlet_tls_failed_total", "TLS handshakes that failed.", func(s netsrv.Stats) int64 { return s.BadTLS })
	counter("martlet_panics_total", "Sessions ended by a defect of the server.", func(s netsrv.Stats) int64 { return s.Panics })
	gauge("martlet_store_bytes", "Bytes that the store occupies on disk.", func() float64 { return float64(h.engine.Size()) })
	gauge("martlet_store_healthy", "1 while the store takes mail, else 0.", func() float64 {
		if h.engine.Healthy() != nil {
			return 0
		}
		return 1
	})
	r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "martlet_store_read_failures_total", Help: "Reads of the store's files that failed.",
	}, func() float64 { return float64(h.engine.ReadFailures()) }))
	if h.certs != nil {
		gauge("martlet_certificate_end_timestamp_seconds", "When the certificate ends that clients are shown.", func() float64 {
			_, ends, err := expiry(h.certs, string(h.cfg.Hostname))
			if err != nil {
				return 0
			}
			return float64(ends.Unix())
		})
	}
	r.MustRegister(queueMetrics{h.queue}, linkMetrics{h.links})
	h.clusterMetrics(r)
	return r
}

// queueMetrics counts the queue once for all its figures.
type queueMetrics struct{ queue *queue.Queue }

var (
	queueMessages = prometheus.NewDesc("martlet_queue_messages", "Messages in the queue.", nil, nil)
	queueHeld     = prometheus.NewDesc("martlet_queue_held", "Messages in the queue that are held.", nil, nil)
	queueSending  = prometheus.NewDesc("martlet_queue_sending", "Attempts to send that are under way.", nil, nil)
)

func (m queueMetrics) Describe(to chan<- *prometheus.Desc) {
	to <- queueMessages
	to <- queueHeld
	to <- queueSending
}

func (m queueMetrics) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), countWait)
	defer cancel()
	c, err := m.queue.Count(ctx)
	if err != nil {
		to <- prometheus.NewInvalidMetric(queueMessages, err)
		return
	}
	for desc, n := range map[*prometheus.Desc]int{queueMessages: c.Messages, queueHeld: c.Held, queueSending: c.Sending} {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(n))
	}
}

// countWait bounds how long a look at /metrics waits for the queue.
const countWait = 5 * time.Second
