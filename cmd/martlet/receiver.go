package main

import (
	"context"
	"time"

	"github.com/martlet-mail/martlet/internal/receive"
	"github.com/martlet-mail/martlet/internal/srs"
)

// newReceiver makes the road in of the parts that are there.
func (h *house) newReceiver() (*receive.Receiver, error) {
	secret, err := h.directory.Secret("srs")
	if err != nil {
		return nil, err
	}
	in := receive.Options{
		Store: h.store, Directory: h.directory, Queue: h.queue, Signers: h.directory, Returns: srs.New(secret, time.Now),
		MaxReceived: h.cfg.SMTP.ReceivedLimit, MarkAttachments: h.cfg.SMTP.MarkAttachments,
		Doubts: h.doubts, Part: h.node.Number(), Now: time.Now, Log: h.log, Trace: h.trace,
	}
	addChecks(&in, h.cfg, h.resolver)
	in.Filters = filters(h.cfg)
	in.Observed = h.observed
	if h.cfg.Reports.FileOnly {
		in.Kept = func(ctx context.Context, o receive.Observation) bool {
			return h.reports.TakeAtOnce(ctx, reportLetter(o))
		}
	}
	return receive.New(in), nil
}
