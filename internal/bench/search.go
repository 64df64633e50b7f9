package bench

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// question is a scenario of one request that has one answer about the large mailbox.
type question struct {
	name, command string
	extension     string                 // capability it needs, "" for none
	most          bool                   // the answer names every message
	hits          func(messages int) int // how many it names otherwise
}

// questions are asked in this order. The rare text stands in the body of one message.
func questions() []question {
	one := func(int) int { return 1 }
	return []question{
		{name: "search-unseen", command: "UID SEARCH UNSEEN", hits: func(n int) int { return (n + 9) / 10 }},
		{name: "search-subject", command: `UID SEARCH SUBJECT "Note 777 on"`, hits: one},
		{name: "search-text", command: `UID SEARCH TEXT "No. 777 of large"`, hits: one},
		{name: "sort-date", command: "UID SORT (REVERSE DATE) UTF-8 ALL", extension: "SORT", most: true},
		{name: "sort-subject", command: "UID SORT (SUBJECT) UTF-8 ALL", extension: "SORT", most: true},
		{name: "thread", command: "UID THREAD REFERENCES UTF-8 ALL", extension: "THREAD=REFERENCES", most: true},
	}
}

func (q question) scenario() scenario { return scenario{q.name, q.command, needIMAP, q.run} }

func (q question) run(ctx context.Context, r *runner) error {
	c, err := r.large(ctx)
	if err != nil {
		return err
	}
	if q.extension != "" && !c.has(q.extension) {
		return fault.New(fault.Unsupported, "the server does not offer "+q.extension)
	}
	return r.timed(ctx, q.name, func() (int64, error) {
		before, hits := c.read, 0
		err := c.do(q.command, func(line []byte) {
			if bytes.HasPrefix(line, []byte("* SEARCH")) {
				hits += bytes.Count(line, []byte(" ")) - 1
			}
		})
		read := c.read - before
		switch {
		case err != nil:
			return read, err
		case q.most && read < int64(r.opt.Messages):
			return read, fault.Newf(fault.Corrupt, "%s was answered with %d bytes only", q.command, read)
		case !q.most && hits != q.hits(r.opt.Messages):
			return read, fault.Newf(fault.Corrupt, "%s found %d of %d messages", q.command, hits, q.hits(r.opt.Messages))
		}
		return read, nil
	})
}

// whole is how many messages fetch-whole reads.
const whole = 1_000

// runFetchWhole times the fetch of neighbouring whole messages in one request.
func runFetchWhole(ctx context.Context, r *runner) error {
	c, err := r.large(ctx)
	if err != nil {
		return err
	}
	from := r.opt.Messages / 2
	n := min(whole, r.opt.Messages-from)
	command := fmt.Sprintf("FETCH %d:%d (BODY.PEEK[])", from+1, from+n)
	return r.timed(ctx, "fetch-whole", func() (int64, error) { return r.fetch(c, command, n) })
}

// runAnnounce times how long after the answer to a delivery a session in IDLE hears
// of it. A message that is told before the answer counts as 0.
func runAnnounce(ctx context.Context, r *runner) error {
	c, err := dialIMAP(ctx, r.target)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.do("SELECT INBOX", nil); err != nil {
		return err
	}
	heard, err := c.listen()
	if err != nil {
		return err
	}
	w, err := dialLMTP(ctx, r.target.LMTP, r.target.User, newLetters(r.nextSeed("announce"), Small))
	if err != nil {
		return err
	}
	defer w.Close()
	var s samples
	res := Result{Scenario: "announce", Connections: 1}
	for i := range r.opt.Repeat * quick {
		r.opt.Progress("announce", i, r.opt.Repeat*quick)
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, refused, err := w.deliver(i); err != nil || refused != "" {
			return fault.Wrap(fault.Unavailable, "a delivery failed: "+refused, err)
		}
		answered := time.Now()
		at, ok := <-heard
		if !ok {
			return fault.New(fault.Unavailable, "the session in IDLE ended")
		}
		s.add(max(at.Sub(answered), 0))
	}
	s.fill(&res, 0)
	r.report(res)
	return nil
}

// listen begins IDLE; the time of each EXISTS comes through the channel.
func (c *imapConn) listen() (<-chan time.Time, error) {
	if _, err := c.Write([]byte("i IDLE\r\n")); err != nil {
		return nil, err
	}
	if line, err := c.line(); err != nil || line[0] != '+' {
		return nil, fault.Wrap(fault.Unsupported, "the server does not go into IDLE", err)
	}
	heard := make(chan time.Time, 1)
	go func() {
		defer close(heard)
		for {
			line, err := c.line()
			if err != nil {
				return
			}
			if bytes.HasSuffix(line, []byte(" EXISTS\r\n")) {
				heard <- time.Now()
			}
		}
	}()
	return heard, nil
}
