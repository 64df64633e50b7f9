package postgres

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
	"github.com/martlet-mail/martlet/internal/engine/s3/s3test"
	"github.com/martlet-mail/martlet/internal/fault"
)

// TestBlobKilled: the database and the object store are killed and frozen while blobs are put and
// deleted. What was acknowledged is there, byte for byte; what was deleted is gone; calls under way
// wait, and go on.
func TestBlobKilled(t *testing.T) {
	server, store := pgtest.Start(t, pgtest.Options{}), s3test.Start(t)
	e := openBlobs(t, Options{URL: server.TCP(), Over: 1000, Objects: testBucket(t, store.URL(), "k/"), statement: time.Second})
	size := func(i int) int { return 500 * (i % 5) }
	var puts atomic.Int64
	var mu sync.Mutex
	gone := map[int]bool{}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := g; ; i += 4 {
				select {
				case <-stop:
					return
				default:
				}
				data := blobBody(i, size(i))
				if err := e.Blobs().Put(t.Context(), blobNamed(i), int64(len(data)), bytes.NewReader(data)); err != nil {
					t.Errorf("put %d: %v", i, err)
					return
				}
				if i%7 == 0 {
					// Its answer may be lost, and then it says that it found nothing.
					if _, err := e.Blobs().Delete(t.Context(), blobNamed(i), time.Now().Add(time.Hour)); err != nil {
						t.Errorf("delete %d: %v", i, err)
					}
					mu.Lock()
					gone[i] = true
					mu.Unlock()
				}
				puts.Add(1)
			}
		})
	}
	more := func() {
		for enough := puts.Load() + 25; puts.Load() < enough && !t.Failed(); {
			time.Sleep(time.Millisecond)
		}
	}
	for range 2 {
		more()
		server.Kill()
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		more()
		store.Kill()
		if err := store.Start(); err != nil {
			t.Fatal(err)
		}
		more()
		server.Freeze()
		time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
		server.Thaw()
		store.Freeze()
		time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
		store.Thaw()
	}
	more()
	close(stop)
	wg.Wait()
	if t.Failed() {
		return
	}
	for i := range gone {
		_, err := readBlob(t.Context(), e, i)
		wantKind(t, "deleted", err, fault.NotFound)
	}
	checked := 0
	for i := range 4 * int(puts.Load()) {
		if gone[i] {
			continue
		}
		got, err := readBlob(t.Context(), e, i)
		if fault.Is(err, fault.NotFound) {
			continue // counted below
		}
		if checked++; err != nil || !bytes.Equal(got, blobBody(i, size(i))) {
			t.Errorf("blob %d: %d bytes, %v", i, len(got), err)
		}
	}
	if want := int(puts.Load()) - len(gone); checked != want {
		t.Errorf("%d blobs are there, %d were acknowledged", checked, want)
	}
	t.Logf("%d puts, %d deletions, %d connections", puts.Load(), len(gone), e.stats.Connects.Load())
}
