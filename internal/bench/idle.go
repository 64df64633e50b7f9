package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// crowd is many sessions.
type crowd struct {
	conns []*imapConn
	samples
	opening time.Duration // how long that took
}

func (c *crowd) close() {
	for _, one := range c.conns {
		if one != nil {
			one.Close()
		}
	}
}

// openers is how many connections are opened at a time.
const openers = 8

// gather adds n sessions to a crowd and gets each ready.
func (r *runner) gather(ctx context.Context, cr *crowd, n int, what string, ready func(*imapConn) error) error {
	if err := allowFiles(len(cr.conns) + n); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var mu sync.Mutex
	var wg sync.WaitGroup
	start := time.Now()
	one := func() error {
		began := time.Now()
		c, err := greetIMAP(ctx, r.target, narrow)
		if err != nil {
			return err
		}
		err = ready(c)
		mu.Lock()
		defer mu.Unlock()
		cr.conns = append(cr.conns, c)
		cr.add(time.Since(began))
		if len(cr.conns)%20 == 0 {
			r.opt.Progress(what, len(cr.conns), n)
		}
		return err
	}
	for range min(openers, n) {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(n) && ctx.Err() == nil; i = next.Add(1) {
				if err := one(); err != nil {
					cancel(at(fmt.Sprintf("connection %d", i), err))
				}
			}
		})
	}
	wg.Wait()
	cr.opening += time.Since(start)
	r.opt.Progress(what, n, n)
	return context.Cause(ctx)
}

// at says where an error came up.
func at(place string, err error) error { return fault.Wrap(fault.Of(err), place, err) }

// idle selects INBOX and begins to wait (RFC 2177).
func (c *imapConn) idle() error {
	if err := c.do("SELECT INBOX", nil); err != nil {
		return err
	}
	c.tag++
	if err := c.goAhead(fmt.Appendf(nil, "b%d IDLE\r\n", c.tag)); err != nil {
		return fault.Wrap(fault.Unsupported, "the server does not go into IDLE", err)
	}
	c.buf, c.wire.buf, c.head = nil, nil, nil // nothing more is read: keep the client small
	return nil
}

// rested returns the memory of a server that nobody uses, after a restart if it can be
// restarted.
func (r *runner) rested(ctx context.Context) (memory, error) {
	r.leave()
	if r.opt.Restart != nil {
		if err := r.restart(ctx); err != nil {
			return memory{}, err
		}
	}
	if err := pause(ctx, r.opt.Settle); err != nil {
		return memory{}, err
	}
	return processMemory(int(r.pid.Load()))
}

// runIdleMemory opens sessions that have INBOX selected and wait in IDLE, and reports
// what memory the server's processes have more than before.
func runIdleMemory(ctx context.Context, r *runner) error {
	res := Result{Scenario: "idle-memory", TLS: r.target.TLS.IMAP}
	var cr crowd
	defer cr.close()
	before, err := r.rested(ctx)
	if err != nil {
		return err
	}
	if err := r.gather(ctx, &cr, r.opt.Idle, "idle connections", (*imapConn).idle); err != nil {
		return err
	}
	return r.added(ctx, before, &cr, &res)
}

// added reports what memory the server has more than before, with a crowd.
func (r *runner) added(ctx context.Context, before memory, cr *crowd, res *Result) error {
	if err := pause(ctx, r.opt.Settle); err != nil {
		return err
	}
	after, err := processMemory(int(r.pid.Load()))
	if err != nil {
		return err
	}
	cr.fill(res, cr.opening)
	res.Connections = len(cr.conns)
	res.Base, res.Memory, res.MemoryPeak = before.pss, after.pss, after.pss
	res.RSS, res.PSS = after.rss-before.rss, after.pss-before.pss
	r.report(*res)
	return nil
}

// runIdleCPU reports what processor time the server uses while many sessions wait in
// IDLE and nothing happens.
func runIdleCPU(ctx context.Context, r *runner) error {
	const what = "connections for idle-cpu"
	res := Result{Scenario: "idle-cpu", TLS: r.target.TLS.IMAP}
	var cr crowd
	defer cr.close()
	before, err := r.rested(ctx)
	if err != nil {
		return err
	}
	if err := r.gather(ctx, &cr, r.opt.IdleCPU, what, (*imapConn).idle); err != nil {
		return err
	}
	if err := pause(ctx, r.opt.Settle); err != nil {
		return err
	}
	used := r.mark()
	if err := pause(ctx, r.opt.Watch); err != nil {
		return err
	}
	cr.charge(r, used)
	took := cr.whole
	cr.fill(&res, took)
	res.Rate = 0 // sessions have been opened before the measured time
	res.CPU /= took.Seconds()
	res.Connections = len(cr.conns)
	after := r.memory()
	res.Base, res.Memory, res.MemoryPeak = before.pss, after.pss, after.pss
	res.RSS, res.PSS = after.rss-before.rss, after.pss-before.pss
	r.report(res)
	return nil
}

// runOpenMemory reports what memory the server has more when one session, and when
// many, have the large mailbox selected.
func runOpenMemory(ctx context.Context, r *runner) error {
	if err := r.seeded(ctx); err != nil {
		return err
	}
	before, err := r.rested(ctx)
	if err != nil {
		return err
	}
	var cr crowd
	defer cr.close()
	for _, n := range []int{1, r.opt.Opened} {
		err := r.gather(ctx, &cr, n-len(cr.conns), "sessions with the large mailbox", func(c *imapConn) error {
			_, err := r.choose(c)
			return err
		})
		if err != nil {
			return err
		}
		res := Result{Scenario: "open-memory", TLS: r.target.TLS.IMAP, Mailbox: r.opt.Messages}
		if err := r.added(ctx, before, &cr, &res); err != nil {
			return err
		}
	}
	return nil
}

// runRestart times a restart until a login succeeds, and reports the memory of the
// server that has just been started. If the server can be stopped apart from that, it
// is the start that is timed.
func runRestart(ctx context.Context, r *runner) error {
	var s, stops samples
	res := Result{Scenario: "restart", Connections: 1, TLS: r.target.TLS.IMAP}
	for i := range r.opt.Repeat {
		r.opt.Progress("restart", i, r.opt.Repeat)
		start := time.Now()
		if err := r.end(ctx); err != nil {
			return err
		}
		stops.add(time.Since(start))
		start = time.Now()
		if err := r.begin(ctx); err != nil {
			return err
		}
		s.add(time.Since(start))
		s.charge(r, mark{family: []int{}, at: start}) // the process is new
	}
	r.opt.Progress("restart", r.opt.Repeat, r.opt.Repeat)
	if err := pause(ctx, r.opt.Settle); err != nil {
		return err
	}
	s.fill(&res, 0)
	if r.opt.Stop != nil {
		res.Stop = millis(stops.quantile(0.5))
	}
	res.Memory = r.memory().pss
	res.MemoryPeak = res.Memory
	r.report(res)
	return nil
}
