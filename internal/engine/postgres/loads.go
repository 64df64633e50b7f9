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
	stSampled  = &statement{"g_sampled", "SELECT n.at, (SELECT shard FROM places WHERE shard >= n.at ORDER BY shard LIMIT 1), (SELECT place FROM places WHERE shard >= n.at ORDER BY shard LIMIT 1) FROM unnest($1::bigint[]) AS n(at)"}
)

const (
	loadsLast   = time.Minute // for which counts of accounts are used
	mostCounted = 8192        // accounts that are counted
	samples     = 1024        // that are looked at of more
	near        = 16          // numbers between a point that was drawn and an account that is taken for it
	enough      = 32          // of those, to go by them alone
	narrow      = 1 << 24     // numbers among which all accounts may be counted
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
// of that.
func countPlaces(read func(call) ([][][]byte, error), draw func() int64) (map[int64]int64, error) {
	few, total, err := tally(read, call{stFewLoads, []any{int64(mostCounted)}})
	if err != nil || total < mostCounted {
		return few, err
	}
	edges, err := read(call{stEdges, nil})
	if err != nil {
		return nil, err
	}
	first, last := number(edges[0][0]), number(edges[0][1])
	loads, err := samplePlaces(read, draw, first, last)
	if loads != nil || err != nil {
		return loads, err
	}
	loads, _, err = tally(read, call{stLoads, nil})
	return loads, err
}

// tally returns what a statement has counted, and the sum.
func tally(read func(call) ([][][]byte, error), k call) (map[int64]int64, int64, error) {
	loads, total := map[int64]int64{}, int64(0)
	list, err := read(k)
	if err != nil {
		return nil, 0, err
	}
	for _, r := range list {
		loads[number(r[0])] = number(r[1])
		total += number(r[1])
	}
	return loads, total, nil
}

// samplePlaces looks at the accounts that follow numbers that are drawn. Numbers are given one after
// another and leap now and then (as after a restore): an account behind such a gap would be hit again
// and again, and its group pass for full. So those count that lie near the point. Where they are too
// few there are not many accounts for so many numbers, and the result is nil, or, if the numbers are too many
// to be sure of that, it is of all points.
func samplePlaces(read func(call) ([][][]byte, error), draw func() int64, first, last int64) (map[int64]int64, error) {
	span := uint64(last) - uint64(first)
	points := make([]int64, samples)
	for i := range points {
		share, _ := bits.Mul64(uint64(draw()), span)
		points[i] = first + int64(share)
	}
	list, err := read(call{stSampled, []any{points}})
	if err != nil {
		return nil, err
	}
	every, next, hits := map[int64]int64{}, map[int64]int64{}, 0
	for _, r := range list {
		if r[1] == nil { // nobody is behind it any more
			continue
		}
		every[number(r[2])] += mostCounted / samples
		if number(r[1])-number(r[0]) < near {
			next[number(r[2])] += mostCounted / samples
			hits++
		}
	}
	switch {
	case hits >= enough:
		return next, nil
	case span < narrow:
		return nil, nil
	}
	return every, nil
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
