package report

import (
	"context"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
)

// Run writes what was counted at each tick, sends what is due, reads what has come and
// forgets what is old, until ctx ends; what was counted is written then, too.
func (b *Book) Run(ctx context.Context, ticks <-chan time.Time) {
	due := make(chan struct{}, 1)
	var wg sync.WaitGroup
	wg.Go(func() { b.readAll(ctx) })
	wg.Go(func() { b.sendAll(ctx, due) })
	for {
		select {
		case <-ctx.Done():
			b.flush(context.WithoutCancel(ctx))
			wg.Wait()
			return
		case <-b.full:
			b.flush(ctx)
		case <-ticks:
			b.flush(ctx)
			select {
			case due <- struct{}{}:
			default:
			}
		}
	}
}

func (b *Book) flush(ctx context.Context) {
	if err := b.Flush(ctx); err != nil && ctx.Err() == nil {
		b.opt.Log.Error("what was counted for reports cannot be written; it is tried again", "err", err)
	}
}

// sendAll sends what is due at each tick, and forgets once an hour.
func (b *Book) sendAll(ctx context.Context, due <-chan struct{}) {
	var swept time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-due:
		}
		if b.opt.Sends != nil && !b.opt.Sends() {
			continue
		}
		if err := b.Send(ctx); err != nil && ctx.Err() == nil {
			b.opt.Log.Error("reports cannot be sent; it is tried again", "err", err)
		}
		if now := b.opt.Now(); now.Sub(swept).Abs() >= time.Hour {
			swept = now
			if err := b.Sweep(ctx); err != nil && ctx.Err() == nil {
				b.opt.Log.Error("old reports cannot be removed", "err", err)
			}
		}
	}
}

// stale is how long counts are kept that were not sent.
const stale = 7 * 24 * time.Hour

// Sweep removes what was kept for long enough.
func (b *Book) Sweep(ctx context.Context) error {
	now := b.opt.Now()
	return b.opt.Engine.Update(ctx, Shard, func(w engine.Writer) error {
		for _, family := range []byte{famReport, famRows, famSent} {
			if err := w.DeleteRange([]byte{family}, dayOf(now.Add(-b.opt.Keep)).appendTo([]byte{family})); err != nil {
				return err
			}
		}
		for _, family := range []byte{famOwed, famCount, famDomains, famTaken, famRoom} {
			for _, kind := range []Kind{DMARC, TLS} {
				head := []byte{family, byte(kind)}
				if err := w.DeleteRange(head, dayOf(now.Add(-stale)).appendTo(head[:2:2])); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
