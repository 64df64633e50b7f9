package guard

import (
	"context"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/record"
)

// entry is what is known of a network, or of what it has sent for somebody. Times are
// milliseconds since 1970.
type entry struct {
	first, last int64
	passes      uint64 // messages that came again; of a triplet 1 at most
}

const version = 1

func (e entry) encode() []byte {
	var b record.Enc
	b.I(e.first)
	b.I(e.last)
	b.U(e.passes)
	return record.Seal(version, b)
}

func decode(b []byte) (e entry, ok bool) {
	kind, payload, err := record.Open(b)
	if err != nil || kind != version {
		return e, false
	}
	d := record.Dec{Rest: payload}
	e = entry{first: d.I(), last: d.I(), passes: d.U()}
	return e, d.End("greylisting") == nil
}

// ended tells whether an entry counts no more: its host has not come again in time, or has
// not been seen for long. What lies in the future was written by a clock that was wrong.
func (g *Guard) ended(e entry, now int64) bool {
	keep := g.opt.Keep
	if e.passes == 0 {
		keep = window
	}
	return now-e.last > keep.Milliseconds() || e.last-now > window.Milliseconds()
}

// read returns an entry, zero if there is none that counts. One that is damaged is none: it
// costs a host one more delay.
func (g *Guard) read(r engine.Reader, key []byte, now int64) (entry, error) {
	v, found, err := r.Get(key)
	if err != nil || !found {
		return entry{}, err
	}
	if e, ok := decode(v); ok && !g.ended(e, now) {
		return e, nil
	}
	return entry{}, nil
}

func (g *Guard) write(ctx context.Context, entries map[string]entry) error {
	return g.opt.Engine.Update(ctx, Shard, func(w engine.Writer) error {
		for k, e := range entries {
			if err := w.Put([]byte(k), e.encode()); err != nil {
				return err
			}
		}
		return nil
	})
}

// sweepStep bounds what one Update of Sweep removes.
const sweepStep = 1000

// Sweep removes what counts no more and returns how many entries went.
func (g *Guard) Sweep(ctx context.Context) (gone int, err error) {
	if g == nil {
		return 0, nil
	}
	from := []byte{famHost}
	for from != nil && err == nil {
		var old [][]byte
		now := g.opt.Now().UnixMilli()
		start := from
		err = g.opt.Engine.View(ctx, Shard, func(r engine.Reader) error {
			old, from = nil, nil
			return r.Scan(start, []byte{famTriplet + 1}, false, func(k, v []byte) bool {
				if len(old) == sweepStep {
					from = append([]byte(nil), k...)
					return false
				}
				if e, ok := decode(v); !ok || g.ended(e, now) {
					old = append(old, append([]byte(nil), k...))
				}
				return true
			})
		})
		if err != nil || len(old) == 0 {
			continue
		}
		err = g.opt.Engine.Update(ctx, Shard, func(w engine.Writer) error {
			for _, k := range old {
				if e, err := g.read(w, k, now); err != nil || e.first != 0 {
					return err // it has come again meanwhile; the next sweep sees the others
				}
				if err := w.Delete(k); err != nil {
					return err
				}
			}
			return nil
		})
		gone += len(old)
	}
	return gone, err
}

// Run sweeps at each tick until ctx ends.
func (g *Guard) Run(ctx context.Context, ticks <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
			if _, err := g.Sweep(ctx); err != nil && ctx.Err() == nil {
				g.opt.Log.Error("old entries of greylisting cannot be removed", "err", err)
			}
		}
	}
}
