package postgres

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
)

// delivery writes what a delivery does: an account's and a mailbox's record, a page, marks, a
// line of the log, facts and a header of a new message.
func delivery(w engine.Writer, n uint64) error {
	for _, k := range [][]byte{{1}, engine.Key(2, 1), engine.Key(3, 1, n/64), engine.Key(4, 1, n/256)} {
		if _, _, err := w.Get(k); err != nil {
			return err
		}
		if err := w.Put(k, bytes.Repeat([]byte{byte(n)}, 300)); err != nil {
			return err
		}
	}
	if err := w.Put(engine.Key(5, 1, n), make([]byte, 20)); err != nil {
		return err
	}
	if err := w.Put(engine.Key(6, n), make([]byte, 600)); err != nil {
		return err
	}
	return w.Put(engine.Key(7, n), make([]byte, 900))
}

func benchmark(b *testing.B, writers int, shardOf func(i int) engine.Shard) {
	opt := options(pgtest.Shared(b))
	opt.Connections = 16
	e := open(b, opt)
	ctx := context.Background()
	var wg sync.WaitGroup
	var next atomic.Int64
	for i := range writers { // warm
		wg.Go(func() {
			_ = e.Update(ctx, shardOf(i), func(w engine.Writer) error { return w.DeleteRange(nil, nil) })
		})
	}
	wg.Wait()
	loads, connects := e.stats.Loads.Load(), e.stats.Connects.Load()
	server := pgtest.SharedServer(b)
	work := server.Work()
	b.ResetTimer()
	for i := range writers {
		wg.Go(func() {
			for {
				n := next.Add(1)
				if n > int64(b.N) {
					return
				}
				if err := e.Update(ctx, shardOf(i), func(w engine.Writer) error { return delivery(w, uint64(n)) }); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "updates/s")
	b.ReportMetric(float64((server.Work()-work).Microseconds())/float64(b.N), "server-µs/op")
	b.ReportMetric(float64(e.stats.Loads.Load()-loads)/float64(b.N), "loads/op")
	b.ReportMetric(float64(e.stats.Connects.Load()-connects), "connects")
	b.ReportMetric(float64(e.stats.Reads.Load())/float64(b.N), "reads/op")
}

func BenchmarkDeliveries(b *testing.B) {
	for _, bench := range []struct {
		name    string
		writers int
		shards  int
	}{{"1", 1, 1}, {"10on10", 10, 10}, {"50on50", 50, 50}, {"50on1", 50, 1}} {
		b.Run(bench.name, func(b *testing.B) {
			benchmark(b, bench.writers, func(i int) engine.Shard { return engine.Shard(i%bench.shards + 1) })
		})
	}
}

func BenchmarkViews(b *testing.B) {
	e := open(b, options(pgtest.Shared(b)))
	ctx := context.Background()
	for i := range 50 {
		if err := e.Update(ctx, engine.Shard(i), func(w engine.Writer) error { return delivery(w, 1) }); err != nil {
			b.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	var next atomic.Int64
	b.ResetTimer()
	for i := range 50 {
		wg.Go(func() {
			for next.Add(1) <= int64(b.N) {
				err := e.View(ctx, engine.Shard(i), func(r engine.Reader) error {
					_, _, err := r.Get([]byte{1})
					return err
				})
				if err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "views/s")
}
