package postgres

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
)

// BenchmarkMove moves an account of 200,000 records, 60 MB, to and fro while a client writes to
// it: go test -run - -bench BenchmarkMove -benchtime 4x.
func BenchmarkMove(b *testing.B) {
	usual := func(o *Options) { o.beat, o.tend, o.poll = 0, 0, 0 }
	nodes, _ := twoGroups(b, usual, usual)
	e := nodes[0]
	random := rand.New(rand.NewPCG(1, 1))
	const keys, at = 200_000, 2000
	for i := 0; i < keys; i += at {
		err := e.Update(b.Context(), acct, func(w engine.Writer) error {
			for j := range at {
				v := make([]byte, 100+random.IntN(400))
				for k := range v {
					v[k] = byte(random.Uint32())
				}
				if err := w.Put(fmt.Appendf(nil, "f%08d", i+j), v); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	ctx := b.Context()
	stop := make(chan struct{})
	var longest time.Duration
	var client sync.WaitGroup
	client.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			begun := time.Now()
			err := nodes[1].Update(ctx, acct, func(w engine.Writer) error {
				return w.Put(fmt.Appendf(nil, "f%08d", n*7919%keys), []byte("flags"))
			})
			if err != nil {
				b.Error(err)
			}
			longest = max(longest, time.Since(begun))
		}
	})
	names := []string{HomeGroup, "second"}
	var frozen time.Duration
	var size, journal, compared int64
	b.ResetTimer()
	for i := range b.N {
		err := e.Move(ctx, acct, names[1-i%2], func(p MoveProgress) {
			if p.Step == "done" {
				frozen, size, journal, compared = max(frozen, p.Frozen), size+p.BytesTotal, journal+p.Journal, compared+p.Compared
			}
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	close(stop)
	client.Wait()
	b.ReportMetric(float64(frozen.Microseconds())/1000, "frozen-ms")
	b.ReportMetric(float64(longest.Microseconds())/1000, "longest-update-ms")
	b.ReportMetric(float64(size)/1e6/b.Elapsed().Seconds(), "MB/s")
	b.ReportMetric(float64(journal)/float64(b.N), "journal/op")
	b.ReportMetric(float64(compared)/float64(b.N), "compared/op")
}
