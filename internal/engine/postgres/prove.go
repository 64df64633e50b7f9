package postgres

import (
	"context"
	"errors"
	"sync"

	"github.com/martlet-mail/martlet/internal/engine"
)

// proofs asks what the rows of shards say for all who want to know: what one statement
// says was true after each of them asked. While some are under way, the next gathers.
type proofs struct {
	mu      sync.Mutex
	next    *proof
	running int
}

// proof is one such statement.
type proof struct {
	ids   []engine.Shard
	index map[engine.Shard]int
	heads []head
	err   error
	done  chan struct{}
}

const provers = 2 // statements at a time

var errProof = errors.New("there was no answer in time")

// prove returns what the row of a shard says, at a moment after it was called. It makes one
// attempt, as long as the call is patient.
func (g *group) prove(ctx context.Context, r *retry, id engine.Shard) (head, error) {
	p, i, mine := g.proofs.join(id)
	if mine {
		g.work.Go(func() { g.runProofs(p) })
	}
	select {
	case <-p.done:
	default:
		rest := restOf(ctx)
		defer rest()
		select {
		case <-p.done:
		case <-ctx.Done():
			return head{}, ctx.Err()
		case <-r.limit():
			return head{}, r.ended(errProof)
		}
	}
	if p.err != nil {
		return head{}, p.err
	}
	return p.heads[i], nil
}

// join enters a shard into the next statement; mine tells that the caller is to run it.
func (ps *proofs) join(id engine.Shard) (p *proof, i int, mine bool) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.next == nil {
		ps.next = &proof{index: map[engine.Shard]int{}, done: make(chan struct{})}
	}
	p = ps.next
	i, there := p.index[id]
	if !there {
		i = len(p.ids)
		p.index[id] = i
		p.ids = append(p.ids, id)
	}
	if ps.running < provers {
		ps.running++
		ps.next = nil
		return p, i, true
	}
	return p, i, false
}

// runProofs runs a statement, and leaves those that have gathered meanwhile to another
// goroutine.
func (g *group) runProofs(p *proof) {
	g.proveAll(p)
	ps := &g.proofs
	ps.mu.Lock()
	next := ps.next
	ps.next = nil
	if next == nil {
		ps.running--
	}
	ps.mu.Unlock()
	if next != nil {
		g.work.Go(func() { g.runProofs(next) })
	}
}

// proveAll makes one attempt at a statement.
func (g *group) proveAll(p *proof) {
	defer close(p.done)
	g.stats.Proofs.Add(1)
	g.stats.Proven.Add(int64(len(p.ids)))
	p.heads = make([]head, len(p.ids))
	for i := range p.heads {
		p.heads[i].home = g.home
	}
	p.err = g.pool.once(g.life, nil, func(c *conn) { bindHeads(c, p.ids) }, func(_ int, row [][]byte) error {
		if i, ok := p.index[engine.Shard(number(row[0]))]; ok {
			p.heads[i] = headOf(row[1:])
		}
		return nil
	})
}

func bindHeads(c *conn, ids []engine.Shard) {
	c.bind(stHeads, 1)
	c.array(typeBigint, len(ids), func(i int) { c.int64(int64(ids[i])) })
	c.execute()
}
