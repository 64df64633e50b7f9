package main

import (
	"context"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
)

// keepDoubts tells other nodes of deliveries whose outcome is unknown, and hears of theirs.
func (h *house) keepDoubts(ctx context.Context) error {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	h.doubts.Run(ctx, second.C)
	return nil
}

// lastDoubts is how long a server that ends tries to tell the others.
const lastDoubts = time.Second

// tellDoubts tells what sessions have left that were the last to end.
func (h *house) tellDoubts() {
	ctx, cancel := context.WithTimeout(engine.Patient(context.Background(), lastDoubts), lastDoubts)
	defer cancel()
	if err := h.doubts.Tell(ctx); err != nil {
		h.log.Warn("the other nodes were not told which deliveries are in doubt", "err", err)
	}
}
