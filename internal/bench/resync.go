package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// changes is how many messages change before each CHANGEDSINCE.
const changes = 10

// runChangedSince times the question what has changed, asked by a session that was
// opened after ten messages had changed (RFC 7162, 3.1.4.1).
func runChangedSince(ctx context.Context, r *runner) error {
	return r.afterChanges(ctx, "changedsince", r.resync)
}

// runQResync times the SELECT that tells what ten messages have become (RFC 7162,
// 3.2.5).
func runQResync(ctx context.Context, r *runner) error {
	c, err := r.large(ctx)
	if err != nil {
		return err
	}
	if !c.has("QRESYNC") {
		return fault.New(fault.Unsupported, "the server does not offer QRESYNC")
	}
	var validity uint64
	err = c.do("STATUS "+quote(r.box)+" (UIDVALIDITY)", func(line []byte) {
		if n, ok := number(line, "UIDVALIDITY "); ok {
			validity = n
		}
	})
	if err != nil {
		return err
	}
	return r.afterChanges(ctx, "qresync", func(ctx context.Context, since uint64) (time.Duration, int64, error) {
		c, err := dialIMAP(ctx, r.target)
		if err != nil {
			return 0, 0, err
		}
		defer c.Close()
		if err := c.do("ENABLE QRESYNC", nil); err != nil {
			return 0, 0, err
		}
		start := time.Now()
		n, err := r.fetch(c, fmt.Sprintf("SELECT %s (QRESYNC (%d %d))", quote(r.box), validity, since), min(changes, r.opt.Messages))
		return time.Since(start), n, err
	})
}

// afterChanges times ask after each ten changes; ask is given the modification
// sequence before them.
func (r *runner) afterChanges(ctx context.Context, name string, ask func(context.Context, uint64) (time.Duration, int64, error)) error {
	c, err := r.large(ctx)
	if err != nil {
		return err
	}
	var s samples
	res := Result{Scenario: name, Connections: 1, Mailbox: r.opt.Messages}
	for i := range r.opt.Repeat * quick {
		r.opt.Progress(name, i, r.opt.Repeat*quick)
		if err := ctx.Err(); err != nil {
			return err
		}
		since, err := r.modseq(c)
		if err != nil {
			return err
		}
		sign := [2]string{"+", "-"}[i%2]
		step := max(r.opt.Messages/changes, 1)
		for n := 1; n <= r.opt.Messages && n <= changes*step; n += step {
			if err := c.do(fmt.Sprintf("STORE %d %sFLAGS.SILENT ($Changed)", n, sign), nil); err != nil {
				return err
			}
		}
		took, n, err := ask(ctx, since)
		if err != nil {
			return err
		}
		s.add(took)
		res.Seconds += took.Seconds()
		res.Bytes += n
	}
	r.opt.Progress(name, r.opt.Repeat*quick, r.opt.Repeat*quick)
	s.fill(&res, seconds(res.Seconds))
	r.report(res)
	return nil
}

// modseq returns the highest modification sequence of the large mailbox.
func (r *runner) modseq(c *imapConn) (uint64, error) {
	var high uint64
	err := c.do("STATUS "+quote(r.box)+" (HIGHESTMODSEQ)", func(line []byte) {
		if n, ok := number(line, "HIGHESTMODSEQ "); ok {
			high = n
		}
	})
	if err == nil && high == 0 {
		err = fault.New(fault.Unsupported, "the server does not offer CONDSTORE")
	}
	return high, err
}

// resync opens a session and times FETCH CHANGEDSINCE.
func (r *runner) resync(ctx context.Context, since uint64) (time.Duration, int64, error) {
	c, err := dialIMAP(ctx, r.target)
	if err != nil {
		return 0, 0, err
	}
	defer c.Close()
	if err := c.do("SELECT "+quote(r.box)+" (CONDSTORE)", nil); err != nil {
		return 0, 0, err
	}
	start := time.Now()
	n, err := r.fetch(c, fmt.Sprintf("UID FETCH 1:* (FLAGS) (CHANGEDSINCE %d)", since), min(changes, r.opt.Messages))
	return time.Since(start), n, err
}

// clock is do with the time it took.
func (c *imapConn) clock(command string, see func(line []byte)) (time.Duration, error) {
	start := time.Now()
	err := c.do(command, see)
	return time.Since(start), err
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
