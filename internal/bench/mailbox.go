package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// appender is one connection of the append scenario.
type appender struct {
	*imapConn
	box     string
	letters *letters
	size    int
}

func (a *appender) prepare(n int) {
	a.size = a.imapConn.prepare(a.box, a.letters, n, n+1, noFlags)
}

func (a *appender) deliver() (int, string, error) {
	err := a.transmit()
	var no refusal
	if errors.As(err, &no) {
		return 0, string(no), nil
	}
	return a.size, "", err
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
		box, remove, err := r.scratch(control, seed)
		if err != nil {
			return err
		}
		l := newLetters(seed, r.opt.Sizes)
		res := Result{Scenario: "append", Sizes: r.opt.Sizes, TLS: r.target.TLS.IMAP}
		err = r.deliveries(ctx, res, n, func(int) (worker, error) {
			c, err := dialIMAP(ctx, r.target)
			return &appender{imapConn: c, box: box, letters: l}, err
		})
		if err != nil {
			return err
		}
		if err := remove(); err != nil {
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
		if err := r.multiAppend(ctx, c, size); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) multiAppend(ctx context.Context, c *imapConn, size int) error {
	seed := r.nextSeed("multiappend")
	box, remove, err := r.scratch(c, seed)
	if err != nil {
		return err
	}
	l, from, what := newLetters(seed, r.opt.Sizes), 0, fmt.Sprintf("append of %d", size)
	res := Result{Scenario: "multiappend", Connections: 1, Sizes: r.opt.Sizes, TLS: r.target.TLS.IMAP, Batch: size}
	m := r.watch()
	defer m.halt()
	var s samples
	for start := time.Now(); time.Since(start) < r.opt.Duration; from += size {
		if err := ctx.Err(); err != nil {
			return err
		}
		r.opt.Progress(what, int(time.Since(start).Milliseconds()), int(r.opt.Duration.Milliseconds()))
		n := c.prepare(box, l, from, from+size, noFlags)
		used, began := r.mark(), time.Now()
		if err := c.transmit(); err != nil {
			return err
		}
		s.add(time.Since(began))
		s.charge(r, used)
		res.Bytes += int64(n)
	}
	s.fill(&res, 0)
	m.end(&res)
	r.report(res)
	return remove()
}

// batch is how many messages are appended in one command while filling a mailbox.
const batch = 500

// seed fills a mailbox up that is to have so many messages.
func (r *runner) seed(ctx context.Context, c *imapConn, box string, messages int) error {
	have, unseen := -1, -1
	err := c.do("STATUS "+quote(box)+" (MESSAGES UNSEEN)", func(line []byte) {
		if n, ok := number(line, "MESSAGES "); ok {
			have = int(n)
		}
		if n, ok := number(line, "UNSEEN "); ok {
			unseen = int(n)
		}
	})
	if err != nil || have > messages {
		c.do("DELETE "+quote(box), nil)
		if err := c.do("CREATE "+quote(box), nil); err != nil {
			return fault.Wrap(fault.Unavailable, "the mailbox "+box+" was not made", err)
		}
		have = 0
	}
	if have == messages && unseen != tenth(have) { // a run of store was stopped
		if err := c.do("SELECT "+quote(box), nil); err != nil {
			return err
		}
		return r.restoreSeen(c, messages)
	}
	step := 1
	if c.has("MULTIAPPEND") {
		step = batch
	}
	l := newLetters("large", Small)
	for n := have; n < messages; n += step {
		if err := ctx.Err(); err != nil {
			return err
		}
		r.opt.Progress("filling "+box, n, messages)
		if _, err := c.append(box, l, n, min(n+step, messages), seededFlags); err != nil {
			return at(fmt.Sprintf("filling %s, at message %d", box, n), err)
		}
	}
	r.opt.Progress("filling "+box, messages, messages)
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

// tenth is how many of n messages seededFlags leaves unseen.
func tenth(n int) int { return (n + 9) / 10 }

// restoreSeen sets and clears \Seen as seededFlags has it.
func (r *runner) restoreSeen(c *imapConn, messages int) error {
	if err := c.do(`STORE 1:* +FLAGS.SILENT (\Seen)`, nil); err != nil {
		return err
	}
	const atOnce = 800 // numbers, so that no line has more than 8,000 bytes
	for n := 0; n < messages; {
		var set strings.Builder
		for range atOnce {
			if n >= messages {
				break
			}
			if set.Len() > 0 {
				set.WriteByte(',')
			}
			set.WriteString(strconv.Itoa(n + 1))
			n += 10
		}
		if err := c.do("STORE "+set.String()+` -FLAGS.SILENT (\Seen)`, nil); err != nil {
			return err
		}
	}
	return nil
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

// runStore sets a flag on every message, with responses, and takes it away, without.
// Before each, no message has it, or all have.
func runStore(ctx context.Context, r *runner) error {
	const add, remove = `STORE 1:* +FLAGS (\Seen)`, `STORE 1:* -FLAGS.SILENT (\Seen)`
	before := func(command string) func(context.Context) error {
		return func(ctx context.Context) error {
			c, err := r.large(ctx)
			if err != nil {
				return err
			}
			return c.do(command, nil)
		}
	}
	err := r.measure(ctx, request{name: "store-add", times: r.opt.Repeat, ready: r.large, before: before(remove),
		ask: func(c *imapConn) (int64, error) { return r.fetch(c, add, r.opt.Messages) }})
	if err == nil {
		err = r.measure(ctx, request{name: "store-remove-silent", times: r.opt.Repeat, ready: r.large,
			before: before(`STORE 1:* +FLAGS.SILENT (\Seen)`),
			ask:    func(c *imapConn) (int64, error) { return r.fetch(c, remove, 0) }})
	}
	if r.conn == nil {
		return err
	}
	return errors.Join(err, r.restoreSeen(r.conn, r.opt.Messages))
}
