package postgres

import (
	"bytes"
	"context"

	"github.com/martlet-mail/martlet/internal/engine"
)

// beyond is above all keys.
var beyond = bytes.Repeat([]byte{0xff}, engine.MaxKey+1)

// bindQuery gathers the statement of a query. The shard's trail comes along unless the shard
// is in the state with the token.
func bindQuery(c *conn, id engine.Shard, q query, token int64) {
	if q.key != nil {
		c.bind(stGet, 3)
		c.int64(int64(id))
		c.bytes(q.key)
		c.int64(token)
		c.execute()
		return
	}
	st := stScan
	if q.back {
		st = stScanBack
	}
	c.bind(st, 5)
	c.int64(int64(id))
	c.bytes(q.from)
	if q.to == nil {
		c.bytes(beyond)
	} else {
		c.bytes(q.to)
	}
	c.int64(int64(q.most))
	c.int64(token)
	c.execute()
}

// row takes one row of the answer to a query: epoch, home, state, version, token, trail,
// then key and value, or the value alone.
func (a *answer) row(q query, row [][]byte) error {
	if q.key != nil {
		a.head = headOf(row)
		if a.there = row[6] != nil; a.there {
			a.value = append(make([]byte, 0, len(row[6])), row[6]...)
		}
		return nil
	}
	if row[6] == nil {
		a.head = headOf(row)
		return nil
	}
	if row[7] == nil {
		return nil // it is not there
	}
	both := make([]byte, len(row[6])+len(row[7]))
	n := copy(both, row[6])
	copy(both[n:], row[7])
	a.records = append(a.records, record{both[:n:n], both[n:]})
	return nil
}

func headOf(row [][]byte) head {
	return head{
		identity: identity{epoch: number(row[0]), version: number(row[3]), token: number(row[4])},
		home:     number(row[1]), state: number(row[2]), recent: bytes.Clone(row[5]),
	}
}

// ask carries out a query in a transaction of its own. token is of the state that the
// caller has the trail of.
func (s *shard) ask(ctx context.Context, r *retry, q query, token int64) (a answer, err error) {
	rest := restOf(ctx)
	defer rest()
	g := s.g
	g.stats.Reads.Add(1)
	gone := s.takeGone()
	err = g.pool.read(ctx, r,
		func(c *conn) { s.bindAll(c, q, token, gone) },
		func() { a = answer{head: head{home: g.home}} },
		func(i int, row [][]byte) error { return a.take(i, q, row, gone) })
	return a, err
}

// bindAll gathers the statements of a query, and of what was forgotten since others have
// written it: who misses one thing of it will miss the rest as well.
func (s *shard) bindAll(c *conn, q query, token int64, gone [][]byte) {
	bindQuery(c, s.id, q, token)
	if len(gone) > 0 {
		c.bind(stMany, 2)
		c.int64(int64(s.id))
		c.array(typeBytea, len(gone), func(i int) { c.bytes(gone[i]) })
		c.execute()
	}
}

// take takes one row of the answers to bindAll.
func (a *answer) take(i int, q query, row [][]byte, gone [][]byte) error {
	if i == 0 {
		return a.row(q, row)
	}
	if a.more == nil {
		a.more = &answer{asked: gone}
	}
	return a.more.row(query{}, row)
}

// takeGone returns the keys of which is known that others have written them, and nothing else.
func (s *shard) takeGone() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := s.gone
	s.gone = nil
	return gone
}

// mostGone is how many of them are kept.
const mostGone = 100

// noteMore notes what was asked for beside the query, if it is of the same state.
func (a *answer) noteMore(t *tree) {
	if a.more == nil || a.more.identity != a.identity {
		return
	}
	found := make(map[string][]byte, len(a.more.records))
	for _, r := range a.more.records {
		found[string(r.key)] = r.value
	}
	for _, k := range a.more.asked {
		value, there := found[string(k)]
		t.learnKey(k, value, there)
	}
}
