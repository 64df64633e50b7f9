package bench

import (
	"bytes"
	"context"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// runAnnounce times how long after the answer to a delivery all sessions in IDLE have
// heard of it: with one session, and with several. A message that is told before the
// answer counts as 0.
func runAnnounce(ctx context.Context, r *runner) error {
	if err := r.announce(ctx, 1); err != nil || r.opt.Listeners == 1 {
		return err
	}
	return r.announce(ctx, r.opt.Listeners)
}

// news is the number of messages that a session was told, and when.
type news struct {
	listener int
	exists   uint64
	at       time.Time
}

// deaf is how long a session is waited for.
const deaf = time.Minute

func (r *runner) announce(ctx context.Context, listeners int) error {
	told := make(chan news, 16*listeners)
	known := make([]uint64, listeners) // messages that each has been told of
	for i := range known {
		c, err := dialIMAP(ctx, r.target)
		if err != nil {
			return err
		}
		defer c.Close()
		if known[i], err = c.listen(i, told); err != nil {
			return err
		}
	}
	w, err := r.dialMail(ctx, lmtp, newLetters(r.nextSeed("announce"), Small), r.target.User)
	if err != nil {
		return err
	}
	defer w.Close()
	var s samples
	res := Result{Scenario: "announce", Connections: listeners, TLS: r.target.TLS.IMAP}
	m := r.watch()
	defer m.halt()
	for i := range r.opt.Repeat * quick {
		r.opt.Progress("announce", i, r.opt.Repeat*quick)
		if err := ctx.Err(); err != nil {
			return err
		}
		w.prepare(i)
		used := r.mark()
		if _, refused, err := w.deliver(); err != nil || refused != "" {
			return fault.Wrap(fault.Unavailable, "a delivery failed: "+refused, err)
		}
		answered := time.Now()
		last, err := allTold(known, told)
		if err != nil {
			return err
		}
		s.charge(r, used)
		s.add(max(last.Sub(answered), 0))
	}
	s.fill(&res, 0)
	res.Rate = 0 // deliveries take their time between
	m.end(&res)
	r.report(res)
	return nil
}

// allTold waits until each listener knows of one message more, and returns when the
// last came to know.
func allTold(known []uint64, told <-chan news) (time.Time, error) {
	before := make([]uint64, len(known))
	copy(before, known)
	var last time.Time
	for missing := len(known); missing > 0; {
		select {
		case n, ok := <-told:
			if !ok || n.exists == 0 {
				return last, fault.New(fault.Unavailable, "a session in IDLE ended")
			}
			if known[n.listener] == before[n.listener] && n.exists > before[n.listener] {
				missing--
				if n.at.After(last) {
					last = n.at
				}
			}
			known[n.listener] = max(known[n.listener], n.exists)
		case <-time.After(deaf):
			return last, fault.Newf(fault.Unavailable, "%d of %d sessions in IDLE were not told of a message within a minute: is --user one of those who got it?", missing, len(known))
		}
	}
	return last, nil
}

// listen selects INBOX and begins IDLE; each EXISTS goes to told, and one with 0
// messages when the session ends. It returns the messages that there are.
func (c *imapConn) listen(listener int, told chan<- news) (exists uint64, err error) {
	see := func(line []byte) bool {
		n, ok := number(line, "* ")
		if ok && bytes.HasSuffix(line, []byte(" EXISTS\r\n")) {
			exists = n
			return true
		}
		return false
	}
	if err := c.do("SELECT INBOX", func(line []byte) { see(line) }); err != nil {
		return 0, err
	}
	first := exists
	if err := c.goAhead([]byte("i IDLE\r\n")); err != nil {
		return 0, fault.Wrap(fault.Unsupported, "the server does not go into IDLE", err)
	}
	go func() {
		for {
			line, err := c.line()
			at := time.Now()
			if err != nil {
				told <- news{listener: listener}
				return
			}
			if see(line) {
				told <- news{listener, exists, at}
			}
		}
	}()
	return first, nil
}
