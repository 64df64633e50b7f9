package imapc

import (
	"context"
	"errors"
	"time"
)

// renew is when IDLE is ended and begun anew: servers may close a connection after 30
// minutes without a word (RFC 2177, 3), and what sits on the way often does so earlier.
const renew = 15 * time.Minute

// leaving is how long a server may take to end IDLE when all is to stop.
const leaving = time.Second

// Idle waits for news of the open mailbox until ctx ends, tell says that it is enough, or a
// quarter of an hour is over. It returns nil then, and the connection goes on; unless ctx was
// cancelled and the server does not answer within a second: then it is lost. A server
// without IDLE is to be asked by Noop.
func (c *Client) Idle(ctx context.Context, tell func(News) (enough bool)) error {
	if c.dead != nil {
		return c.dead
	}
	if !c.Capable("IDLE") && !c.Capable("IMAP4REV2") {
		return problem(Bad, c.opt.Host+" does not offer IDLE", nil)
	}
	i := &idling{c: c}
	old := c.news
	c.news = func(n News) {
		if old != nil {
			old(n)
		}
		if tell(n) {
			i.end()
		}
	}
	defer func() { c.news = old }()
	p := c.command("IDLE", "IDLE")
	p.more = i.begun
	c.wire.idle.Store(int64(renew + c.opt.Timeout))
	defer c.wire.idle.Store(0)
	defer context.AfterFunc(ctx, func() { i.leave(ctx) })()
	timer := time.AfterFunc(renew, i.end)
	defer timer.Stop()
	err := c.wait(context.WithoutCancel(ctx), p)
	i.over()
	return err
}

// idling is an IDLE under way. Its end may be called by anybody, at any time.
type idling struct {
	c       *Client
	on      bool // the server said "+"
	wanted  bool // it is to end
	written bool // DONE is
	ended   bool // it has ended
}

func (i *idling) begun() error {
	i.c.s.text()
	i.c.outMu.Lock()
	defer i.c.outMu.Unlock()
	i.on = true
	return i.done()
}

func (i *idling) end() {
	i.c.outMu.Lock()
	defer i.c.outMu.Unlock()
	i.wanted = true
	i.done() // an error is seen by who reads
}

// leave ends it as ctx has: one that was cancelled waits no longer for the answer.
func (i *idling) leave(ctx context.Context) {
	if !errors.Is(ctx.Err(), context.Canceled) {
		i.end()
		return
	}
	i.end()
	time.AfterFunc(leaving, func() {
		i.c.outMu.Lock()
		defer i.c.outMu.Unlock()
		if !i.ended {
			i.c.wire.stop()
		}
	})
}

// over makes a late end do nothing.
func (i *idling) over() {
	i.c.outMu.Lock()
	defer i.c.outMu.Unlock()
	i.written, i.ended = true, true
}

// done writes DONE if it is time to. The answer must come soon after that.
func (i *idling) done() error {
	if !i.on || !i.wanted || i.written {
		return nil
	}
	i.written = true
	i.c.w.WriteString("DONE\r\n")
	err := i.c.w.Flush()
	if err == nil && i.c.deflate != nil {
		err = i.c.deflate.Flush()
	}
	i.c.wire.idle.Store(0)
	i.c.wire.raw.SetReadDeadline(time.Now().Add(i.c.opt.Timeout))
	return err
}
