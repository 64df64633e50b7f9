package postgres

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
)

// TestReadBesideCommit: what is learnt while a commit is on its way does not disturb the commit,
// which is being written down from what is known. With -race it shows whether anything is shared.
func TestReadBesideCommit(t *testing.T) {
	ctx, url := context.Background(), pgtest.Shared(t)
	const shard, rounds = engine.Shard(7200), 300
	a, b := open(t, options(url)), open(t, options(url))
	err := b.Update(ctx, shard, func(w engine.Writer) error {
		for i := range rounds {
			if err := w.Put(fmt.Appendf(nil, "old-%04d", i), []byte("there")); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for k := range 3 {
		wg.Go(func() {
			for i := k; i < rounds; i += 3 {
				err := a.View(ctx, shard, func(r engine.Reader) error {
					v, ok, err := r.Get(fmt.Appendf(nil, "old-%04d", i))
					if err == nil && (!ok || string(v) != "there") {
						err = fmt.Errorf("old-%04d is %q", i, v)
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for k := range 3 {
		wg.Go(func() {
			for i := range rounds / 6 {
				err := a.Update(ctx, shard, func(w engine.Writer) error {
					for j := range 8 {
						if err := w.Put(fmt.Appendf(nil, "new-%d-%d-%d", k, i, j), []byte("mine")); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	n := 0
	err = b.View(ctx, shard, func(r engine.Reader) error {
		n = 0
		return r.Scan([]byte("new-"), []byte("new."), false, func(_, _ []byte) bool { n++; return true })
	})
	if want := 3 * (rounds / 6) * 8; err != nil || n != want {
		t.Errorf("%d records of %d are there: %v", n, want, err)
	}
}
