package pebble

import (
	"bytes"
	"context"
	"errors"

	db "github.com/cockroachdb/pebble/v2"

	"github.com/martlet-mail/martlet/internal/engine"
)

// Shards returns the shards that have a record, in order.
func (e *Engine) Shards(ctx context.Context) (list []engine.Shard, err error) {
	if err := e.gate.enter(); err != nil {
		return nil, err
	}
	defer e.gate.leave()
	it, err := e.db.NewIterWithContext(ctx, &db.IterOptions{LowerBound: []byte{spaceShards}, UpperBound: []byte{spaceShards + 1}})
	if err != nil {
		return nil, e.failed(err)
	}
	for ok := it.First(); ok; {
		if err := ctx.Err(); err != nil {
			return nil, errors.Join(err, it.Close())
		}
		id := spotOf(it.Key()).Shard
		list = append(list, id)
		ok = it.SeekGE(append(shardPrefix(id), bytes.Repeat([]byte{0xff}, engine.MaxKey+1)...))
	}
	return list, e.failed(it.Close())
}
