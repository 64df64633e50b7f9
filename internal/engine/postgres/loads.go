package postgres

import (
	"context"
	"math/bits"
	"time"
)

// Which group gets the next account is a matter of how many each has, about. Few are counted; of
// many some are looked at, so that it takes no longer the more there are. Nothing is kept of it in
// the database, so nodes of all versions see the same.

var (
	stLoads = &statement{"g_loads", "SELECT place, count(*) FROM places GROUP BY place"}

	stFewLoads = &statement{"g_few_loads", "SELECT place, count(*) FROM (SELECT place FROM places ORDER BY shard LIMIT $1::bigint) AS p GROUP BY place"}
	stEdges    = &statement{"g_edges", "SELECT min(shard), max(shard) FROM places"}
	stSampled  = &statement{"g_sampled", "SELECT (SELECT place FROM places WHERE shard >= n.at ORDER BY shard LIMIT 1) FROM unnest($1::bigint[]) AS n(at)"}
)

const (
	loadsLast   = time.Minute // for which counts of accounts are used
	mostCounted = 8192        // accounts that are counted
	samples     = 1024        // that are looked at of more
)

// choose returns the group for one more account: the one with the fewest of those that take
// any.
func (e *Engine) choose(ctx context.Context) (int64, error) {
	groups := e.all()
	if len(groups) == 1 {
		return 0, nil
	}
	p := &e.places
	if now := time.Now(); p.outlived(now) {
		loads, err := countPlaces(func(k call) ([][][]byte, error) { return e.ground(0).read(ctx, k) }, e.member(0).token)
		if err != nil && !p.counted() {
			return 0, err
		}
		if err == nil {
			p.note(loads, now)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	best := fewest(groups, p.loads)
	p.loads[best]++
	return best, nil
}

// outlived tells whether the caller is to count. While one does, others use what was counted before.
func (p *places) outlived(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.loads != nil && now.Sub(p.as) <= loadsLast {
		return false
	}
	p.as = now
	return true
}

func (p *places) counted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.loads != nil
}

func (p *places) note(loads map[int64]int64, as time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.loads, p.as = loads, as
}

// countPlaces returns how many accounts each group has, or, where there are many, the proportion
// of that. It looks at what follows numbers that are drawn, so accounts behind a gap weigh more:
// that says nothing of their group.
func countPlaces(read func(call) ([][][]byte, error), draw func() int64) (map[int64]int64, error) {
	loads, total := map[int64]int64{}, int64(0)
	few, err := read(call{stFewLoads, []any{int64(mostCounted)}})
	if err != nil {
		return nil, err
	}
	for _, r := range few {
		loads[number(r[0])] = number(r[1])
		total += number(r[1])
	}
	if total < mostCounted {
		return loads, nil
	}
	edges, err := read(call{stEdges, nil})
	if err != nil {
		return nil, err
	}
	first, last := number(edges[0][0]), number(edges[0][1])
	points := make([]int64, samples)
	for i := range points {
		share, _ := bits.Mul64(uint64(draw()), uint64(last)-uint64(first))
		points[i] = first + int64(share)
	}
	some, err := read(call{stSampled, []any{points}})
	if err != nil {
		return nil, err
	}
	clear(loads)
	for _, r := range some {
		loads[number(r[0])] += mostCounted / samples
	}
	return loads, nil
}

// fewest returns the group with the fewest accounts among those that are open, or among all.
func fewest(groups []*member, loads map[int64]int64) int64 {
	best := (*member)(nil)
	for _, g := range groups {
		switch {
		case best == nil,
			best.full && !g.full,
			best.full == g.full && loads[g.home] < loads[best.home]:
			best = g
		}
	}
	return best.home
}
