package integrity

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/test/promise"
)

func engineOptions(fs vfs.FS) pebble.Options {
	return pebble.Options{FS: fs, Now: time.Now, MemTableBytes: 256 << 10, CacheBytes: 1 << 20, ReserveBytes: -1}
}

// lasting families never change a record: what is left of them is true.
func lastingRecord(key string) bool {
	if strings.HasPrefix(key, "blob ") {
		return true
	}
	shard, rest, _ := strings.Cut(key, "/")
	return len(shard) > 3 && strings.ContainsAny(rest[1:2], "fhbjty")
}

// TestR34Repair damages a store, repairs it and reads everything. What is there must be what
// was there; of what changes now and then an earlier form may come to light where the newest
// was hit. The damaged store lies in quarantine as it was.
func TestR34Repair(t *testing.T) {
	ctx := context.Background()
	states := map[string]sound{}
	for name, img := range images(t, 1, 90) {
		states[name] = soundOf(t, img)
	}
	names := slices.Sorted(maps.Keys(states))
	n := promise.Times(t, "R34REPAIR", 60, 2000)
	var repaired, untouched, lost, earlier, kept atomic.Int64
	each(n, func(seed int) outcome {
		rng := rand.New(rand.NewPCG(uint64(seed), 35))
		name := names[rng.IntN(len(names))]
		s := states[name]
		d := draw(rng, s.img)
		fail := func(format string, args ...any) outcome {
			t.Errorf("seed %d: %s: %v: %s", seed, name, d, fmt.Sprintf(format, args...))
			return missed
		}
		hurt := d.apply(s.img)
		fs, err := hurt.disk()
		if err != nil {
			return fail("%v", err)
		}
		found, err := pebble.Inspect(ctx, folder, engineOptions(fs))
		if err != nil {
			return fail("inspect: %v", err)
		}
		if len(found) == 0 {
			untouched.Add(1)
			return harmless
		}
		if _, err := pebble.Repair(ctx, folder, "quarantine/now/store", engineOptions(fs), nil); err != nil {
			return fail("repair: %v", err)
		}
		repaired.Add(1)
		if away := imageIn(t, fs, "quarantine/now/store"); !equal(away, hurt) {
			return fail("what lies in quarantine is not what was damaged")
		}
		e, err := pebble.Open(folder, engineOptions(fs))
		if err != nil {
			return fail("open: %v", err)
		}
		h := &floors{engine: e}
		defer e.Close()
		if _, err := e.Check(ctx, func(file, what string) { fail("afterwards %s %s", file, what) }); err != nil {
			return fail("check: %v", err)
		}
		all, failed := h.all(ctx, s.shards)
		if failed {
			return fail("not all can be read afterwards")
		}
		gone := 0
		for key, want := range s.all {
			switch got, ok := all[key]; {
			case !ok, got == broken:
				gone++
			case got == want:
				kept.Add(1)
			case lastingRecord(key):
				return fail("another value of %s", key)
			default:
				earlier.Add(1)
			}
		}
		lost.Add(int64(gone))
		if most := len(s.all) / 2; gone > most {
			return fail("%d of %d records are lost", gone, len(s.all))
		}
		return harmless
	})
	promise.Kept(t, "R34", "repairs", repaired.Load(), "nothing to repair", untouched.Load(), "records kept", kept.Load(), "records lost", lost.Load(), "records in an earlier form", earlier.Load())
}

func equal(a, b image) bool {
	delete(a, "LOCK")
	delete(b, "LOCK")
	return maps.EqualFunc(a, b, func(x, y []byte) bool { return string(x) == string(y) })
}
