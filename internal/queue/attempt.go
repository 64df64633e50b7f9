package queue

import (
	"context"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/store"
)

// attempt makes one attempt for a group and records what came of it.
func (q *Queue) attempt(ctx context.Context, p pick) {
	if !q.duty(ctx).may() {
		return
	}
	if p.load == nil {
		p.load = q.loadAlone(ctx, p.flight)
	}
	l := p.load
	if l.err != nil {
		q.opt.Log.Error("a queued message cannot be read", "queue_id", p.id.String(), "error", l.err)
		q.postpone(ctx, p)
		return
	}
	if len(l.who) == 0 { // dropped, held or done meanwhile
		q.insist(ctx, p, func(c context.Context) error { return q.clear(c, p) })
		return
	}
	jobCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(q.opt.Grace, cancel) })
	defer stop()
	courier := q.opt.Remote
	if l.m.road == Local {
		courier = q.opt.Local
	}
	q.intime(ctx, l)
	l.job.Settled = func(some []int, r Result) { q.settled(ctx, p, l.who, some, r) }
	var results []Result
	if l.late {
		results = slices.Repeat([]Result{late}, len(l.who))
	} else {
		results = courier.Deliver(jobCtx, l.job)
	}
	if len(results) != len(l.who) {
		q.opt.Log.Error("a courier gave the wrong number of results", "queue_id", p.id.String(), "want", len(l.who), "got", len(results))
		results = make([]Result, len(l.who))
	}
	cut := jobCtx.Err() != nil || l.withheld != nil && l.withheld.Load()
	down := false
	if l.m.road == Remote && !cut && !l.late { // what is wrong with one mailbox here says nothing of others
		down = q.learn(p, results)
	}
	q.insist(ctx, p, func(c context.Context) error { return q.record(c, p, results, down, cut) })
}

// intime lets nobody have the end of a job's message once another node may send it.
func (q *Queue) intime(ctx context.Context, l *loaded) {
	d, job := q.duty(ctx), &l.job
	if d == nil {
		return
	}
	open, parcel := job.Message.Open, job.Parcel
	l.withheld = new(atomic.Bool)
	job.Message.Open = func(ctx context.Context) (io.ReadCloser, error) {
		r, err := open(ctx)
		if err != nil {
			return nil, err
		}
		return &timely{r, ctx, d, job.Message.Size, l.withheld}, nil
	}
	job.Parcel = func(ctx context.Context) (*store.Parcel, error) {
		p, err := parcel(ctx)
		if err == nil && !d.t.End() {
			l.withheld.Store(true)
			err = errLate()
		}
		return p, err
	}
}

// insist repeats a record until it is made. The outcome of an attempt must not be
// lost to a hitch of the engine: the mail would be sent again. While it is not
// recorded the group counts as under way. It gives up when the queue has stopped, or somebody
// else has it.
func (q *Queue) insist(ctx context.Context, p pick, fn func(context.Context) error) {
	pause := 100 * time.Millisecond
	life := ctx
	if d := q.duty(ctx); d != nil {
		life = d.life
	}
	for {
		c, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		err := fn(c)
		cancel()
		if err == nil {
			return
		}
		q.opt.Log.Error("the outcome of an attempt cannot be recorded", "queue_id", p.id.String(), "error", err)
		if fault.Is(err, fault.Closed) || fault.Is(err, fault.Busy) || life.Err() != nil {
			return
		}
		timer := time.NewTimer(pause)
		select {
		case <-life.Done():
		case <-timer.C:
		}
		timer.Stop()
		pause = min(2*pause, time.Minute)
	}
}

// postpone lets a group that cannot be read wait, so that it does not come up again
// at once.
func (q *Queue) postpone(ctx context.Context, p pick) {
	now := q.now()
	q.insist(ctx, p, func(c context.Context) error {
		return q.update(c, func(t tx) error {
			g, err := t.look().group(p.id, p.group)
			if err != nil { // not even that: it leaves the lane, and verify tells of it
				return t.purge(p)
			}
			next := *g
			next.next = now + q.gap(1)
			t.b.lane(p.lane).served = true
			return t.relist(&message{id: p.id}, p.group, true, g, &next)
		})
	})
}

// clear takes a group out of its lane if nobody in it waits: it would come up again
// and again.
func (q *Queue) clear(ctx context.Context, p pick) error {
	return q.update(ctx, func(t tx) error {
		m, ok, err := t.message(p.id)
		if err != nil {
			return err
		}
		any := false
		if ok {
			if m.heldAt != 0 {
				return nil
			}
			err = t.look().eachRecipient(m, func(_ int, r *recipient) {
				any = any || r.group == p.group && r.state == waiting
			})
		}
		if err != nil || any {
			return err
		}
		return t.purge(p)
	})
}

// purge removes a broken group from its lane, wherever it stands.
func (t tx) purge(p pick) error {
	var keys [][]byte
	prefix := lanePrefix(p.lane)
	err := t.Scan(prefix, engine.After(prefix), false, func(k, _ []byte) bool {
		if _, _, id, n := splitWaiting(k); id == p.id && n == p.group {
			keys = append(keys, append([]byte(nil), k...))
		}
		return len(keys) == 0
	})
	for _, k := range keys {
		if err == nil {
			err = t.Delete(k)
		}
	}
	t.b.lane(p.lane).removed = true
	return err
}
