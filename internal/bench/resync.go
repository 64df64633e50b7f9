package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// changes makes n changes and remembers what the mailbox was like before.
type changes struct {
	r     *runner
	n     int
	turn  int
	since uint64 // modification sequence before them
}

// make changes the flags of messages all over the large mailbox.
func (ch *changes) make(ctx context.Context) error {
	c, err := ch.r.large(ctx)
	if err != nil {
		return err
	}
	if ch.turn == 0 { // an earlier run may have left the flags set
		if err := ch.set(c, "-"); err != nil {
			return err
		}
	}
	if ch.since, err = ch.r.modseq(c); err != nil {
		return err
	}
	ch.turn++
	return ch.set(c, [2]string{"-", "+"}[ch.turn%2])
}

func (ch *changes) set(c *imapConn, sign string) error {
	total := ch.r.opt.Messages
	step := max(total/ch.n, 1)
	for n := 1; n <= total && n <= ch.n*step; n += step {
		if err := c.do(fmt.Sprintf("STORE %d %sFLAGS.SILENT ($Changed)", n, sign), nil); err != nil {
			return err
		}
	}
	return nil
}

func (ch *changes) seen() int { return min(ch.n, ch.r.opt.Messages) }

// runChangedSince times the question what has changed, asked by a session that was
// opened after ten messages had changed (RFC 7162, 3.1.4.1).
func runChangedSince(ctx context.Context, r *runner) error {
	ch := &changes{r: r, n: 10}
	return r.measure(ctx, request{name: "changedsince", times: r.opt.Repeat * quick, before: ch.make, after: part,
		ready: func(ctx context.Context) (*imapConn, error) {
			c, err := r.fresh(ctx)
			if err != nil {
				return nil, err
			}
			return c, c.do("SELECT "+quote(r.box)+" (CONDSTORE)", nil)
		},
		ask: func(c *imapConn) (int64, error) {
			return r.fetch(c, fmt.Sprintf("UID FETCH 1:* (FLAGS) (CHANGEDSINCE %d)", ch.since), ch.seen())
		}})
}

// qresync returns a scenario that times the SELECT which tells what n messages have
// become (RFC 7162, 3.2.5).
func qresync(name string, n int) func(context.Context, *runner) error {
	return func(ctx context.Context, r *runner) error {
		c, err := r.large(ctx)
		if err != nil {
			return err
		}
		if !c.has("QRESYNC") {
			return fault.New(fault.Unsupported, "the server does not offer QRESYNC")
		}
		var validity uint64
		if err := r.status(c, "UIDVALIDITY", &validity); err != nil {
			return err
		}
		ch := &changes{r: r, n: n}
		return r.measure(ctx, request{name: name, times: r.opt.Repeat * quick, before: ch.make, after: part,
			ready: func(ctx context.Context) (*imapConn, error) {
				c, err := r.fresh(ctx)
				if err != nil {
					return nil, err
				}
				return c, c.do("ENABLE QRESYNC", nil)
			},
			ask: func(c *imapConn) (int64, error) {
				return r.fetch(c, fmt.Sprintf("SELECT %s (QRESYNC (%d %d))", quote(r.box), validity, ch.since), ch.seen())
			}})
	}
}

// modseq returns the highest modification sequence of the large mailbox.
func (r *runner) modseq(c *imapConn) (uint64, error) {
	var high uint64
	err := r.status(c, "HIGHESTMODSEQ", &high)
	if err == nil && high == 0 {
		err = fault.New(fault.Unsupported, "the server does not offer CONDSTORE")
	}
	return high, err
}

// status asks for one number about the large mailbox.
func (r *runner) status(c *imapConn, item string, v *uint64) error {
	return c.do("STATUS "+quote(r.box)+" ("+item+")", func(line []byte) {
		if n, ok := number(line, item+" "); ok {
			*v = n
		}
	})
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
