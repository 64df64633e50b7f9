package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// accountShards are those that have a place: accounts. All below lie in the home group.
const accountShards engine.Shard = 1 << 32

// A shard that is first written gets a place, in the home group, before it gets a row in the
// group of its place. So where it is written is decided once, and a shard without a place has
// no record anywhere. A node remembers places; one that has changed shows at the shard's row,
// which says that it lives elsewhere.

var (
	stPlace    = &statement{"g_place", "SELECT place FROM places WHERE shard = $1::bigint"}
	stAddPlace = &statement{"g_add_place", "INSERT INTO places (shard, place, term) VALUES ($1::bigint, $2::bigint, 0) ON CONFLICT (shard) DO NOTHING"}
	stPlacesOf = &statement{"g_places_of", "SELECT shard, place FROM places WHERE shard = ANY ($1::bigint[])"}
)

// mostPlaces are remembered; then all are forgotten, to be asked for again when needed.
const mostPlaces = 1 << 18

// places are where shards are, as far as this node knows.
type places struct {
	mu    sync.Mutex
	known map[engine.Shard]int64

	loads map[int64]int64 // accounts of each group, about; nil: not yet counted
	as    time.Time       // of when
}

func (p *places) get(id engine.Shard) (place int64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	place, ok = p.known[id]
	return place, ok
}

func (p *places) set(id engine.Shard, place int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil || len(p.known) >= mostPlaces {
		p.known = map[engine.Shard]int64{}
	}
	p.known[id] = place
}

func (p *places) forget(id engine.Shard) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.known, id)
}

// lookUp asks the home group where a shard is.
func (e *Engine) lookUp(ctx context.Context, id engine.Shard) (place int64, placed bool, err error) {
	read, err := e.ground(0).read(ctx, call{stPlace, []any{int64(id)}})
	if err != nil || len(read) == 0 {
		return 0, false, err
	}
	place = number(read[0][0])
	e.places.set(id, place)
	return place, true, nil
}

// placing gives a shard a place, or finds the one that another node has given it.
func (e *Engine) placing(ctx context.Context, id engine.Shard) (place int64, err error) {
	chosen, err := e.choose(ctx)
	if err != nil {
		return 0, err
	}
	err = e.ground(0).tx(ctx, nil, func(rows) ([]call, error) { return []call{{stAddPlace, []any{int64(id), chosen}}}, nil })
	if err != nil {
		return 0, err
	}
	place, placed, err := e.lookUp(ctx, id)
	if err == nil && !placed {
		err = fault.New(fault.Unavailable, "the account has just been given a place, and it is gone; try again")
	}
	return place, err
}
