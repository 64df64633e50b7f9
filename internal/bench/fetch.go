package bench

import (
	"bytes"
	"context"
	"fmt"

	"github.com/martlet-mail/martlet/internal/fault"
)

// quick is how many times more often requests are made that take about a millisecond.
const quick = 10

// runSelect times SELECT: of a session that had the mailbox selected before, and of
// one that has just logged in, as a client's that comes back.
func runSelect(ctx context.Context, r *runner) error {
	ask := func(c *imapConn) (int64, error) { return r.choose(c) }
	err := r.measure(ctx, request{name: "select", times: r.opt.Repeat * quick, ready: r.beside,
		ask: func(c *imapConn) (int64, error) { r.closed = false; return ask(c) }})
	if err != nil {
		return err
	}
	return r.measure(ctx, request{name: "select-new-session", times: r.opt.Repeat * quick, ready: r.fresh, ask: ask, after: part})
}

// choose selects the large mailbox and looks at the number of its messages.
func (r *runner) choose(c *imapConn) (int64, error) {
	before, exists := c.read, uint64(0)
	err := c.do("SELECT "+quote(r.box), func(line []byte) {
		if bytes.HasSuffix(line, []byte(" EXISTS\r\n")) {
			exists, _ = number(line, "* ")
		}
	})
	if err == nil && exists != uint64(r.opt.Messages) {
		err = fault.Newf(fault.Corrupt, "the mailbox of %d messages was shown with %d", r.opt.Messages, exists)
	}
	return c.read - before, err
}

// page is how many messages a phone shows at first.
const page = 50

// runFirstPage times what a client does that opens a mailbox: SELECT, and the envelopes
// and flags of the newest messages.
func runFirstPage(ctx context.Context, r *runner) error {
	return r.measure(ctx, request{name: "first-page", times: r.opt.Repeat * quick, ready: r.fresh, after: part,
		ask: func(c *imapConn) (int64, error) {
			a, err := r.choose(c)
			if err != nil {
				return a, err
			}
			n := min(page, r.opt.Messages)
			b, err := r.fetch(c, fmt.Sprintf("FETCH %d:* (UID FLAGS ENVELOPE)", r.opt.Messages-n+1), n)
			return a + b, err
		}})
}

// fetchAll returns a scenario that makes a request with one FETCH response for every
// message.
func fetchAll(name, command string) scenario {
	return scenario{name, command, needIMAP, func(ctx context.Context, r *runner) error {
		return r.measure(ctx, request{name: name, times: r.opt.Repeat, ready: r.large,
			ask: func(c *imapConn) (int64, error) { return r.fetch(c, command, r.opt.Messages) }})
	}}
}

// shown are the header fields that clients which do not use ENVELOPE ask for.
const shown = "FETCH 1:* (BODY.PEEK[HEADER.FIELDS (FROM TO SUBJECT DATE MESSAGE-ID)])"

// whole is how many messages fetch-whole reads.
const whole = 1_000

// runFetchWhole times the fetch of neighbouring whole messages in one request.
func runFetchWhole(ctx context.Context, r *runner) error {
	from := r.opt.Messages / 2
	n := min(whole, r.opt.Messages-from)
	command := fmt.Sprintf("FETCH %d:%d (BODY.PEEK[])", from+1, from+n)
	return r.measure(ctx, request{name: "fetch-whole", times: r.opt.Repeat * quick, ready: r.large,
		ask: func(c *imapConn) (int64, error) { return r.fetch(c, command, n) }})
}

// fetch makes a request and returns the bytes of its responses. Fewer than want FETCH
// responses are an error.
func (r *runner) fetch(c *imapConn, command string, want int) (int64, error) {
	before, t := c.read, tally{}
	if err := c.send(command); err != nil {
		return 0, err
	}
	c.count(&t)
	err := c.finish(func(line []byte) {
		t.see(line)
		c.count(&t)
	})
	if err == nil && t.got < want {
		err = fault.Newf(fault.Corrupt, "%d FETCH responses came where %d were due", t.got, want)
	}
	return c.read - before, err
}

// tally counts FETCH responses.
type tally struct {
	got int
	at  int // where the word stood in the last one
}

const fetchWord = " FETCH ("

// see looks at one line. The numbers of neighbouring responses have as many digits.
func (t *tally) see(line []byte) {
	if t.at > 2 && len(line) >= t.at+len(fetchWord) && line[2] <= '9' && string(line[t.at:t.at+len(fetchWord)]) == fetchWord {
		t.got++
		return
	}
	i := 2
	for i < len(line) && line[i] >= '0' && line[i] <= '9' {
		i++
	}
	if i > 2 && bytes.HasPrefix(line[i:], []byte(fetchWord)) {
		t.at = i
		t.got++
	}
}

// count takes the responses that are in the buffer and have no literal.
func (w *wire) count(t *tally) {
	b := w.buf[w.from:w.to]
	for len(b) > 0 && b[0] == '*' {
		i := bytes.IndexByte(b, '\n')
		if i < 3 || b[i-2] == '}' || b[i-1] == '}' {
			break
		}
		t.see(b[:i])
		b = b[i+1:]
	}
	n := w.to - w.from - len(b)
	w.from += n
	w.read += int64(n)
}
