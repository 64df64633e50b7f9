package discover

import (
	"context"
	"time"
)

// network asks everybody at once and waits until the answer is good enough.
func (h *hunt) network(stop context.CancelFunc) {
	defer h.running.Wait()
	defer stop()
	if h.f.opt.Resolver == nil {
		return
	}
	h.ask()
	known, late := time.NewTimer(min(quick, h.f.opt.Deadline)), time.NewTimer(h.f.opt.Deadline*3/10)
	defer known.Stop()
	defer late.Stop()
	var over <-chan time.Time
	isKnown, isLate := false, false
	for {
		switch h.state(isKnown, isLate) {
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
			isKnown = true
		case <-late.C:
			isLate = true
		case <-over:
			return
		case <-h.ctx.Done():
			return
		}
	}
}

// ask starts all sources that are asked over the network.
func (h *hunt) ask() {}

type lookup struct{}

type mailHosts struct{}

func describe(err error) string { return err.Error() }

func (h *hunt) probe(ctx context.Context, a *Answer) {}
