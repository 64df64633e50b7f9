package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/postgres"
	"github.com/martlet-mail/martlet/internal/engine/s3"
	"github.com/martlet-mail/martlet/internal/fault"
)

// openObjects opens the object store for large bodies; nil if they are in the database. A
// server has a cache of it on its own disk.
func (h *house) openObjects(patience time.Duration) (postgres.Objects, error) {
	b := h.cfg.Blobs
	if b.Engine != "s3" {
		return nil, nil
	}
	roots, _, err := authorities(b.CA)
	if err != nil {
		return nil, misconfigured(err)
	}
	bucket, err := s3.Open(s3.Options{
		Endpoint: b.Endpoint, Region: b.Region, Bucket: b.Bucket, Prefix: b.Prefix, AccessKey: b.AccessKey, SecretKey: b.SecretKey,
		Roots: roots, Patience: patience, Dial: new(net.Dialer).DialContext, Now: time.Now, Rand: rand.Float64, Log: h.log,
	})
	if err != nil {
		return nil, misconfigured(err)
	}
	h.bucket = bucket
	if b.Cache == 0 || !h.serving {
		h.giveBack = append(h.giveBack, func() { _ = bucket.Close() })
		return bucket, nil
	}
	cache, err := s3.Cached(bucket, vfs.Default, filepath.Join(string(h.cfg.Data), "objects"), int64(b.Cache), h.log)
	if err != nil {
		return nil, errors.Join(err, bucket.Close())
	}
	h.cache = cache
	h.giveBack = append(h.giveBack, func() { _ = cache.Close(); _ = bucket.Close() })
	return cache, nil
}

// sweepOrphans removes what killed nodes have left of bodies: bytes that no record names.
func (h *house) sweepOrphans(ctx context.Context) {
	e, ok := h.engine.(*postgres.Engine)
	if !ok {
		return
	}
	began := time.Now()
	gone, err := e.Orphans(ctx)
	if err != nil {
		h.log.Warn("what is left of bodies cannot be swept; it is tried again tomorrow", "err", err)
		return
	}
	h.log.Info("swept what was left of bodies", "uploads", gone.Uploads, "removed", gone.Removed, "bytes", gone.Bytes, "parts", gone.Parts, "took", time.Since(began).Round(time.Millisecond))
}

// objectsFacts are what a look at an object store tells. Its JSON is public interface.
type objectsFacts struct {
	Endpoint  string  `json:"endpoint"`
	Bucket    string  `json:"bucket"`
	Reachable bool    `json:"reachable"`
	LatencyMS float64 `json:"latency_ms,omitempty"` // of a small list
	Problem   string  `json:"problem,omitempty"`
}

// tryObjects does with an object of its own all that a server must be allowed to do with objects.
func (h *house) tryObjects(ctx context.Context) error {
	if h.bucket == nil {
		return nil
	}
	return h.bucket.Check(engine.Patient(ctx, lookWait), "doctor/"+connectionID()+connectionID())
}

// lookAtObjects looks at the object store; nil if there is none.
func (h *house) lookAtObjects(ctx context.Context) *objectsFacts {
	if h.bucket == nil {
		return nil
	}
	f := &objectsFacts{Endpoint: h.cfg.Blobs.Endpoint, Bucket: h.cfg.Blobs.Bucket}
	ctx, cancel := context.WithTimeout(ctx, lookWait)
	defer cancel()
	began := time.Now()
	// Nobody's: what counts is that the bucket answers, and takes our key for right.
	err := h.bucket.List(ctx, "look/", func(string, time.Time, int64) bool { return false })
	f.Reachable = err == nil
	switch {
	case err == nil:
		f.LatencyMS = float64(time.Since(began).Microseconds()) / 1000
	case ctx.Err() != nil:
		f.Problem = "it does not answer within " + lookWait.String()
	default:
		f.Problem = fault.Say(err)
	}
	return f
}
