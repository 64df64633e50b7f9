package bench

import (
	"context"
	"slices"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// growers is how many connections fill the store.
const growers = 10

// runGrow delivers until the store has grown by as much as was asked for, and reports
// the rate of each interval, so that one sees how it falls and where it stalls.
func runGrow(ctx context.Context, r *runner) error {
	res := Result{Scenario: "grow", Sizes: r.opt.Sizes, TLS: r.target.TLS.LMTP}
	var last Interval
	l := &load{bytes: r.opt.GrowBytes, messages: int64(r.opt.GrowMessages), every: r.opt.Interval}
	l.tick = func(at time.Duration, delivered, bytes int64) {
		i := Interval{Seconds: at.Seconds(), Stored: bytes, Messages: int(delivered)}
		i.Rate = float64(i.Messages-last.Messages) / (i.Seconds - last.Seconds)
		last = i
		res.Intervals = append(res.Intervals, i)
		if l.messages > 0 {
			r.opt.Progress("growing, messages", int(delivered), r.opt.GrowMessages)
			return
		}
		r.opt.Progress("growing, MB", int(bytes/1e6), int(r.opt.GrowBytes/1e6))
	}
	letters := newLetters(r.nextSeed("grow"), r.opt.Sizes)
	var grown Result
	err := r.drive(ctx, l, &grown, growers, func(i int) (worker, error) {
		return r.dialMail(ctx, lmtp, letters, r.target.Recipients[i%len(r.target.Recipients)])
	})
	if err != nil {
		return err
	}
	grown.Scenario, grown.Sizes, grown.TLS, grown.Intervals = res.Scenario, res.Sizes, res.TLS, res.Intervals
	if len(grown.Intervals) == 0 {
		return fault.Newf(fault.Invalid, "growing took less than one interval of %v: let it grow by more", r.opt.Interval)
	}
	spread(&grown)
	r.report(grown)
	return nil
}

// spread puts lowest, middle and highest rate of the intervals into res.
func spread(res *Result) {
	rates := make([]float64, len(res.Intervals))
	for i, v := range res.Intervals {
		rates[i] = v.Rate
	}
	slices.Sort(rates)
	res.RateMin, res.RateMedian, res.RateMax = rates[0], rates[len(rates)/2], rates[len(rates)-1]
}
