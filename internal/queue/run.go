package queue

import (
	"context"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// A look walks over what was deleted at the head of the queue lately, which after a
// rush can be tens of thousands of keys: so looks keep these distances, and one that
// follows a rest comes at once.
const (
	dispatchRest = 5 * time.Millisecond
	ringRest     = 100 * time.Millisecond
)

// maxSleep bounds how long Run sleeps without looking, so that a clock that is set
// cannot leave mail lying.
const maxSleep = time.Minute

// Run sends what is due until ctx ends; then it gives attempts under way the grace
// time, and returns when the last one is recorded. Failures of the engine are
// logged, and Run goes on. It works on this node's own part, which nobody else may do.
func (q *Queue) Run(ctx context.Context) { q.run(ctx) }

func (q *Queue) run(ctx context.Context) {
	ticks, stop := q.eng.Watch(q.shard)
	defer stop()
	alarms := make(chan struct{}, 1)
	alarmsDone := make(chan struct{})
	go func() {
		defer close(alarmsDone)
		q.loop(ctx, ringRest, alarms, nil, q.ring)
	}()
	pass := make(chan struct{}, 1)
	go func() { // one tick of the engine wakes both loops
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticks:
			}
			for _, c := range []chan struct{}{pass, alarms} {
				select {
				case c <- struct{}{}:
				default:
				}
			}
		}
	}()
	q.loop(ctx, dispatchRest, pass, q.freed, q.dispatch)
	<-alarmsDone
	q.jobs.Wait()
}

// loop calls step whenever something may have become due, but not within rest of the
// last time. step returns when something will next be due, in milliseconds; 0 is
// unknown.
func (q *Queue) loop(ctx context.Context, rest time.Duration, a, b <-chan struct{}, step func(context.Context) (int64, error)) {
	for ctx.Err() == nil {
		sleep := maxSleep
		next, err := step(ctx)
		if err != nil {
			q.stumbled(ctx, err)
			sleep = time.Second
		} else if next != 0 {
			sleep = min(maxSleep, max(0, time.Duration(next-q.now())*time.Millisecond))
		}
		pause := time.NewTimer(rest)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
		timer := time.NewTimer(max(0, sleep-rest))
		select {
		case <-ctx.Done():
		case <-a:
		case <-b:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// stumbled is told that a step has failed. If another node seems to have the part, either the
// lease ends in a moment, or the record of the owner was lost or damaged and is put there anew.
func (q *Queue) stumbled(ctx context.Context, err error) {
	switch d := q.duty(ctx); {
	case ctx.Err() != nil:
	case !fault.Is(err, fault.Busy):
		q.opt.Log.Error("the queue cannot be read", "error", err)
	case d != nil:
		d.begin(ctx, true)
	}
}
