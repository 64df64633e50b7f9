package postgres

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
)

// TestOrder: two nodes that write to the same shards, many together, do not wait for each
// other in a circle, which the database would have to break after a second each time.
func TestOrder(t *testing.T) {
	url := pgtest.Shared(t)
	if n := entangled(t, url, 7300, func(*without) {}); n != 0 {
		t.Errorf("%d transactions were given up", n)
	}
	for i := range 3 {
		if n := knotted(t, url, engine.Shard(7600+100*i), func(*without) {}); n != 0 {
			t.Errorf("%d transactions were given up where both come to a row that is held", n)
		}
	}
}

// Without their order they do.
func TestOrderControl(t *testing.T) {
	url := pgtest.Shared(t)
	var given int64
	for i := 0; i < 40 && given == 0; i++ { // the two go in different directions every other time
		t.Run("", func(t *testing.T) {
			given = knotted(t, url, engine.Shard(8000+100*i), func(w *without) { w.order = true })
		})
	}
	if given == 0 {
		t.Error("nothing was given up without an order either: the test proves nothing")
	}
}

// knotted has two nodes write to the same shards, each to all of them in one transaction, while
// the row in the middle is held until both have come to it. It returns how many transactions the
// database has given up.
func knotted(t *testing.T, url string, first engine.Shard, off func(*without)) (given int64) {
	const shards = 12
	opt := options(url + " deadlock_timeout=100ms")
	off(&opt.without)
	nodes := []*Engine{open(t, opt), open(t, opt)}
	for at := range engine.Shard(shards) {
		putAll(t, nodes[0], first+at, "k", "")
		content(t, nodes[1], first+at)
	}
	p := nodes[0].member(0).pool
	held, err := p.take(t.Context(), nil, p.long)
	if err != nil {
		t.Fatal(err)
	}
	held.call(stBegin, nil)
	held.call(stLock, []any{int64(first + shards/2)})
	if _, err := held.run(time.Second*10, nil); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, e := range nodes {
		o := &e.member(0).outbox
		stopCarriers(o)
		for at := range engine.Shard(shards) {
			wg.Go(func() { putAll(t, e, first+at, fmt.Sprint(e == nodes[0]), "x") })
		}
		var load []*commit
		for len(load) < shards {
			time.Sleep(time.Millisecond)
			o.mu.Lock()
			load = append(load, o.list...)
			o.list, o.running = nil, carriers*int(b2i(len(load) < shards))
			o.mu.Unlock()
		}
		c, err := e.member(0).vehicle()
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { e.member(0).send(load, c) })
	}
	time.Sleep(100 * time.Millisecond) // for both to come to the row that is held
	held.call(stRollback, nil)
	if _, err := held.run(time.Second*10, nil); err != nil {
		t.Fatal(err)
	}
	p.give(p.long, held)
	wg.Wait()
	for at := range engine.Shard(shards) {
		if got := content(t, nodes[0], first+at); len(got) != 3 {
			t.Errorf("%q", got)
		}
	}
	return nodes[0].Stats().Serialization.Load() + nodes[1].Stats().Serialization.Load()
}

// entangled has two nodes write to shards of their own order, many a time, and returns how many transactions
// the database has given up.
func entangled(t *testing.T, url string, first engine.Shard, off func(*without)) (given int64) {
	ctx := context.Background()
	const shards, writers, rounds = 12, 48, 12
	opt := options(url)
	off(&opt.without)
	nodes := []*Engine{open(t, opt), open(t, opt)}
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			e := nodes[i%2]
			for n := range rounds {
				at := (i*7 + n*5) % shards
				if i%2 == 1 {
					at = shards - 1 - at
				}
				err := e.Update(ctx, first+engine.Shard(at), func(w engine.Writer) error {
					if n%4 == 3 { // some are not puts alone
						if err := w.Delete([]byte("gone")); err != nil {
							return err
						}
					}
					return w.Put(fmt.Appendf(nil, "%d-%d", i, n), []byte("x"))
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	total := 0
	for at := range shards {
		err := nodes[0].View(ctx, first+engine.Shard(at), func(r engine.Reader) error {
			n := 0
			err := r.Scan([]byte("0"), []byte("a"), false, func(_, _ []byte) bool { n++; return true })
			total += n
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if total != writers*rounds {
		t.Errorf("%d of %d are there", total, writers*rounds)
	}
	for _, e := range nodes {
		given += e.Stats().Serialization.Load()
	}
	return given
}
