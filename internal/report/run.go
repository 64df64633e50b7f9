package report

import (
	"context"
	"time"
)

// Run writes what was counted at each tick, sends what is due and reads what has come, until
// ctx ends; what was counted is written then, too.
func (b *Book) Run(ctx context.Context, ticks <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			b.last(context.WithoutCancel(ctx))
			return
		case <-b.full:
			b.flush(ctx)
		case <-ticks:
			b.flush(ctx)
		}
	}
}

func (b *Book) flush(ctx context.Context) {
	if err := b.Flush(ctx); err != nil && ctx.Err() == nil {
		b.opt.Log.Error("what was counted for reports cannot be written; it is tried again", "err", err)
	}
}

// last is the flush of a stop.
func (b *Book) last(ctx context.Context) { b.flush(ctx) }
