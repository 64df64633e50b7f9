package bench

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Samples are the times of the requests of one run.
type samples struct {
	took  []time.Duration
	first time.Duration
}

func (s *samples) add(d time.Duration) {
	if len(s.took) == 0 {
		s.first = d
	}
	s.took = append(s.took, d)
}

// fill puts count, rate and times into res.
func (s *samples) fill(res *Result, whole time.Duration) {
	res.Operations = len(s.took)
	res.Seconds = whole.Seconds()
	if len(s.took) == 0 {
		return
	}
	if whole > 0 {
		res.Rate = float64(len(s.took)) / whole.Seconds()
	}
	slices.Sort(s.took)
	res.First = millis(s.first)
	res.Median = millis(quantile(s.took, 0.5))
	res.P99 = millis(quantile(s.took, 0.99))
}

// quantile returns the smallest time that at least the share q of sorted is not above.
func quantile(sorted []time.Duration, q float64) time.Duration {
	i := int(q*float64(len(sorted))+0.999999) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// worker is one connection of a delivery run.
type worker interface {
	// deliver sends the n-th message and waits for the reply. A non-empty refusal is a
	// reply that is not success; err means that the connection is of no more use.
	deliver(n int) (size int, refusal string, err error)
	Close() error
}

// load runs the workers for the given time; they share one sequence of messages.
func load(ctx context.Context, workers []worker, d time.Duration, tick func(time.Duration)) (Result, error) {
	var next, bytes, failures atomic.Int64
	var refused atomic.Value
	each := make([]samples, len(workers))
	errs := make([]error, len(workers))
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var wg sync.WaitGroup
	start := time.Now()
	for i, w := range workers {
		wg.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				size, refusal, err := w.deliver(int(next.Add(1)))
				if err != nil {
					errs[i] = err
					cancel()
					return
				}
				if refusal != "" {
					failures.Add(1)
					refused.CompareAndSwap(nil, refusal)
					continue
				}
				bytes.Add(int64(size))
				each[i].add(time.Since(began))
			}
		})
	}
	stop := ticking(ctx, start, tick)
	wg.Wait()
	whole := time.Since(start)
	cancel()
	<-stop
	res := Result{Connections: len(workers), Bytes: bytes.Load(), Failures: int(failures.Load())}
	res.Failure, _ = refused.Load().(string)
	all := samples{}
	for i := range each {
		all.took = append(all.took, each[i].took...)
	}
	all.first = each[0].first
	all.fill(&res, whole)
	for _, err := range errs {
		if err != nil {
			return res, err
		}
	}
	return res, nil
}

// ticking calls tick several times a second until ctx ends; the channel is closed
// after the last call.
func ticking(ctx context.Context, start time.Time, tick func(time.Duration)) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(200 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				tick(time.Since(start))
			}
		}
	}()
	return done
}

// timed makes one request repeat times and reports the times under name.
func (r *runner) timed(ctx context.Context, name string, request func() (int64, error)) error {
	var s samples
	var bytes int64
	var whole time.Duration
	for i := range r.opt.Repeat {
		if err := ctx.Err(); err != nil {
			return err
		}
		r.opt.Progress(name, i, r.opt.Repeat)
		start := time.Now()
		n, err := request()
		if err != nil {
			return err
		}
		took := time.Since(start)
		s.add(took)
		whole += took
		bytes += n
	}
	r.opt.Progress(name, r.opt.Repeat, r.opt.Repeat)
	res := Result{Scenario: name, Connections: 1, Mailbox: r.opt.Messages, Bytes: bytes}
	s.fill(&res, whole)
	r.report(res)
	return nil
}
