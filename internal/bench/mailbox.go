package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// appender is one connection of the append scenario.
type appender struct {
	*imapConn
	box     string
	letters *letters
}

func (a appender) deliver(n int) (int, string, error) {
	size, err := a.append(a.box, a.letters, n, n+1, noFlags)
	var no refusal
	if errors.As(err, &no) {
		return 0, string(no), nil
	}
	return size, "", err
}

func noFlags(int) string { return "" }

// runAppend appends with each number of connections to a mailbox of its own, which
// goes away afterwards.
func runAppend(ctx context.Context, r *runner) error {
	control, err := dialIMAP(ctx, r.target)
	if err != nil {
		return err
	}
	defer control.Close()
	for _, n := range r.opt.Connections {
		seed := r.nextSeed("append")
		box := "bench-" + seed
		control.do("DELETE "+quote(box), nil) // left over from a run that was stopped
		if err := control.do("CREATE "+quote(box), nil); err != nil {
			return err
		}
		err := r.deliveries(ctx, "append", n, func(i int) (worker, error) {
			c, err := dialIMAP(ctx, r.target)
			return appender{c, box, newLetters(seed, r.opt.Sizes)}, err
		})
		if err != nil {
			return err
		}
		if err := control.do("DELETE "+quote(box), nil); err != nil {
			return err
		}
	}
	return nil
}

// runMultiAppend appends many messages with one command (RFC 3502), to a mailbox of
// its own.
func runMultiAppend(ctx context.Context, r *runner) error {
	c, err := dialIMAP(ctx, r.target)
	if err != nil {
		return err
	}
	defer c.Close()
	if !c.has("MULTIAPPEND") {
		return fault.New(fault.Unsupported, "the server does not offer MULTIAPPEND")
	}
	for _, size := range []int{20, 500} {
		seed := r.nextSeed("multiappend")
		box := "bench-" + seed
		c.do("DELETE "+quote(box), nil)
		if err := c.do("CREATE "+quote(box), nil); err != nil {
			return err
		}
		l, from := newLetters(seed, Small), 0
		res := Result{Scenario: "multiappend", Connections: 1, Batch: size}
		var s samples
		for start := time.Now(); time.Since(start) < r.opt.Duration; from += size {
			if err := ctx.Err(); err != nil {
				return err
			}
			r.opt.Progress(fmt.Sprintf("append of %d", size), int(time.Since(start).Milliseconds()), int(r.opt.Duration.Milliseconds()))
			began := time.Now()
			n, err := c.append(box, l, from, from+size, noFlags)
			if err != nil {
				return err
			}
			s.add(time.Since(began))
			res.Seconds += time.Since(began).Seconds()
			res.Bytes += int64(n)
		}
		s.fill(&res, seconds(res.Seconds))
		r.report(res)
		if err := c.do("DELETE "+quote(box), nil); err != nil {
			return err
		}
	}
	return nil
}

// batch is how many messages are appended in one command while seeding.
const batch = 100

// large returns a session with the large mailbox selected. The mailbox is filled on
// first use; one of an earlier run that is complete is used again.
func (r *runner) large(ctx context.Context) (*imapConn, error) {
	if r.conn != nil {
		return r.conn, nil
	}
	c, err := dialIMAP(ctx, r.target)
	if err != nil {
		return nil, err
	}
	box := fmt.Sprintf("bench-%d", r.opt.Messages)
	if err := r.seed(ctx, c, box); err != nil {
		c.Close()
		return nil, err
	}
	r.box, r.conn = box, c
	return c, c.do("SELECT "+quote(box), nil)
}

func (r *runner) seed(ctx context.Context, c *imapConn, box string) error {
	have := -1
	err := c.do("STATUS "+quote(box)+" (MESSAGES)", func(line []byte) {
		if n, ok := number(line, "MESSAGES "); ok {
			have = int(n)
		}
	})
	if err != nil || have > r.opt.Messages {
		c.do("DELETE "+quote(box), nil)
		if err := c.do("CREATE "+quote(box), nil); err != nil {
			return err
		}
		have = 0
	}
	step := 1
	if c.has("MULTIAPPEND") {
		step = batch
	}
	l := newLetters("large", Small)
	for n := have; n < r.opt.Messages; n += step {
		if err := ctx.Err(); err != nil {
			return err
		}
		r.opt.Progress("filling the large mailbox", n, r.opt.Messages)
		if _, err := c.append(box, l, n, min(n+step, r.opt.Messages), seededFlags); err != nil {
			return err
		}
	}
	r.opt.Progress("filling the large mailbox", r.opt.Messages, r.opt.Messages)
	return nil
}

// seededFlags gives the large mailbox the flags of one that is read.
func seededFlags(n int) string {
	switch {
	case n%10 == 0:
		return ""
	case n%33 == 0:
		return `(\Seen \Answered) `
	case n%41 == 0:
		return `(\Seen $Label1) `
	}
	return `(\Seen) `
}

