package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	crand "crypto/rand"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/enginetest"
	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
	"github.com/martlet-mail/martlet/internal/engine/s3"
	"github.com/martlet-mail/martlet/internal/engine/s3/s3test"
)

func testBucket(t testing.TB, url, prefix string) *s3.Bucket {
	t.Helper()
	b, err := s3.Open(s3.Options{
		Endpoint: url, Region: s3test.Region, Bucket: s3test.Bucket, Prefix: prefix, AccessKey: s3test.AccessKey, SecretKey: s3test.SecretKey,
		Patience: 20 * time.Second, Stall: 10 * time.Second,
		Dial: s3test.Dial, Now: time.Now, Rand: rand.Float64, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// openEngine opens an engine on a database, which may have been opened before.
func openBlobs(t testing.TB, opt Options) *Engine {
	t.Helper()
	if opt.URL == "" {
		opt.URL = pgtest.Shared(t)
	}
	opt.Rand = crand.Reader
	e, err := Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// sql runs statements beside the engine.
func (e *Engine) sql(t testing.TB, statements ...string) {
	t.Helper()
	c, err := e.member(0).pool.dial(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer c.wire.Close()
	errs, err := c.script(10*time.Second, statements...)
	if err := errors.Join(append(errs, err)...); err != nil {
		t.Fatal(err)
	}
}

// TestBlobContract: the contract of blobs, with bytes in rows, in pieces and in objects.
func TestBlobContract(t *testing.T) {
	s := s3test.Start(t)
	n := 0
	for _, c := range []struct {
		name    string
		over    int64
		objects func(t *testing.T) Objects
	}{
		{"rows", 10 << 20, nil},
		{"pieces", 1, nil},
		{"pieces of large ones", 64 << 10, nil},
		{"objects", 1, func(t *testing.T) Objects { return testBucket(t, s.URL(), fmt.Sprintf("%d/", n)) }},
		{"objects in a cache", 1, func(t *testing.T) Objects {
			c, err := s3.Cached(testBucket(t, s.URL(), fmt.Sprintf("%d/", n)), vfs.NewMem(), "cache", 64<<20, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			return c
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			enginetest.Blobs(t, enginetest.Harness{Open: func(t *testing.T, now func() time.Time) engine.Engine {
				n++
				opt := Options{Now: now, Over: c.over}
				if c.objects != nil {
					opt.Objects = c.objects(t)
				}
				return openBlobs(t, opt)
			}})
		})
	}
}

// harmed changes a file; nil removes it.
func harmed(t *testing.T, file string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if b = change(b); b == nil {
		err = os.Remove(file)
	} else {
		err = os.WriteFile(file, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
