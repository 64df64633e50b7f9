package postgres

import (
	"context"
	"slices"

	"github.com/martlet-mail/martlet/internal/engine"
)

// stTerms reads the terms of the shards that have ever been moved. Each move begins a new one.
var stTerms = &statement{"g_terms", "SELECT shard, term FROM places WHERE term > 0"}

// list merges the lists of all groups. They are not of one moment: a shard that is moved
// meanwhile is in two of them, or in none. So those that were being moved, or have been since,
// are asked one by one.
func (e *Engine) list(ctx context.Context) (list []engine.Shard, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := e.loadGroups(ctx); err != nil {
		return nil, err
	}
	before, err := e.movable(ctx)
	if err != nil {
		return nil, err
	}
	suspects, err := e.underWay(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range e.all() {
		some, err := m.list(ctx)
		if err != nil {
			return nil, err
		}
		list = append(list, some...)
	}
	if err := e.loadGroups(ctx); err != nil { // without a second one nothing could be moved
		return nil, err
	}
	now, err := e.movable(ctx)
	if err != nil {
		return nil, err
	}
	for id, term := range now {
		if before[id] != term {
			suspects = append(suspects, id)
		}
	}
	slices.Sort(list)
	list = slices.Compact(list)
	return e.withMoved(ctx, list, suspects)
}

// withMoved adds to a list those of the suspects that have a record.
func (e *Engine) withMoved(ctx context.Context, list, suspects []engine.Shard) ([]engine.Shard, error) {
	slices.Sort(suspects)
	listed := len(list)
	for _, id := range slices.Compact(suspects) {
		if _, found := slices.BinarySearch(list[:listed], id); found {
			continue
		}
		some := false
		err := e.view(ctx, id, func(r engine.Reader) error {
			some = false
			return r.Scan(nil, nil, false, func(_, _ []byte) bool { some = true; return false })
		})
		if err != nil {
			return nil, err
		}
		if some {
			list = append(list, id)
		}
	}
	slices.Sort(list)
	return list, nil
}

// movable returns the terms of shards that have ever been moved.
func (e *Engine) movable(ctx context.Context) (terms map[engine.Shard]int64, err error) {
	if len(e.all()) == 1 {
		return nil, nil
	}
	read, err := e.ground(0).read(ctx, call{stTerms, nil})
	if err != nil {
		return nil, err
	}
	terms = make(map[engine.Shard]int64, len(read))
	for _, r := range read {
		terms[engine.Shard(number(r[0]))] = number(r[1])
	}
	return terms, nil
}

// underWay returns the shards that are being moved.
func (e *Engine) underWay(ctx context.Context) (list []engine.Shard, err error) {
	if len(e.all()) == 1 {
		return nil, nil
	}
	read, err := e.ground(0).read(ctx, call{stMoves, nil})
	for _, r := range read {
		list = append(list, engine.Shard(number(r[0])))
	}
	return list, err
}
