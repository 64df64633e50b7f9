package enginetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// endOfTime is a time after which nothing was put.
var endOfTime = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

func testBlobs(t *testing.T, h Harness) {
	e, random := open(t, h), rand.New(rand.NewPCG(1, 2))
	for i, size := range []int{0, 1, 100, 65_531, 65_532, 65_533, 65_536, 131_064, 600_000, 3_000_000} {
		data := body(i, size)
		name := blobName(i)
		putBlob(t, e, name, data)
		ranges := [][2]int64{{0, -1}, {0, int64(size)}, {int64(size), -1}, {int64(size), 0}, {0, 0}}
		for range 10 {
			off := random.Int64N(int64(size) + 1)
			ranges = append(ranges, [2]int64{off, random.Int64N(int64(size) - off + 1)}, [2]int64{off, -1})
		}
		for _, r := range ranges {
			expect := data[r[0]:]
			if r[1] >= 0 {
				expect = expect[:r[1]]
			}
			got, err := readBlob(t.Context(), e, name, r[0], r[1])
			if err != nil || !bytes.Equal(got, expect) {
				t.Errorf("size %d, range %v: %d bytes, %v", size, r, len(got), err)
			}
		}
	}
	testSmallReads(t, e, blobName(9), body(9, 3_000_000)[60_000:70_000])
}

