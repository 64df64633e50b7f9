package bench

import (
	"context"
	"fmt"

	"github.com/martlet-mail/martlet/internal/fault"
)

// runner is what the scenarios of one Run share.
type runner struct {
	server
	target Target
	opt    Options
	report func(Result)
	box    string    // large mailbox, once filled
	conn   *imapConn // session that has it selected, unless closed is set
	closed bool
	serial int // delivery runs so far: part of the Message-IDs
}

func newRunner(t Target, o Options, report func(Result)) *runner {
	if len(t.Recipients) == 0 {
		t.Recipients = []string{t.User}
	}
	if t.Sender == "" {
		t.Sender = "sender@example.org"
	}
	r := &runner{target: t, opt: o.withDefaults(), report: report}
	r.pid.Store(int64(t.PID))
	return r
}

// leave ends the session with the large mailbox.
func (r *runner) leave() {
	if r.conn != nil {
		r.conn.Close()
	}
	r.conn, r.closed = nil, false
}

// nextSeed returns the part of the Message-IDs that tells one run from the others.
func (r *runner) nextSeed(name string) string {
	r.serial++
	return fmt.Sprintf("%s-%d-%s", name, r.serial, r.opt.Run)
}

// scratch makes an empty mailbox and returns its name and a function that deletes it.
func (r *runner) scratch(c *imapConn, name string) (string, func() error, error) {
	box := "bench-" + name
	c.do("DELETE "+quote(box), nil) // left over from a run that was stopped
	if err := c.do("CREATE "+quote(box), nil); err != nil {
		return "", nil, fault.Wrap(fault.Unavailable, "the mailbox "+box+" was not made", err)
	}
	return box, func() error { return c.do("DELETE "+quote(box), nil) }, nil
}

// seeded fills the large mailbox, if that has not been done. One of an earlier run
// that is complete is used again.
func (r *runner) seeded(ctx context.Context) error {
	if r.box != "" {
		return nil
	}
	c, err := dialIMAP(ctx, r.target)
	if err != nil {
		return err
	}
	defer c.Close()
	box := fmt.Sprintf("bench-%d", r.opt.Messages)
	if err := r.seed(ctx, c, box, r.opt.Messages); err != nil {
		return err
	}
	r.box = box
	return nil
}

// large returns a session with the large mailbox selected.
func (r *runner) large(ctx context.Context) (*imapConn, error) {
	c, err := r.standing(ctx)
	if err != nil || !r.closed {
		return c, err
	}
	if err := c.do("SELECT "+quote(r.box), nil); err != nil {
		return nil, err
	}
	r.closed = false
	return c, nil
}

// beside returns the same session with no mailbox selected.
func (r *runner) beside(ctx context.Context) (*imapConn, error) {
	c, err := r.standing(ctx)
	if err != nil || r.closed {
		return c, err
	}
	away := "EXAMINE INBOX"
	if c.has("UNSELECT") {
		away = "UNSELECT"
	}
	if err := c.do(away, nil); err != nil {
		return nil, err
	}
	r.closed = true
	return c, nil
}

// standing returns the session that is kept from one scenario to the next.
func (r *runner) standing(ctx context.Context) (*imapConn, error) {
	if r.conn != nil {
		return r.conn, nil
	}
	if err := r.seeded(ctx); err != nil {
		return nil, err
	}
	c, err := dialIMAP(ctx, r.target)
	if err != nil {
		return nil, err
	}
	r.conn, r.closed = c, true
	return c, nil
}

// fresh returns a session of its own that has just logged in.
func (r *runner) fresh(ctx context.Context) (*imapConn, error) { return dialIMAP(ctx, r.target) }

// part ends such a session.
func part(c *imapConn) { c.Close() }
