package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// settle finds out what became of a commit whose connection broke after it was sent. If it is
// not there, it may still come: a server that was frozen goes on where it stopped. So the
// state that it was to follow is taken out of its way.
func (g *group) settle(c *commit) {
	g.stats.Doubts.Add(1)
	r := g.pool.retry(engine.Patient(context.Background(), g.opt.Patience))
	defer r.stop()
	for {
		var what fate
		err := g.life.Err()
		if err == nil {
			what, err = g.inquire(c)
		}
		switch {
		case err == nil && what == fateCommitted:
			g.complete(c, nil)
			return
		case err == nil && what == fateNot:
			g.complete(c, errAgain)
			return
		case err == nil && what == fateUnknown:
			err = errors.New("other changes have come since")
		default:
			if pause := r.again(err); pause == nil {
				continue
			}
		}
		g.stats.Unknown.Add(1)
		g.complete(c, fault.Wrap(fault.Unknown, "the change may or may not have been made", err))
		return
	}
}

// inquire makes one attempt. Its own commit waits for the replica, and so for all before it:
// what it finds done is done for good.
func (g *group) inquire(c *commit) (fate, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*connectTimeout)
	defer cancel()
	conn, err := g.pool.take(ctx, nil, g.pool.short)
	if err != nil {
		return fateUnknown, err
	}
	defer g.pool.give(g.pool.short, conn)
	token := g.token()
	if !g.opt.without.fence {
		g.bindBump(conn, c, token)
	}
	bindHeads(conn, []engine.Shard{c.shard.id})
	now := head{home: g.home}
	conn.alive = g.pool.watchful(conn)
	defer func() { conn.alive = nil }()
	_, err = conn.run(g.opt.statement, func(_ int, row [][]byte) error {
		if len(row) > 1 {
			now = headOf(row[1:])
		}
		return nil
	})
	if err == nil && conn.warned {
		err = fmt.Errorf("%w: the wait for the replica was cancelled", errReach)
	}
	if err != nil {
		g.pool.failing(conn, err)
		return fateUnknown, err
	}
	what := fateOf(c.token, c.from, &now)
	if what == fateOpen && g.opt.without.fence {
		what = fateNot
	}
	if what == fateOpen {
		return what, fmt.Errorf("%w: the shard did not take a new state", errReach)
	}
	return what, nil
}

func (g *group) bindBump(conn *conn, c *commit, token int64) {
	next := trail(token, touched{}, c.recent)
	conn.bind(stBegin, 0)
	conn.execute()
	if c.from.version == 0 {
		conn.bind(stBumpFirst, 4)
		conn.int64(int64(c.shard.id))
		conn.int64(g.home)
		conn.int64(token)
		conn.bytes(next)
	} else {
		conn.bind(stBump, 6)
		conn.int64(int64(c.shard.id))
		conn.int64(c.from.epoch)
		conn.int64(c.from.version)
		conn.int64(c.from.token)
		conn.int64(token)
		conn.bytes(next)
	}
	conn.execute()
	g.pool.fence(conn, conn.slot)
	conn.bind(stCommit, 0)
	conn.execute()
}
