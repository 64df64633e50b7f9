package pebble

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
)

// BenchmarkDelivery is what taking in a message costs: a blob of 8 KB that does not
// compress, then an Update of five small records, on a real disk.
func BenchmarkDelivery(b *testing.B) {
	for _, shards := range []int{1, 50} {
		for _, writers := range []int{1, 10, 50} {
			b.Run(fmt.Sprintf("shards=%d/writers=%d", shards, writers), func(b *testing.B) {
				deliver(b, shards, writers)
			})
		}
	}
}

func deliver(b *testing.B, shards, writers int) {
	e := open(b, b.TempDir(), Options{FS: vfs.Default, Now: time.Now})
	body := make([]byte, 8<<10)
	_, _ = rand.Read(body)
	var next atomic.Uint64
	var wg sync.WaitGroup
	b.ResetTimer()
	for w := range writers {
		wg.Go(func() {
			for {
				n := next.Add(1)
				if n > uint64(b.N) {
					return
				}
				if err := deliverOne(e, engine.Shard(w%shards), n, body); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
}

func deliverOne(e *Engine, shard engine.Shard, n uint64, body []byte) error {
	ctx := context.Background()
	var name mail.BlobRef
	binary.LittleEndian.PutUint64(name[:], n*0x9e3779b97f4a7c15)
	if err := e.Blobs().Put(ctx, name, int64(len(body)), bytes.NewReader(body)); err != nil {
		return err
	}
	return e.Update(ctx, shard, func(w engine.Writer) error {
		for family := range byte(5) {
			if err := w.Put(engine.Key('a'+family, n), body[:200]); err != nil {
				return err
			}
		}
		return nil
	})
}

// BenchmarkRead is a random body of 8 KB, and a record, out of 20,000.
func BenchmarkRead(b *testing.B) {
	e := open(b, b.TempDir(), Options{FS: vfs.Default, Now: time.Now, MemTableBytes: 8 << 20})
	body := make([]byte, 8<<10)
	_, _ = rand.Read(body)
	const n = 20_000
	var wg sync.WaitGroup
	for w := range uint64(20) {
		wg.Go(func() {
			for i := w; i < n; i += 20 {
				if err := deliverOne(e, 1, i, body); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := e.db.Flush(); err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	b.Run("blob", func(b *testing.B) {
		for i := range uint64(b.N) {
			var name mail.BlobRef
			binary.LittleEndian.PutUint64(name[:], (i*7919%n)*0x9e3779b97f4a7c15)
			r, err := e.Blobs().Open(ctx, name, 0, -1)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, r); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("record", func(b *testing.B) {
		for i := range uint64(b.N) {
			err := e.View(ctx, 1, func(r engine.Reader) error {
				_, _, err := r.Get(engine.Key('c', i*7919%n))
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("records of one View", func(b *testing.B) {
		err := e.View(ctx, 1, func(r engine.Reader) error {
			for i := range uint64(b.N) {
				if _, _, err := r.Get(engine.Key('c', i*7919%n)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	})
	b.Run("scan of 20000", func(b *testing.B) {
		for range b.N {
			err := e.View(ctx, 1, func(r engine.Reader) error {
				return r.Scan([]byte{'c'}, []byte{'d'}, false, func(_, _ []byte) bool { return true })
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}
