package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// worker is one connection of a delivery run.
type worker interface {
	// prepare makes the n-th message, before the clock runs.
	prepare(n int)
	// deliver sends it and waits for the reply. A non-empty refusal is a reply that is
	// not success; err means that the connection is of no more use.
	deliver() (size int, refusal string, err error)
	Close() error
}

// load is a run of workers that share one sequence of messages.
type load struct {
	workers  []worker
	duration time.Duration // no limit if 0
	bytes    int64         // no limit if 0
	messages int64         // no limit if 0

	every time.Duration // between ticks
	tick  func(at time.Duration, delivered, bytes int64)

	next, delivered, sent, failures atomic.Int64
	refused                         atomic.Value
}

// run runs the workers until one of the limits is met.
func (l *load) run(ctx context.Context) (Result, samples, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if l.duration > 0 {
		ctx, cancel = context.WithTimeout(ctx, l.duration)
		defer cancel()
	}
	each := make([]samples, len(l.workers))
	errs := make([]error, len(l.workers))
	var wg sync.WaitGroup
	start := time.Now()
	for i, w := range l.workers {
		wg.Go(func() {
			if errs[i] = l.work(ctx, w, &each[i]); errs[i] != nil {
				cancel()
			}
		})
	}
	stop := l.ticking(ctx, start)
	wg.Wait()
	whole := time.Since(start)
	cancel()
	<-stop
	res := Result{Connections: len(l.workers), Bytes: l.sent.Load(), Failures: int(l.failures.Load())}
	res.Failure, _ = l.refused.Load().(string)
	all := samples{}
	for i := range each {
		all.took = append(all.took, each[i].took...)
	}
	all.first = each[0].first
	all.fill(&res, whole)
	for _, err := range errs {
		if err != nil {
			return res, all, err
		}
	}
	return res, all, nil
}

// work runs one worker.
func (l *load) work(ctx context.Context, w worker, s *samples) error {
	for ctx.Err() == nil && !l.over() {
		w.prepare(int(l.next.Add(1)))
		began := time.Now()
		size, refusal, err := w.deliver()
		if err != nil {
			return err
		}
		if refusal != "" {
			l.failures.Add(1)
			l.refused.CompareAndSwap(nil, refusal)
			continue
		}
		s.add(time.Since(began))
		l.sent.Add(int64(size))
		l.delivered.Add(1)
	}
	return nil
}

// over tells whether as much has been delivered as was wanted.
func (l *load) over() bool {
	return l.bytes > 0 && l.sent.Load() >= l.bytes || l.messages > 0 && l.next.Load() >= l.messages
}

// ticking calls tick at each interval until ctx ends; the channel is closed after the
// last call.
func (l *load) ticking(ctx context.Context, start time.Time) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(l.every)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				l.tick(time.Since(start), l.delivered.Load(), l.sent.Load())
			}
		}
	}()
	return done
}

// deliveries opens n workers, runs them for the time of the options and reports the
// result, of which res says what was run.
func (r *runner) deliveries(ctx context.Context, res Result, n int, open func(i int) (worker, error)) error {
	what := fmt.Sprintf("%s, %d connections", res.Scenario, n)
	total := int(r.opt.Duration.Milliseconds())
	l := &load{duration: r.opt.Duration, every: 200 * time.Millisecond, tick: func(d time.Duration, _, _ int64) {
		r.opt.Progress(what, min(int(d.Milliseconds()), total), total)
	}}
	r.opt.Progress(what, 0, total)
	if err := r.drive(ctx, l, &res, n, open); err != nil {
		return err
	}
	r.opt.Progress(what, total, total)
	r.report(res)
	return nil
}

// drive opens the workers of a load, runs it, and adds to res what it came to.
func (r *runner) drive(ctx context.Context, l *load, res *Result, n int, open func(i int) (worker, error)) error {
	defer func() {
		for _, w := range l.workers {
			w.Close()
		}
	}()
	if err := allowFiles(n); err != nil {
		return err
	}
	for i := range n {
		w, err := open(i)
		if err != nil {
			return at(fmt.Sprintf("connection %d", i+1), err)
		}
		l.workers = append(l.workers, w)
	}
	m := r.watch()
	defer m.halt()
	used := r.mark()
	got, s, err := l.run(ctx)
	s.charge(r, used)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	if got.Operations == 0 && got.Failures > 0 {
		return fault.Newf(fault.Unavailable, "nothing succeeded; the first reply was %q", got.Failure)
	}
	s.fill(&got, seconds(got.Seconds))
	got.Scenario, got.Sizes, got.TLS, got.Batch, got.Recipients = res.Scenario, res.Sizes, res.TLS, res.Batch, res.Recipients
	got.Intervals = res.Intervals
	*res = got
	m.end(res)
	return nil
}
