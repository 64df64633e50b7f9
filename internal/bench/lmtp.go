package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// patience bounds the wait for one reply; longer means that the server hangs.
const patience = 5 * time.Minute

// lmtpConn is one LMTP session (RFC 2033).
type lmtpConn struct {
	net.Conn
	r        *bufio.Reader
	buf      []byte
	letters  *letters
	rcpt     string
	pipeline bool
}

// dialLMTP opens a session that delivers to rcpt.
func dialLMTP(ctx context.Context, addr, rcpt string, l *letters) (*lmtpConn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, "cannot reach the LMTP server at "+addr, err)
	}
	c := &lmtpConn{Conn: nc, r: bufio.NewReaderSize(nc, 4096), letters: l, rcpt: rcpt}
	if err := c.hello(); err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

func (c *lmtpConn) hello() error {
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.reply('2'); err != nil {
		return err
	}
	if _, err := c.Write([]byte("LHLO bench.example\r\n")); err != nil {
		return err
	}
	text, err := c.reply('2')
	c.pipeline = bytes.Contains(bytes.ToUpper(text), []byte("PIPELINING"))
	return err
}

// deliver sends the n-th message (RFC 2033, 4.2; RFC 2920).
func (c *lmtpConn) deliver(n int) (int, string, error) {
	c.SetDeadline(time.Now().Add(patience))
	head := fmt.Appendf(nil, "MAIL FROM:<sender@example.org>\r\nRCPT TO:<%s>\r\nDATA\r\n", c.rcpt)
	for i, want := range []byte("223") {
		if i == 0 || !c.pipeline {
			part := head
			if !c.pipeline {
				end := bytes.IndexByte(head, '\n') + 1
				part, head = head[:end], head[end:]
			}
			if _, err := c.Write(part); err != nil {
				return 0, "", err
			}
		}
		if text, err := c.reply(want); err != nil {
			if text == nil {
				return 0, "", err
			}
			return 0, string(text), c.reset(n, i)
		}
	}
	c.buf = c.letters.append(c.buf[:0], n)
	size := len(c.buf)
	c.buf = append(c.buf, ".\r\n"...)
	if _, err := c.Write(c.buf); err != nil {
		return 0, "", err
	}
	if text, err := c.reply('2'); err != nil {
		if text == nil {
			return 0, "", err
		}
		return 0, string(text), nil
	}
	return size, "", nil
}

// reset leaves a transaction whose command number at was refused. The replies to what
// was pipelined behind it still have to be read.
func (c *lmtpConn) reset(n, at int) error {
	if c.pipeline {
		for i := at + 1; i < 3; i++ {
			text, err := c.reply('0')
			if text == nil {
				return err
			}
			if i == 2 && text[0] == '3' { // DATA was accepted all the same: end it
				if _, err := c.Write([]byte(".\r\n")); err != nil {
					return err
				}
				if text, err := c.reply('0'); text == nil {
					return err
				}
			}
		}
	}
	if _, err := c.Write([]byte("RSET\r\n")); err != nil {
		return err
	}
	_, err := c.reply('2')
	return err
}

// reply reads a reply of one or more lines. If its first digit is not want, it is
// returned with an error; a broken connection is an error without text.
func (c *lmtpConn) reply(want byte) ([]byte, error) {
	var text []byte
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return nil, fault.Wrap(fault.Unavailable, "the LMTP server ended the connection", err)
		}
		text = append(text, line...)
		if len(line) < 4 || line[3] != '-' {
			break
		}
	}
	text = bytes.TrimRight(text, "\r\n")
	if len(text) == 0 {
		return nil, fault.New(fault.Invalid, "the LMTP server sent an empty reply")
	}
	if text[0] != want {
		return text, fault.Newf(fault.Unavailable, "the LMTP server said %q", text)
	}
	return text, nil
}

// runLMTP delivers with each number of connections.
func runLMTP(ctx context.Context, r *runner) error {
	for _, n := range r.opt.Connections {
		seed := r.nextSeed("lmtp")
		err := r.deliveries(ctx, "lmtp", n, func(i int) (worker, error) {
			rcpt := r.target.Recipients[i%len(r.target.Recipients)]
			return dialLMTP(ctx, r.target.LMTP, rcpt, newLetters(seed, r.opt.Sizes))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// nextSeed returns the part of the Message-IDs that tells one run from the others.
func (r *runner) nextSeed(name string) string {
	r.serial++
	return fmt.Sprintf("%s-%d", name, r.serial)
}

// deliveries opens n workers, runs them for the time of the options and reports.
func (r *runner) deliveries(ctx context.Context, name string, n int, open func(i int) (worker, error)) error {
	var workers []worker
	defer func() {
		for _, w := range workers {
			w.Close()
		}
	}()
	for i := range n {
		w, err := open(i)
		if err != nil {
			return err
		}
		workers = append(workers, w)
	}
	what := fmt.Sprintf("%s, %d connections", name, n)
	total := int(r.opt.Duration.Milliseconds())
	res, err := load(ctx, workers, r.opt.Duration, func(d time.Duration) {
		r.opt.Progress(what, min(int(d.Milliseconds()), total), total)
	})
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	if res.Operations == 0 && res.Failures > 0 {
		return fault.Newf(fault.Unavailable, "no delivery succeeded; the first reply was %q", res.Failure)
	}
	r.opt.Progress(what, total, total)
	res.Scenario, res.Sizes = name, r.opt.Sizes
	r.report(res)
	return nil
}
