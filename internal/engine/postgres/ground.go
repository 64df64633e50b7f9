package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
)

// ground is a group's database as movers and places use it.
type ground struct {
	id   int64
	name string
	pool *pool
}

// call is a statement with its arguments.
type call struct {
	st   *statement
	args []any
}

// rows are what statements gave, by their number.
type rows [][][][]byte

func (r *rows) add(i int, row [][]byte) error {
	for len(*r) <= i {
		*r = append(*r, nil)
	}
	kept := make([][]byte, len(row))
	for j, v := range row {
		kept[j] = bytes.Clone(v)
	}
	(*r)[i] = append((*r)[i], kept)
	return nil
}

// of returns the rows of a statement.
func (r rows) of(i int) [][][]byte {
	if i >= len(r) {
		return nil
	}
	return r[i]
}

// longStatement is what a statement over a whole shard, or with a chunk of it, may take.
const longStatement = 30 * time.Second

// tx carries out a transaction in two round trips: what is read, under locks, and what is to
// be done then. It may do so again, until it knows that it was committed: then sees what it
// has done itself.
func (g *ground) tx(ctx context.Context, first []call, then func(read rows) ([]call, error)) error {
	r := g.pool.retry(ctx)
	defer r.stop()
	for {
		own, err := g.attempt(ctx, r, first, then)
		if own || err == nil || ctx.Err() != nil {
			return err
		}
		if err := r.again(err); err != nil {
			return err
		}
	}
}

// attempt tells of an error whether it is then's own.
func (g *ground) attempt(ctx context.Context, r *retry, first []call, then func(read rows) ([]call, error)) (own bool, err error) {
	asked := time.Now()
	c, err := g.pool.take(ctx, r, g.pool.long)
	if err != nil {
		return false, err
	}
	wrote, own, err := g.transact(c, first, then)
	g.pool.give(g.pool.long, c)
	if wrote || err != nil && !own {
		return own, err
	}
	// What was found says that there is nothing to do: as of now, or of a server that was the
	// primary once?
	if old := g.pool.assured(ctx, r, c.age, asked); old != nil {
		return false, old
	}
	return own, err
}

// transact is an attempt on a connection. It tells whether the commit had anything to confirm.
func (g *ground) transact(c *conn, first []call, then func(read rows) ([]call, error)) (wrote, own bool, err error) {
	var read rows
	c.call(stBegin, nil)
	for _, k := range first {
		c.call(k.st, k.args)
	}
	if _, err := c.run(longStatement, func(i int, row [][]byte) error { return read.add(i-1, row) }); err != nil {
		g.end(c, err)
		return false, false, err
	}
	calls, err := then(read)
	if err != nil {
		g.end(c, err)
		return false, true, err
	}
	for _, k := range calls {
		c.call(k.st, k.args)
	}
	c.call(stCommit, nil)
	sent := time.Now()
	counts, err := c.run(longStatement, nil)
	if err != nil {
		g.end(c, err)
		return false, false, besides(err)
	}
	if c.warned {
		return false, false, c.breaks(errors.New("the wait for the replica was cancelled"))
	}
	for i := range calls {
		wrote = wrote || counts[i] > 0
	}
	if wrote {
		g.pool.surety.confirmed(c.age, sent)
	}
	return wrote, false, nil
}

// besides has a transaction begun again whose row somebody else has made since it looked.
func besides(err error) error {
	var r *refusal
	if errors.As(err, &r) && r.code == "23505" {
		return fmt.Errorf("%w: somebody else was faster: %w", errReach, err)
	}
	return err
}

// end ends a transaction that was not committed.
func (g *ground) end(c *conn, cause error) {
	g.pool.failing(c, cause)
	if c.broken != nil {
		return
	}
	c.call(stRollback, nil)
	_, _ = c.run(g.pool.opt.statement, nil) // unless it is refused, or breaks: then it is over as well
}

// read carries out one statement that reads. What it returns is true now, not only on a server
// that was the primary once.
func (g *ground) read(ctx context.Context, k call) ([][][]byte, error) {
	var read rows
	r := g.pool.retry(ctx)
	defer r.stop()
	for {
		read = nil
		err := g.readOnce(ctx, r, k, &read)
		if err == nil || ctx.Err() != nil {
			return read.of(0), err
		}
		if err := r.again(err); err != nil {
			return nil, err
		}
	}
}

func (g *ground) readOnce(ctx context.Context, r *retry, k call, read *rows) error {
	asked := time.Now()
	c, err := g.pool.take(ctx, r, g.pool.long)
	if err != nil {
		return err
	}
	c.call(k.st, k.args)
	_, err = c.run(longStatement, read.add)
	g.pool.failing(c, err)
	g.pool.give(g.pool.long, c)
	if err == nil {
		err = g.pool.assured(ctx, r, c.age, asked)
	}
	return err
}

func recordsOf(read [][][]byte) (list []record) {
	for _, r := range read {
		list = append(list, record{r[0], r[1]})
	}
	return list
}

