package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// retry paces the attempts of one call. Of nil the patience has no end.
type retry struct {
	pool  *pool
	ctx   context.Context
	until time.Time   // the patience lasts
	works time.Time   // since when the caller's function works
	timer *time.Timer // runs since the call first had to wait
	over  bool
	pause time.Duration
}

const (
	firstPause = 10 * time.Millisecond
	lastPause  = 250 * time.Millisecond
)

func (p *pool) retry(ctx context.Context) *retry {
	return &retry{pool: p, ctx: ctx, until: time.Now().Add(engine.Patience(ctx, p.opt.Patience)), pause: firstPause}
}

// limit returns a channel on which the end of the patience comes, once; whoever gets it
// sets over.
func (r *retry) limit() <-chan time.Time {
	if r == nil {
		return nil
	}
	if r.timer == nil {
		r.timer = time.NewTimer(time.Until(r.until))
	}
	return r.timer.C
}

// begins is told that the caller's function goes on, and rests that it ends or waits for us: what it
// takes itself is no waiting, and does not wear out the patience.
func (r *retry) begins() { r.works = time.Now() }

func (r *retry) rests() { r.spare(r.works) }

// spare takes the time since then for none in which the call has waited.
func (r *retry) spare(since time.Time) {
	r.until = r.until.Add(time.Since(since))
	if r.timer != nil && !r.over {
		r.timer.Reset(time.Until(r.until))
	}
}

// bounded is the call's context for a connection that is made for it, which need not last longer
// than the call is patient. But who comes late must not take a server for gone that had no time.
func (r *retry) bounded(ctx context.Context) context.Context {
	if r == nil {
		return ctx
	}
	least := min(lastPause, engine.Patience(ctx, r.pool.opt.Patience))
	return engine.Patient(ctx, max(time.Until(r.until), least))
}

// again waits before the next attempt, or returns why there is to be none.
func (r *retry) again(cause error) error {
	if closed := shutFault(cause); closed != nil {
		return closed
	}
	if !passes(cause) {
		return fault.Wrap(fault.Unavailable, "the database cannot be used", cause)
	}
	if !r.over {
		pause := time.NewTimer(r.pause)
		defer pause.Stop()
		r.pause = min(2*r.pause, lastPause)
		select {
		case <-pause.C:
			return nil
		case <-r.ctx.Done():
			return r.ctx.Err()
		case <-r.limit():
		}
	}
	return r.ended(cause)
}

// errSlot and errSure are of calls that were patient for a connection that others had, and for a
// commit that proves that the server is the primary, and no longer.
var (
	errSlot = errors.New("no connection was free in time")
	errSure = errors.New("the server confirmed no commit in time")
)

// errTurn is of a call that was patient for its turn on a shard, and no longer.
var errTurn = errors.New("it was not its turn in time")

// ended is what a call fails with whose patience has ended: why the database is of no use, and
// where, or else that it was others of the same shard who were waited for.
func (r *retry) ended(cause error) error {
	r.over = true
	p := r.pool
	down, lonely := p.down.Load(), p.lonely.server.Load()
	switch {
	case errors.Is(cause, errReach), errors.Is(cause, errBroken): // which says where
	case lonely != nil:
		cause = fmt.Errorf("%w: %s", cause, lonelyText(lonely))
	case down != nil:
		cause = fmt.Errorf("%w: %w", cause, *down)
	case errors.Is(cause, errTurn), errors.Is(cause, errAgain), errors.Is(cause, errUnsent):
		return fault.Wrap(fault.Unavailable, "others are changing the same just now, try again shortly", cause)
	default:
		cause = fmt.Errorf("%w: %s", cause, addressOf(p.favourite()))
	}
	return fault.Wrap(fault.Unavailable, p.trouble(), cause)
}

func (r *retry) stop() {
	if r.timer != nil {
		r.timer.Stop()
	}
}

// final tells whether an error ends a call. What has a kind was waited for as long as the call is
// patient, or is not worth it.
func final(ctx context.Context, err error) bool {
	var known *fault.Error
	return errors.As(err, &known) || errors.Is(err, errMoved) || ctx.Err() != nil
}

// passes tells whether an error is one that waiting may mend.
func passes(err error) bool {
	if shutFault(err) != nil {
		return false
	}
	var u *unreached
	if errors.As(err, &u) && u.refuses {
		return false
	}
	var r *refusal
	if !errors.As(err, &r) || errors.Is(err, errReach) {
		return true
	}
	switch {
	case r.code == "53100": // disk full
		return false
	case strings.HasPrefix(r.code, "40"), strings.HasPrefix(r.code, "53"), strings.HasPrefix(r.code, "57"), strings.HasPrefix(r.code, "08"):
		return true
	case r.code == "25006": // a primary that is none any more
		return true
	case r.code == "25P03": // this node stood still for too long in a transaction
		return true
	case r.code == "26000": // the statement is not prepared: an error came before it
		return true
	}
	return false
}

// shutFault returns what a call is told that met a database which is shut, nil if err is not of one.
func shutFault(err error) error {
	var s *shut
	if !errors.As(err, &s) {
		return nil
	}
	return fault.Wrap(fault.Unavailable, "the database is shut", s)
}

// leavesOpen tells whether nobody knows what became of a commit that ended with an error: its
// connection broke, or the server says that itself, as one made of many does, or what stands before it.
func leavesOpen(err error) bool {
	var r *refusal
	return errors.Is(err, errBroken) || errors.As(err, &r) && (r.code == "40003" || r.code == "08007")
}

// read carries out reads, which may be repeated, on any connection, as long as the call is patient:
// fill gathers statements, each sees the rows of one attempt. reset is called before each. What a
// call reads does not wear out its patience, be it much; what it does not get does.
func (p *pool) read(ctx context.Context, r *retry, fill func(*conn), reset func(), each func(i int, row [][]byte) error) error {
	for {
		reset()
		began := time.Now()
		err := p.once(ctx, r, fill, each)
		if err == nil {
			r.spare(began)
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		if err := r.again(err); err != nil {
			return err
		}
	}
}
