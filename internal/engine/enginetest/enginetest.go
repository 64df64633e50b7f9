// Package enginetest is the contract of package engine as one exported test: Run
// checks an engine against the promises, and against a simple model under random
// operations.
//
// It does not cut the power and does not break disks: that needs means of its own
// for each engine, whose package tests it.
package enginetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Harness opens the engine under test. Each engine is closed at the end of its
// test; Close must therefore bear being called twice.
type Harness struct {
	// Open opens an empty engine. now is the clock for the times of blobs.
	Open func(t *testing.T, now func() time.Time) engine.Engine

	// Reopen closes e and opens the same data again. If nil, what needs it is
	// left out.
	Reopen func(t *testing.T, e engine.Engine) engine.Engine

	// Runs is the number of runs of the random test; 0 is all that rapid asks for.
	Runs int

	// Hold opens an empty engine whose commits do not become durable between a
	// call of hold and the call of release that follows. If nil, what needs it is
	// left out.
	Hold func(t *testing.T) (e engine.Engine, hold, release func())

	// Early tells that a View may see a change before it is durable, and then waits. With
	// an engine where it may not, it sees the shard as it was.
	Early bool

	// Several tells that calls go to several processes in turn, which do not wait for each
	// other's functions.
	Several bool
}

// Run checks the engine against the contract.
func Run(t *testing.T, h Harness) {
	run(t, h, []part{
		{"PutGetDelete", testPutGetDelete},
		{"Scan", testScan},
		{"DeleteRange", testDeleteRange},
		{"OwnWrites", testOwnWrites},
		{"Limits", testLimits},
		{"Atomic", testAtomic},
		{"Exclusive", testExclusive},
		{"Snapshot", testSnapshot},
		{"ShardsApart", testShardsApart},
		{"Shards", testShards},
		{"Context", testContext},
		{"Watch", testWatch},
		{"Held", testHeld},
		{"Reopen", testReopen},
		{"Closed", testClosed},
		{"Random", testRandom},
	})
	Blobs(t, h)
}

// Blobs checks what concerns blobs: for engines that can keep them in several ways.
func Blobs(t *testing.T, h Harness) {
	run(t, h, []part{
		{"Blobs", testBlobs},
		{"BlobErrors", testBlobErrors},
		{"BlobTimes", testBlobTimes},
		{"BlobList", testBlobList},
		{"BlobNeeds", testBlobNeeds},
		{"BlobRace", testBlobRace},
	})
}

type part struct {
	name string
	run  func(*testing.T, Harness)
}

func run(t *testing.T, h Harness, parts []part) {
	for _, p := range parts {
		t.Run(p.name, func(t *testing.T) { p.run(t, h) })
	}
}

// clock is a clock that the test sets.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func open(t *testing.T, h Harness) engine.Engine {
	t.Helper()
	return closing(t, h.Open(t, newClock().now))
}

func closing(t *testing.T, e engine.Engine) engine.Engine {
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return e
}

// update runs an Update that must succeed.
func update(t *testing.T, e engine.Engine, shard engine.Shard, fn func(w engine.Writer) error) {
	t.Helper()
	if err := e.Update(t.Context(), shard, fn); err != nil {
		t.Fatalf("update: %v", err)
	}
}

func put(t *testing.T, e engine.Engine, shard engine.Shard, pairs ...string) {
	t.Helper()
	update(t, e, shard, func(w engine.Writer) error {
		for i := 0; i < len(pairs); i += 2 {
			if err := w.Put([]byte(pairs[i]), []byte(pairs[i+1])); err != nil {
				return err
			}
		}
		return nil
	})
}

// all returns the whole shard as "key=value" in order.
func all(t *testing.T, e engine.Engine, shard engine.Shard) []string {
	t.Helper()
	var got []string
	err := e.View(t.Context(), shard, func(r engine.Reader) (err error) {
		got, err = scan(r, nil, nil, false)
		return err
	})
	if err != nil {
		t.Fatalf("view: %v", err)
	}
	return got
}

func scan(r engine.Reader, from, to []byte, reverse bool) (got []string, err error) {
	err = r.Scan(from, to, reverse, func(k, v []byte) bool {
		got = append(got, string(k)+"="+string(v))
		return true
	})
	return got, err
}

func want(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func wantKind(t *testing.T, what string, err error, kind fault.Kind) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Errorf("%s: got %v, want a fault of kind %v", what, err, kind)
	}
}

func blobName(n int) mail.BlobRef {
	var name mail.BlobRef
	copy(name[:], fmt.Sprintf("%08x", n))
	name[31] = byte(n)
	return name
}

// body returns size bytes that differ from piece to piece.
func body(seed, size int) []byte {
	b := make([]byte, size)
	x := uint32(seed)*2654435761 + 1
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

func putBlob(t *testing.T, e engine.Engine, name mail.BlobRef, data []byte) {
	t.Helper()
	if err := e.Blobs().Put(t.Context(), name, int64(len(data)), bytes.NewReader(data)); err != nil {
		t.Fatalf("put blob: %v", err)
	}
}

func readBlob(ctx context.Context, e engine.Engine, name mail.BlobRef, off, n int64) ([]byte, error) {
	r, err := e.Blobs().Open(ctx, name, off, n)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	if closing := r.Close(); err == nil {
		err = closing
	}
	return data, err
}
