package postgres

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// load is what goes to the database in one transaction: the commits of one or more shards,
// each of which happens if its shard is in the state it is to follow.
type load struct {
	commits []*commit
	puts    []put
	deletes []put
	olds    []*commit // of shards that have been written
	firsts  []*commit // of others
	cuts    int
	told    []*commit // of shards whose journal is to hear of it
	size    int
	lost    bool // something that was written is not known any more
}

// put is a record that a commit writes, or deletes.
type put struct {
	c   *commit
	rec record
}

// written returns the shard as it is afterwards, as nobody changes it: what is read meanwhile is
// noted in the commit's own tree.
func (c *commit) written() *tree {
	c.shard.mu.Lock()
	defer c.shard.mu.Unlock()
	return c.tree.copy()
}

func pack(commits []*commit) *load {
	// In order, so that two nodes do not wait for each other.
	slices.SortFunc(commits, func(a, b *commit) int { return cmp.Compare(a.shard.id, b.shard.id) })
	l := &load{commits: commits}
	for _, c := range commits {
		c.keys = sorted(c.keys)
		c.next = trail(c.token, c.touched, c.recent)
		t := c.written()
		for _, k := range c.keys {
			value, what := t.get(k)
			l.size += len(k) + len(value)
			switch what {
			case present:
				l.puts = append(l.puts, put{c, record{k, value}})
			case absent:
				l.deletes = append(l.deletes, put{c, record{k, nil}})
			default:
				l.lost = true // what was written is known, or we are wrong
			}
		}
		l.cuts += len(c.spans)
		if c.state == stateJournal {
			l.told = append(l.told, c)
		}
		if c.from.version == 0 {
			l.firsts = append(l.firsts, c)
		} else {
			l.olds = append(l.olds, c)
		}
	}
	return l
}

// send carries commits to the database over a connection, gives that back, and ends them.
func (g *group) send(commits []*commit, c *conn) {
	row := commits[0].row
	l := pack(commits)
	if l.lost {
		if row != nil {
			row.unlock()
		} else {
			g.pool.give(g.pool.short, c)
		}
		for _, one := range commits {
			g.complete(one, errForgotten)
		}
		return
	}
	done, err := g.transact(c, l)
	if row != nil {
		row.end()
	} else {
		g.pool.give(g.pool.short, c)
	}
	switch {
	case leavesOpen(err):
		for _, one := range commits {
			g.work.Go(func() { g.settle(one) })
		}
	case err != nil:
		g.refuse(commits, err)
	default:
		for _, one := range commits {
			if done[one] {
				g.complete(one, nil)
				continue
			}
			g.stats.Clashes.Add(1)
			g.complete(one, errAgain)
		}
	}
}

// sendLocked sends a commit under the lock of its row.
func (g *group) sendLocked(c *commit) {
	if c.row.c.broken != nil {
		c.row.end()
		g.refuse([]*commit{c}, errUnsent)
		return
	}
	g.send([]*commit{c}, c.row.c)
}

// vehicle returns a connection for commits.
func (g *group) vehicle() (*conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*connectTimeout)
	defer cancel()
	return g.pool.take(ctx, nil, g.pool.short)
}

var errForgotten = fault.New(fault.Internal, "a change was lost before it was sent")

var errUnsent = errors.New("the change was not sent")

// refuse ends commits that the database did not take. What may be the fault of one of them
// is not laid on all.
func (g *group) refuse(commits []*commit, err error) {
	var r *refusal
	if errors.As(err, &r) && strings.HasPrefix(r.code, "40") {
		g.stats.Serialization.Add(1)
		err = errAgain
	}
	if errors.As(err, &r) && !passes(err) && len(commits) > 1 {
		for _, one := range commits {
			one.alone = true
			g.outbox.add(g, one)
		}
		return
	}
	if errors.As(err, &r) && !passes(err) {
		kind := fault.Internal
		if strings.HasPrefix(r.code, "53") {
			kind = fault.Unavailable
		}
		err = fault.Wrap(kind, "the database has refused the change", err)
	}
	for _, one := range commits {
		g.complete(one, err)
	}
}