// number returns the decimal number behind key in line.
func number(line []byte, key string) (uint64, bool) {
	_, rest, ok := bytes.Cut(line, []byte(key))
	if !ok {
		return 0, false
	}
	end := 0
	for end < len(rest) && rest[end] >= '0' && rest[end] <= '9' {
		end++
	}
	n, err := strconv.ParseUint(string(rest[:end]), 10, 64)
	return n, err == nil
}

// quick is how many times more often requests are made that take about a millisecond.
const quick = 10

// runSelect times SELECT; the mailbox is closed again outside the measured time.
func runSelect(ctx context.Context, r *runner) error {
	c, err := r.large(ctx)
	if err != nil {
		return err
	}
	leave := "EXAMINE INBOX"
	if c.has("UNSELECT") {
		leave = "UNSELECT"
	}
	var s samples
	res := Result{Scenario: "select", Connections: 1, Mailbox: r.opt.Messages}
	for i := range r.opt.Repeat * quick {
		if err := c.do(leave, nil); err != nil {
			return err
		}
		r.opt.Progress("select", i, r.opt.Repeat*quick)
		if err := ctx.Err(); err != nil {
			return err
		}
		exists := uint64(0)
		took, err := c.clock("SELECT "+quote(r.box), func(line []byte) {
			if bytes.HasSuffix(line, []byte(" EXISTS\r\n")) {
				exists, _ = number(line, "* ")
			}
		})
		if err != nil {
			return err
		}
		if exists != uint64(r.opt.Messages) {
			return fault.Newf(fault.Corrupt, "the mailbox of %d messages was shown with %d", r.opt.Messages, exists)
		}
		s.add(took)
		res.Seconds += took.Seconds()
	}
	r.opt.Progress("select", r.opt.Repeat*quick, r.opt.Repeat*quick)
	s.fill(&res, seconds(res.Seconds))
	r.report(res)
	return r.selectFresh(ctx)
}

// selectFresh times the SELECT of sessions that have just logged in, as a client's
// that comes back.
func (r *runner) selectFresh(ctx context.Context) error {
	var s samples
	res := Result{Scenario: "select-new-session", Connections: 1, Mailbox: r.opt.Messages}
	for range r.opt.Repeat * quick {
		c, err := dialIMAP(ctx, r.target)
		if err != nil {
			return err
		}
		took, err := c.clock("SELECT "+quote(r.box), nil)
		c.Close()
		if err != nil {
			return err
		}
		s.add(took)
		res.Seconds += took.Seconds()
	}
	s.fill(&res, seconds(res.Seconds))
	r.report(res)
	return nil
}

// fetchAll returns a scenario that makes a request with one FETCH response for every
// message.
func fetchAll(name, command string) func(context.Context, *runner) error {
	return func(ctx context.Context, r *runner) error {
		c, err := r.large(ctx)
		if err != nil {
			return err
		}
		return r.timed(ctx, name, func() (int64, error) { return r.fetch(c, command, r.opt.Messages) })
	}
}

// fetch makes a request and returns the bytes of its responses. Fewer than want FETCH
// responses are an error.
func (r *runner) fetch(c *imapConn, command string, want int) (int64, error) {
	before, got := c.read, 0
	err := c.do(command, func(line []byte) {
		if bytes.Contains(line[:min(len(line), 24)], []byte(" FETCH (")) {
			got++
		}
	})
	if err == nil && got < want {
		err = fault.Newf(fault.Corrupt, "%d FETCH responses came where %d were due", got, want)
	}
	return c.read - before, err
}

// runStore sets a flag on every message, with responses, and takes it away, without.
func runStore(ctx context.Context, r *runner) error {
	c, err := r.large(ctx)
	if err != nil {
		return err
	}
	var add, remove samples
	a := Result{Scenario: "store-add", Connections: 1, Mailbox: r.opt.Messages}
	b := Result{Scenario: "store-remove-silent", Connections: 1, Mailbox: r.opt.Messages}
	for i := range r.opt.Repeat {
		r.opt.Progress("store", i, r.opt.Repeat)
		if err := ctx.Err(); err != nil {
			return err
		}
		before := c.read
		took, err := c.clock(`STORE 1:* +FLAGS (\Flagged)`, nil)
		if err != nil {
			return err
		}
		add.add(took)
		a.Seconds += took.Seconds()
		a.Bytes += c.read - before
		if took, err = c.clock(`STORE 1:* -FLAGS.SILENT (\Flagged)`, nil); err != nil {
			return err
		}
		remove.add(took)
		b.Seconds += took.Seconds()
	}
	r.opt.Progress("store", r.opt.Repeat, r.opt.Repeat)
	add.fill(&a, seconds(a.Seconds))
	remove.fill(&b, seconds(b.Seconds))
	r.report(a)
	r.report(b)
	return nil
}
