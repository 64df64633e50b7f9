package postgres

import (
	"context"
	"math"

	"github.com/martlet-mail/martlet/internal/engine"
)

// list returns the shards that have a record. The numbers are without a sign here and with
// one in the database: those with the highest bit come first there and last here.
func (g *group) list(ctx context.Context) (all []engine.Shard, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r := g.pool.retry(ctx)
	defer r.stop()
	for _, half := range [...][2]int64{{0, math.MaxInt64}, {math.MinInt64, -1}} {
		for from := half[0]; ; {
			var some []engine.Shard
			err := g.pool.read(ctx, r, func(c *conn) {
				c.bind(stShards, 2)
				c.int64(from)
				c.int64(half[1])
				c.execute()
			}, func() { some = nil }, func(_ int, row [][]byte) error {
				some = append(some, engine.Shard(number(row[0])))
				return nil
			})
			if err != nil {
				return nil, err
			}
			all = append(all, some...)
			if len(some) == 0 || int64(some[len(some)-1]) == half[1] {
				break
			}
			from = int64(some[len(some)-1]) + 1
		}
	}
	return all, nil
}

// size returns about how many bytes the database occupies, 0 if it does not say.
func (g *group) size() (n int64) {
	ctx, cancel := context.WithTimeout(g.life, g.opt.statement)
	defer cancel()
	_ = g.pool.once(ctx, nil, func(c *conn) {
		c.bind(stSize, 0)
		c.execute()
	}, func(_ int, row [][]byte) error {
		n = number(row[0])
		return nil
	})
	return n
}