// transact carries out the transaction in one round trip. It tells which commits have
// happened, if there is no error.
func (g *group) transact(c *conn, l *load) (map[*commit]bool, error) {
	held := l.commits[0].row != nil
	single := l.cuts == 0 && len(l.deletes) == 0 && len(l.firsts) == 0 && len(l.told) == 0 && len(l.puts) > 0 && !held
	guards := [2]int{-1, -1}
	if g.opt.without.order && l.commits[0].token%2 == 0 {
		slices.Reverse(l.olds)
	}
	if single {
		guards[0] = 0
		g.bindGuardedPut(c, l)
	} else {
		guards = g.bindSteps(c, l, held)
	}
	g.stats.Loads.Add(1)
	limit := g.opt.statement + time.Duration(l.size/(1<<20))*time.Second
	byShard := map[int64]*commit{}
	for _, one := range l.commits {
		byShard[int64(one.shard.id)] = one
	}
	done := make(map[*commit]bool, len(l.commits))
	c.alive = g.pool.watchful(c)
	defer func() { c.alive = nil }()
	sent := time.Now()
	_, err := c.run(limit, func(i int, row [][]byte) error {
		if i == guards[0] || i == guards[1] {
			if one := byShard[number(row[0])]; one != nil {
				done[one] = true
			}
		}
		return nil
	})
	if err == nil && c.warned {
		err = g.vouch(c)
	}
	if err == nil && len(done) > 0 {
		g.pool.surety.confirmed(c.age, sent)
	}
	g.pool.failing(c, err)
	if g.opt.without.guard && err == nil {
		for _, one := range l.commits {
			done[one] = true
		}
	}
	return done, err
}

// vouch makes durable what the server has committed without its replica: by another commit,
// which waits for it.
func (g *group) vouch(c *conn) error {
	g.stats.Vouched.Add(1)
	g.pool.fence(c, c.slot)
	_, err := c.run(g.opt.statement, nil)
	if err != nil || c.warned {
		return c.breaks(errors.New("the wait for the replica was cancelled"))
	}
	return nil
}

func (g *group) bindSteps(c *conn, l *load, held bool) (guards [2]int) {
	guards = [2]int{-1, -1}
	n := 0
	simple := func(st *statement) { c.bind(st, 0); c.execute(); n++ }
	if !held {
		simple(stBegin)
	}
	// Before the others: who adds a row waits for whoever changes it, if another has added it
	// meanwhile, and that one may wait for a row that was added here.
	if len(l.firsts) > 0 {
		guards[1] = n
		g.bindFirst(c, l.firsts)
		n++
	}
	if len(l.olds) > 0 {
		guards[0] = n
		st := stGuards
		if held || g.opt.without.order {
			st = stGuard
		}
		g.bindGuard(c, st, 7, l.olds)
		c.execute()
		n++
	}
	for _, one := range l.commits {
		for _, sp := range one.spans {
			bindCut(c, one, sp)
			n++
		}
	}
	if len(l.told) > 0 {
		bindJournal(c, l.told)
		n++
	}
	if len(l.deletes) > 0 {
		c.bind(stDelete, 3)
		bindKeys(c, l.deletes, true)
		c.execute()
		n++
	}
	if len(l.puts) > 0 {
		c.bind(stPut, 4)
		bindKeys(c, l.puts, true)
		c.array(typeBytea, len(l.puts), func(i int) { c.bytes(l.puts[i].rec.value) })
		c.execute()
	}
	simple(stCommit)
	return guards
}

func (g *group) bindGuardedPut(c *conn, l *load) {
	st := stGuardedPuts
	if g.opt.without.order {
		st = stGuardedPut
	}
	g.bindGuard(c, st, 10, l.olds)
	bindKeys(c, l.puts, false)
	c.array(typeBytea, len(l.puts), func(i int) { c.bytes(l.puts[i].rec.value) })
	c.execute()
}

func (g *group) bindGuard(c *conn, st *statement, params int, list []*commit) {
	numbers := func(of func(*commit) int64) {
		c.array(typeBigint, len(list), func(i int) { c.int64(of(list[i])) })
	}
	c.bind(st, params)
	numbers(func(one *commit) int64 { return int64(one.shard.id) })
	numbers(func(one *commit) int64 { return one.from.epoch })
	numbers(func(one *commit) int64 { return one.from.version })
	numbers(func(one *commit) int64 { return one.from.token })
	numbers(func(one *commit) int64 { return one.token })
	c.array(typeBytea, len(list), func(i int) { c.bytes(list[i].next) })
	c.int64(g.home)
}

func (g *group) bindFirst(c *conn, list []*commit) {
	c.bind(stFirst, 4)
	c.array(typeBigint, len(list), func(i int) { c.int64(int64(list[i].shard.id)) })
	c.array(typeBigint, len(list), func(i int) { c.int64(list[i].token) })
	c.array(typeBytea, len(list), func(i int) { c.bytes(list[i].next) })
	c.int64(g.home)
	c.execute()
}

func bindCut(c *conn, one *commit, sp span) {
	c.bind(stCut, 4)
	c.int64(int64(one.shard.id))
	c.bytes(sp.from)
	if sp.to == nil {
		c.bytes(beyond)
	} else {
		c.bytes(sp.to)
	}
	c.int64(one.token)
	c.execute()
}

func bindKeys(c *conn, list []put, tokens bool) {
	c.array(typeBigint, len(list), func(i int) { c.int64(int64(list[i].c.shard.id)) })
	if tokens {
		c.array(typeBigint, len(list), func(i int) { c.int64(list[i].c.token) })
	}
	c.array(typeBytea, len(list), func(i int) { c.bytes(list[i].rec.key) })
}
