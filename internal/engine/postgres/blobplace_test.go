package postgres

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// TestPlacesOf: names are spread evenly, growing by a group moves only what goes to it, and
// the places of a name include those of all smaller numbers of groups.
func TestPlacesOf(t *testing.T) {
	const names, groups = 20_000, 12
	for n := 1; n <= groups; n++ {
		count := make([]int, n)
		for i := range names {
			name := blobNamed(i)
			places := placesOf(name, n)
			count[places[0]]++
			for smaller := n - 1; smaller > 0; smaller-- {
				was := placesOf(name, smaller)
				if !slices.Contains(places, was[0]) {
					t.Fatalf("%v: in %d of %d groups, not among %v of %d", name, was[0], smaller, places, n)
				}
				if smaller == n-1 && was[0] != places[0] && places[0] != n-1 {
					t.Fatalf("%v: moves from %d to %d, which is not the new one", name, was[0], places[0])
				}
			}
			if len(slices.Compact(slices.Sorted(slices.Values(places)))) != len(places) || places[len(places)-1] != 0 {
				t.Fatalf("%v: places %v", name, places)
			}
		}
		for i, c := range count {
			if c < names/n*8/10 || c > names/n*12/10 {
				t.Errorf("%d of %d names in group %d of %d", c, names, i, n)
			}
		}
	}
	// The algorithm is a stored format: what was put must be found for ever.
	if got := fmt.Sprint(placesOf(mail.BlobRef{1, 2, 3}, 50), placesOf(mail.BlobRef{31: 9}, 50)); got != wantPlaces {
		t.Errorf("places have changed: %s", got)
	}
}

const wantPlaces = "[15 4 2 0] [38 36 14 7 2 0]"

// TestBlobGroups: with more groups blobs that are there stay where they are and are found, by
// a node too that does not know of the new group yet; lists are merged in order.
func TestBlobGroups(t *testing.T) {
	c := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	opt := Options{URL: pgtest.Shared(t), Over: 1000, Now: func() time.Time { return c }}
	a := openBlobs(t, opt)
	b := openBlobs(t, opt)
	const blobs = 60
	size := func(i int) int { return 500 * (i % 4) }
	for i := range blobs {
		putBlob(t, a, i, size(i))
	}
	if _, err := a.AddGroup(t.Context(), "second", pgtest.Shared(t)); err != nil {
		t.Fatal(err)
	}
	for i := blobs; i < 2*blobs; i++ {
		putBlob(t, a, i, size(i))
	}
	for i := range 2 * blobs {
		haveBlob(t, b, i, size(i)) // b has not heard of it
	}
	before := a.stats.Blobs.Load()
	c = c.Add(5 * time.Hour)
	for i := range 2 * blobs {
		putBlob(t, a, i, size(i)) // makes it young, wherever it is
	}
	t.Logf("%d statements for %d blobs in two groups", a.stats.Blobs.Load()-before, 2*blobs)
	var names []mail.BlobRef
	err := b.Blobs().List(t.Context(), func(name mail.BlobRef, at time.Time, _ int64) bool {
		if names = append(names, name); !at.Equal(c) {
			t.Errorf("%v is of %v", name, at)
		}
		return true
	})
	if err != nil || len(names) != 2*blobs || !slices.IsSortedFunc(names, func(x, y mail.BlobRef) int { return bytes.Compare(x[:], y[:]) }) {
		t.Errorf("%d listed, or not in order: %v", len(names), err)
	}
	// Two nodes put one at the same time, and only one of them knows of the new group.
	twice := blobs
	for placesOf(blobNamed(twice), 2)[0] == 0 {
		twice++
	}
	w := &write{b: a.blobs, shelf: a.blobs.shelves()[0], name: blobNamed(twice), size: int64(size(twice))}
	if err := w.small(t.Context(), bytes.NewReader(blobBody(twice, size(twice)))); err != nil {
		t.Fatal(err)
	}
	n := 0
	err = a.Blobs().List(t.Context(), func(mail.BlobRef, time.Time, int64) bool { n++; return true })
	if err != nil || n != 2*blobs {
		t.Errorf("%d listed, one of them is in two groups: %v", n, err)
	}
	for i := range 2 * blobs {
		if ok, err := b.Blobs().Delete(t.Context(), blobNamed(i), c); ok || err != nil {
			t.Errorf("young: %v, %v", ok, err)
		}
		if ok, err := b.Blobs().Delete(t.Context(), blobNamed(i), c.Add(1)); ok || err != nil {
			t.Errorf("of that very millisecond: %v, %v", ok, err)
		}
		if ok, err := b.Blobs().Delete(t.Context(), blobNamed(i), c.Add(time.Second)); !ok || err != nil {
			t.Errorf("old: %v, %v", ok, err)
		}
		_, err := readBlob(t.Context(), a, i)
		wantKind(t, "deleted", err, fault.NotFound)
	}
}

// TestBlobMemory: what is held does not grow with a body.
func TestBlobMemory(t *testing.T) {
	e := openBlobs(t, Options{})
	const size = 40 << 20
	var before, now runtime.MemStats
	most := uint64(0)
	runtime.GC()
	runtime.ReadMemStats(&before)
	watch := watched{func() {
		runtime.GC()
		runtime.ReadMemStats(&now)
		most = max(most, now.HeapAlloc)
	}, new(int)}
	if err := e.Blobs().Put(t.Context(), blobNamed(1), size, io.TeeReader(io.LimitReader(zero{}, size), watch)); err != nil {
		t.Fatal(err)
	}
	r, err := e.Blobs().Open(t.Context(), blobNamed(1), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if n, err := io.Copy(watch, r); n != size || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	held := int64(most) - int64(before.HeapAlloc)
	t.Logf("at most %d KiB in use beside a body of %d MiB", held>>10, size>>20)
	if held > 8<<20 {
		t.Errorf("%d MiB in use", held>>20)
	}
}

type zero struct{}

func (zero) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// watched looks now and then.
type watched struct {
	look  func()
	times *int
}

func (w watched) Write(p []byte) (int, error) {
	if *w.times++; *w.times%40 == 0 {
		w.look()
	}
	return len(p), nil
}

// TestBlobClock: without a clock of its own a node dates blobs by the database's, so that a
// node whose clock is wrong harms nobody; and a blob never gets older.
func TestBlobClock(t *testing.T) {
	e := openBlobs(t, Options{})
	putBlob(t, e, 1, 100)
	at := func() (at time.Time) {
		err := e.Blobs().List(t.Context(), func(_ mail.BlobRef, listed time.Time, _ int64) bool { at = listed; return true })
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	if age := time.Since(at()); age > time.Minute || age < -time.Minute {
		t.Errorf("put %v ago", age)
	}
	e.sql(t, `UPDATE blobs SET at = at - 5*3600*1000`)
	putBlob(t, e, 1, 100)
	if age := time.Since(at()); age > time.Minute || age < -time.Minute {
		t.Errorf("made young %v ago", age)
	}
	ahead := openBlobs(t, Options{URL: e.opt.URL, Now: func() time.Time { return time.Now().Add(50 * time.Hour) }})
	behind := openBlobs(t, Options{URL: e.opt.URL, Now: func() time.Time { return time.Now().Add(-50 * time.Hour) }})
	putBlob(t, ahead, 1, 100)
	was := at()
	putBlob(t, behind, 1, 100)
	if !at().Equal(was) || time.Until(was) < 49*time.Hour {
		t.Errorf("put by a clock that is ahead, then by one that is behind: %v, then %v", was, at())
	}
}
