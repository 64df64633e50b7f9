package postgres

import (
	"context"
	"fmt"
	"sync"
	"testing"

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
}

// Without their order they do.
func TestOrderControl(t *testing.T) {
	url := pgtest.Shared(t)
	var given int64
	for i := 0; i < 60 && given == 0; i++ { // it takes chance
		t.Run("", func(t *testing.T) {
			given = entangled(t, url, engine.Shard(7400+100*i), func(w *without) { w.order = true })
		})
	}
	if given > 0 {
		return
	}
	t.Error("nothing was given up without an order either: the test proves nothing")
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
