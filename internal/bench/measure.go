package bench

import (
	"context"
	"slices"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// samples are the times of the requests of one run.
type samples struct {
	took  []time.Duration
	first time.Duration
	cpu   time.Duration // of the server, for all of them
	whole time.Duration // between the readings of cpu
}

// charge adds what the server has used since a mark.
func (s *samples) charge(r *runner, m mark) {
	used, whole := r.since(m)
	s.cpu += used
	s.whole += whole
}

func (s *samples) add(d time.Duration) {
	if len(s.took) == 0 {
		s.first = d
	}
	s.took = append(s.took, d)
}

func (s *samples) sum() (d time.Duration) {
	for _, t := range s.took {
		d += t
	}
	return d
}

// fill puts count, rate, times and processor time into res; whole is how long it all
// took, or 0 for the sum of the times.
func (s *samples) fill(res *Result, whole time.Duration) {
	if whole == 0 {
		whole = s.sum()
	}
	res.Operations = len(s.took)
	res.Seconds = whole.Seconds()
	if len(s.took) == 0 {
		return
	}
	if whole > 0 {
		res.Rate = float64(len(s.took)) / whole.Seconds()
	}
	if s.whole > 0 {
		res.CPUPercent = 100 * s.cpu.Seconds() / s.whole.Seconds()
	}
	res.First = millis(s.first)
	res.Median = millis(s.quantile(0.5))
	res.P99 = millis(s.quantile(0.99))
	res.CPU = millis(s.cpu) / float64(len(s.took))
}

func (s *samples) quantile(q float64) time.Duration {
	slices.Sort(s.took)
	return quantile(s.took, q)
}

// quantile returns the smallest time that at least the share q of sorted is not above.
func quantile(sorted []time.Duration, q float64) time.Duration {
	i := int(q*float64(len(sorted))+0.999999) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// request is one that is made several times and timed.
type request struct {
	name  string
	times int // how often, of a warm server

	// before is done before a cold server is restarted, ready after it; ready returns
	// the session that asks. Neither is timed; before may be nil.
	before func(ctx context.Context) error
	ready  func(ctx context.Context) (*imapConn, error)
	ask    func(c *imapConn) (bytes int64, err error)
	after  func(c *imapConn) // may be nil
}

// measure makes a request about the large mailbox: of the server after a restart, if
// it can be restarted, and then of the warm one.
func (r *runner) measure(ctx context.Context, q request) error {
	if err := r.seeded(ctx); err != nil {
		return err
	}
	colds := 0
	if r.opt.Restart != nil {
		colds = r.opt.Colds
	}
	var cold, warm samples
	res := Result{Scenario: q.name, Connections: 1, TLS: r.target.TLS.IMAP, Mailbox: r.opt.Messages}
	m := r.watch()
	defer m.halt()
	for i := range colds + q.times {
		r.opt.Progress(q.name, i, colds+q.times)
		s := &warm
		if i < colds {
			s = &cold
		}
		n, err := r.once(ctx, q, s, i < colds)
		if err != nil {
			return err
		}
		if i >= colds {
			res.Bytes += n
		}
	}
	r.opt.Progress(q.name, colds+q.times, colds+q.times)
	warm.fill(&res, 0)
	if colds > 0 {
		res.ColdRuns = colds
		res.First = millis(cold.first)
		res.Cold = millis(cold.quantile(0.5))
		res.ColdCPU = millis(cold.cpu) / float64(colds)
	}
	m.end(&res)
	r.report(res)
	return nil
}

// once makes a request one time.
func (r *runner) once(ctx context.Context, q request, s *samples, cold bool) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if q.before != nil {
		if err := q.before(ctx); err != nil {
			return 0, err
		}
	}
	if cold {
		if err := r.restart(ctx); err != nil {
			return 0, err
		}
	}
	c, err := q.ready(ctx)
	if err != nil {
		return 0, err
	}
	m := r.mark()
	start := time.Now()
	n, err := q.ask(c)
	took := time.Since(start)
	s.charge(r, m)
	s.add(took)
	if q.after != nil {
		q.after(c)
	}
	return n, err
}

// restart restarts the server and waits until it answers.
func (r *runner) restart(ctx context.Context) error {
	if err := r.end(ctx); err != nil {
		return err
	}
	return r.begin(ctx)
}

// end ends the server, if it is not the restart that does.
func (r *runner) end(ctx context.Context) error {
	r.leave()
	if r.opt.Stop == nil {
		return nil
	}
	if err := r.opt.Stop(ctx); err != nil {
		return fault.Wrap(fault.Unavailable, "the server was not stopped", err)
	}
	return nil
}

// begin starts the server again and waits until it answers.
func (r *runner) begin(ctx context.Context) error {
	pid, err := r.opt.Restart(ctx)
	if err != nil {
		return fault.Wrap(fault.Unavailable, "the server was not restarted", err)
	}
	if pid > 0 {
		r.pid.Store(int64(pid))
	}
	if err := r.answers(ctx); err != nil {
		return err
	}
	if pid := int(r.pid.Load()); pid > 0 {
		if _, err := ProcessorTime(pid); fault.Is(err, fault.NotFound) {
			return fault.Newf(fault.Invalid, "process %d, the server, is gone since the restart: the restart must tell the new process id", pid)
		}
	}
	return nil
}

// answers waits until the server takes a session.
func (r *runner) answers(ctx context.Context) error {
	const pause = 5 * time.Millisecond
	for start := time.Now(); ; {
		err := r.knock(ctx)
		if err == nil {
			return nil
		}
		wait := time.Minute
		if !fault.Is(err, fault.Unavailable) {
			wait = 10 * time.Second // it speaks, but may not know its users yet
		}
		if time.Since(start) > wait {
			return fault.Wrap(fault.Unavailable, "the server does not answer after its restart", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// knock opens a session and closes it.
func (r *runner) knock(ctx context.Context) error {
	if r.target.IMAP != "" && r.target.User != "" {
		c, err := greetIMAP(ctx, r.target, narrow)
		if err == nil {
			c.Close()
		}
		return err
	}
	p := lmtp
	if r.target.LMTP == "" {
		p = smtp
	}
	c, err := r.dialMail(ctx, p, nil)
	if err == nil {
		c.Close()
	}
	return err
}
