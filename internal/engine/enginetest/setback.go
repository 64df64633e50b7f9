package enginetest

import (
	"bytes"
	"context"

	"github.com/martlet-mail/martlet/internal/engine"
)

// Records is all that a shard has at one moment.
type Records []Record

// Record is one of them.
type Record struct{ Key, Value []byte }

// RecordsOf reads a shard.
func RecordsOf(ctx context.Context, e engine.Engine, shard engine.Shard) (all Records, err error) {
	err = e.View(ctx, shard, func(r engine.Reader) error {
		all = nil
		return r.Scan(nil, nil, false, func(k, v []byte) bool {
			all = append(all, Record{bytes.Clone(k), bytes.Clone(v)})
			return true
		})
	})
	return all, err
}

// SetBack makes a shard what it was, by one more commit: what a database looks like to nodes
// that run on while it loses what it has acknowledged.
func (all Records) SetBack(ctx context.Context, e engine.Engine, shard engine.Shard) error {
	return e.Update(ctx, shard, func(w engine.Writer) error {
		if err := w.DeleteRange([]byte{0}, nil); err != nil {
			return err
		}
		for _, r := range all {
			if err := w.Put(r.Key, r.Value); err != nil {
				return err
			}
		}
		return nil
	})
}