func sizeOf(list []record) (n int64) {
	for _, p := range list {
		n += int64(len(p.key) + len(p.value))
	}
	return n
}

var stWeigh = &statement{"g_weigh", "SELECT count(*), coalesce(sum(length(key) + length(value)), 0)::bigint FROM kv WHERE shard = $1::bigint"}

// weigh returns how many records a shard has, and their bytes.
func (g *ground) weigh(ctx context.Context, shard engine.Shard) (keys, size int64, err error) {
	read, err := g.read(ctx, call{stWeigh, []any{int64(shard)}})
	if err != nil || len(read) != 1 {
		return 0, 0, err
	}
	return number(read[0][0]), number(read[0][1]), nil
}

// chunkSQL reads the first keys of a range, up to the one with which they have so many bytes.
const chunkSQL = `SELECT key, value FROM (
	SELECT key, value, sum(length(key) + length(value)) OVER (ORDER BY key) - length(key) - length(value) AS before
	FROM (SELECT key, value FROM kv WHERE shard = $1::bigint AND key >= $2::bytea%s ORDER BY key LIMIT $3::bigint) AS a) AS b
	WHERE before < $4::bigint ORDER BY key`

var (
	stChunk      = &statement{"g_chunk", fmt.Sprintf(chunkSQL, "")}
	stChunkUntil = &statement{"g_chunk_until", fmt.Sprintf(chunkSQL, " AND key < $5::bytea")}
)

// records reads the beginning of a range: some keys, and not many more bytes than a chunk.
func (g *ground) records(ctx context.Context, shard engine.Shard, s span) (list []record, more bool, err error) {
	k := call{stChunk, []any{int64(shard), orEmpty(s.from), int64(moveKeys), int64(moveChunk)}}
	if s.to != nil {
		k = call{stChunkUntil, append(k.args, s.to)}
	}
	read, err := g.read(ctx, k)
	list = recordsOf(read)
	return list, len(list) == moveKeys || sizeOf(list) >= moveChunk, err
}

var stValues = &statement{"g_values", "SELECT key, value FROM kv WHERE shard = $1::bigint AND key = ANY($2::bytea[]) ORDER BY key"}

// values reads single keys, in order.
func (g *ground) values(ctx context.Context, shard engine.Shard, keys [][]byte) ([]record, error) {
	read, err := g.read(ctx, call{stValues, []any{int64(shard), keys}})
	return recordsOf(read), err
}

// entry tells the journal what a commit touched.
type entry struct {
	version, n int64
	key        []byte
	upto       []byte // nil: the key alone; empty: the end of the shard
}

func (e entry) span() span {
	if len(e.upto) == 0 {
		return span{from: e.key}
	}
	return span{e.key, e.upto}
}

var stJournal = &statement{"g_journal", "SELECT version, n, key, upto FROM journal WHERE shard = $1::bigint ORDER BY version, n LIMIT $2::bigint"}

// journal reads a batch of entries, the oldest first.
func (g *ground) journal(ctx context.Context, shard engine.Shard) (list []entry, err error) {
	read, err := g.read(ctx, call{stJournal, []any{int64(shard), int64(journalBatch)}})
	for _, r := range read {
		list = append(list, entry{number(r[0]), number(r[1]), r[2], r[3]})
	}
	return list, err
}

func (s span) empty() bool { return s.to != nil && bytes.Compare(s.from, s.to) >= 0 }

var stTell = &statement{"g_tell", `INSERT INTO journal (shard, version, n, key, upto)
SELECT n.shard, n.version, n.n, n.key, n.upto FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bytea[], $6::bytea[]) AS n(shard, token, version, n, key, upto)
JOIN shards AS s ON s.shard = n.shard AND s.token = n.token`}

// bindJournal tells the journals of shards that are being moved what commits touch.
func bindJournal(c *conn, commits []*commit) {
	type line struct {
		c *commit
		entry
	}
	var list []line
	for _, one := range commits {
		n := int64(0)
		add := func(key, upto []byte) {
			list = append(list, line{one, entry{one.from.version + 1, n, key, upto}})
			n++
		}
		for _, k := range one.keys {
			add(k, nil)
		}
		for _, sp := range one.spans {
			add(orEmpty(sp.from), orEmpty(sp.to))
		}
	}
	numbers := func(of func(line) int64) {
		c.array(typeBigint, len(list), func(i int) { c.int64(of(list[i])) })
	}
	c.bind(stTell, 6)
	numbers(func(l line) int64 { return int64(l.c.shard.id) })
	numbers(func(l line) int64 { return l.c.token })
	numbers(func(l line) int64 { return l.version })
	numbers(func(l line) int64 { return l.n })
	c.array(typeBytea, len(list), func(i int) { c.bytes(list[i].key) })
	c.array(typeBytea, len(list), func(i int) { c.bytes(list[i].upto) })
	c.execute()
}