// testSmallReads reads across the border of a piece in small steps.
func testSmallReads(t *testing.T, e engine.Engine, name mail.BlobRef, expect []byte) {
	r, err := e.Blobs().Open(t.Context(), name, 60_000, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	var got []byte
	p := make([]byte, 7)
	for {
		n, err := r.Read(p)
		got = append(got, p[:n]...)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, expect) {
		t.Error("small reads differ")
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if n, err := r.Read(p); n > 0 || err == nil {
		t.Errorf("a closed reader gave %d bytes, %v", n, err)
	}
}

func testBlobErrors(t *testing.T, h Harness) {
	e := open(t, h)
	ctx := t.Context()
	name := blobName(1)
	_, err := e.Blobs().Open(ctx, name, 0, -1)
	wantKind(t, "missing", err, fault.NotFound)
	ok, err := e.Blobs().Delete(ctx, name, endOfTime)
	if ok || err != nil {
		t.Errorf("delete of a missing blob: %v %v", ok, err)
	}
	// A Put that fails leaves nothing, however far it came, and does not stand in
	// the way of the next.
	sorry := errors.New("sorry")
	for _, size := range []int{0, 10, 70_000, 2_000_000} {
		data := body(2, size+1)
		broken := io.MultiReader(bytes.NewReader(data[:size]), failing{sorry})
		if err := e.Blobs().Put(ctx, name, int64(size)+1, broken); !errors.Is(err, sorry) {
			t.Errorf("put from a broken reader: %v", err)
		}
		err := e.Blobs().Put(ctx, name, int64(size)+1, bytes.NewReader(data[:size]))
		wantKind(t, "short", err, fault.Invalid)
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if err := e.Blobs().Put(ended, name, int64(size)+1, bytes.NewReader(data)); err == nil {
			t.Error("put with an ended context")
		}
		_, err = e.Blobs().Open(ctx, name, 0, -1)
		wantKind(t, "after a failed put", err, fault.NotFound)
	}
	data := body(3, 100_000)
	putBlob(t, e, name, data)
	for _, r := range [][2]int64{{-1, 1}, {0, 100_001}, {100_001, 0}, {100_001, -1}, {99_999, 2}, {1 << 62, 1 << 62}} {
		_, err := e.Blobs().Open(ctx, name, r[0], r[1])
		wantKind(t, "range", err, fault.Invalid)
	}
	if got, err := readBlob(ctx, e, name, 0, -1); err != nil || !bytes.Equal(got, data) {
		t.Errorf("after all that: %d bytes, %v", len(got), err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func testBlobTimes(t *testing.T, h Harness) {
	c := newClock()
	e := closing(t, h.Open(t, c.now))
	start := c.now()
	name, data := blobName(7), body(7, 70_000)
	putBlob(t, e, name, data)
	if at := timeOf(t, e, name); !at.Equal(start) {
		t.Errorf("put at %v, listed as %v", start, at)
	}
	deleted := func(before time.Time, expect bool) {
		t.Helper()
		if ok, err := e.Blobs().Delete(t.Context(), name, before); ok != expect || err != nil {
			t.Errorf("delete before %v: %v, %v", before, ok, err)
		}
	}
	deleted(start, false) // put at that very moment, not before it
	c.pass(3 * time.Hour)
	putBlob(t, e, name, nil) // already there: r is not read
	if age := c.now().Sub(timeOf(t, e, name)); age > time.Hour || age < -time.Hour {
		t.Errorf("a second put did not make the blob young: %v", age)
	}
	deleted(c.now().Add(-time.Hour), false)
	if got, err := readBlob(t.Context(), e, name, 0, -1); err != nil || !bytes.Equal(got, data) {
		t.Errorf("refreshed: %d bytes, %v", len(got), err)
	}
	deleted(c.now().Add(time.Second), true)
	deleted(c.now().Add(time.Second), false)
	_, err := e.Blobs().Open(t.Context(), name, 0, -1)
	wantKind(t, "deleted", err, fault.NotFound)
	putBlob(t, e, name, data) // and it may come back
	if got, err := readBlob(t.Context(), e, name, 0, -1); err != nil || !bytes.Equal(got, data) {
		t.Errorf("put again: %d bytes, %v", len(got), err)
	}
}

func timeOf(t *testing.T, e engine.Engine, name mail.BlobRef) (at time.Time) {
	t.Helper()
	err := e.Blobs().List(t.Context(), func(n mail.BlobRef, listed time.Time, _ int64) bool {
		if n == name {
			at = listed
		}
		return true
	})
	if err != nil || at.IsZero() {
		t.Fatalf("not listed: %v", err)
	}
	return at
}

func testBlobList(t *testing.T, h Harness) {
	e := open(t, h)
	sizes := map[mail.BlobRef]int64{}
	var names []mail.BlobRef
	for i := range 100 {
		name := mail.BlobRef{byte(i * 37), byte(i)}
		putBlob(t, e, name, body(i, i*1000))
		sizes[name] = int64(i * 1000)
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b mail.BlobRef) int { return bytes.Compare(a[:], b[:]) })
	if ok, err := e.Blobs().Delete(t.Context(), names[50], endOfTime); !ok || err != nil {
		t.Fatalf("%v %v", ok, err)
	}
	names = slices.Delete(names, 50, 51)
	var got []mail.BlobRef
	err := e.Blobs().List(t.Context(), func(name mail.BlobRef, _ time.Time, size int64) bool {
		got = append(got, name)
		if size != sizes[name] {
			t.Errorf("size %d, want %d", size, sizes[name])
		}
		return true
	})
	if err != nil || !slices.Equal(got, names) {
		t.Errorf("listed %d of %d, or out of order: %v", len(got), len(names), err)
	}
	n := 0
	err = e.Blobs().List(t.Context(), func(mail.BlobRef, time.Time, int64) bool { n++; return n < 3 })
	if err != nil || n != 3 {
		t.Errorf("ended after %d, %v", n, err)
	}
}

// testBlobNeeds: what a blob needs is told as it was first put, until the blob goes.
func testBlobNeeds(t *testing.T, h Harness) {
	c := newClock()
	e := closing(t, h.Open(t, c.now))
	first, second, other := mail.BlobRef{1}, mail.BlobRef{2}, mail.BlobRef{3}
	many := make([]mail.BlobRef, 1000)
	for i := range many {
		many[i] = blobName(i)
	}
	put := func(name mail.BlobRef, needs ...mail.BlobRef) {
		t.Helper()
		if err := e.Blobs().Put(t.Context(), name, 3, bytes.NewReader([]byte("abc")), needs...); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(want map[mail.BlobRef][]mail.BlobRef) {
		t.Helper()
		got := map[mail.BlobRef][]mail.BlobRef{}
		err := e.Blobs().Needs(t.Context(), func(name mail.BlobRef, at time.Time, needs []mail.BlobRef) bool {
			got[name] = slices.Clone(needs)
			if listed := timeOf(t, e, name); !at.Equal(listed) {
				t.Errorf("a time of %v, and of %v in the list", at, listed)
			}
			return true
		})
		if err != nil || !maps.EqualFunc(got, want, slices.Equal) {
			t.Errorf("%d blobs need others, not %d, or they need other ones: %v", len(got), len(want), err)
		}
	}
	put(first, other)
	put(second, many...)
	put(other)
	expect(map[mail.BlobRef][]mail.BlobRef{first: {other}, second: many})
	c.pass(3 * time.Hour)
	put(second) // makes it young
	expect(map[mail.BlobRef][]mail.BlobRef{first: {other}, second: many})
	if got, err := readBlob(t.Context(), e, second, 0, -1); err != nil || string(got) != "abc" {
		t.Errorf("%q, %v", got, err)
	}
	if ok, err := e.Blobs().Delete(t.Context(), first, c.now().Add(time.Second)); !ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	expect(map[mail.BlobRef][]mail.BlobRef{second: many})
}

// testBlobRace puts and deletes one name from many goroutines. A blob whose Put
// returned stays until somebody deletes it as old as that Put.
func testBlobRace(t *testing.T, h Harness) {
	c := newClock()
	e := closing(t, h.Open(t, c.now))
	ctx := t.Context()
	for round := range 30 {
		name, data := blobName(round), body(round, 1000+round*5_000)
		var wg sync.WaitGroup
		putBlob(t, e, name, data) // old: may be deleted
		c.pass(2 * time.Hour)
		cutoff := c.now()
		c.pass(time.Minute)
		for range 3 {
			wg.Go(func() {
				if _, err := e.Blobs().Delete(ctx, name, cutoff); err != nil {
					t.Errorf("delete: %v", err)
				}
			})
			wg.Go(func() { // relies on it from now on
				if err := e.Blobs().Put(ctx, name, int64(len(data)), bytes.NewReader(data)); err != nil {
					t.Errorf("put: %v", err)
				}
				if got, err := readBlob(ctx, e, name, 0, -1); err != nil || !bytes.Equal(got, data) {
					t.Errorf("after a put: %d bytes, %v", len(got), err)
				}
			})
		}
		wg.Wait()
		if got, err := readBlob(ctx, e, name, 0, -1); err != nil || !bytes.Equal(got, data) {
			t.Errorf("at rest: %d bytes, %v", len(got), err)
		}
	}
}
