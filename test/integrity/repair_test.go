package integrity

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/store"
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
	n := promise.Times(t, "R34REPAIR", 100, 2000)
	var repaired, turned, untouched, lost, earlier, kept atomic.Int64
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
		salvaged, err := pebble.Repair(ctx, folder, "quarantine/now/store", engineOptions(fs), nil)
		if err != nil {
			return fail("repair: %v", err)
		}
		turned.Add(int64(len(salvaged.Turned)))
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
				if gone++; !said(salvaged.Holes, key) {
					return fail("nobody says that %s is lost: %+v", key, salvaged.Holes)
				}
			case got == want:
				kept.Add(1)
			case lastingRecord(key):
				return fail("another value of %s", key)
			default:
				if earlier.Add(1); !said(salvaged.Holes, key) {
					return fail("nobody says that %s is as it was earlier", key)
				}
			}
		}
		lost.Add(int64(gone))
		// What is not there cannot come back: a file that is gone, or cut to less than half. It
		// is told of, see above.
		absent := d.what == "gone" || d.what == "cut" && d.at < int64(len(s.img[d.file]))/2
		if most := len(s.all) / 2; gone > most && !absent {
			return fail("%d of %d records are lost", gone, len(s.all))
		}
		return harmless
	})
	promise.Kept(t, "R34", "repairs", repaired.Load(), "files put right", turned.Load(), "nothing to repair", untouched.Load(), "records kept", kept.Load(), "records lost and told", lost.Load(), "lost without a word", 0, "records in an earlier form", earlier.Load())
}

// said tells whether a key is in a range of which a repair says that it could not be read.
func said(holes []pebble.Hole, key string) bool {
	number, quoted, isRecord := strings.Cut(key, "/")
	for _, h := range holes {
		if h.Commits || !isRecord && h.Bodies {
			return true
		}
		if !isRecord || h.Bodies {
			continue
		}
		id, _ := strconv.ParseUint(number, 10, 64)
		k, _ := strconv.Unquote(quoted)
		at := pebble.Spot{Shard: engine.Shard(id), Key: []byte(k)}
		if !before(at, h.From) && before(at, h.To) {
			return true
		}
	}
	return false
}

func before(a, b pebble.Spot) bool {
	return a.Shard < b.Shard || a.Shard == b.Shard && bytes.Compare(a.Key, b.Key) < 0
}

func equal(a, b image) bool {
	delete(a, "LOCK")
	delete(b, "LOCK")
	return maps.EqualFunc(a, b, func(x, y []byte) bool { return string(x) == string(y) })
}

// TestR34RepairRecords takes out or damages one record at a time of an account that has
// messages, repairs, and holds the rest against what it was: verify finds nothing, and
// each message that was not hit is there, byte for byte.
func TestR34RepairRecords(t *testing.T) {
	ctx := context.Background()
	img := images(t, 1, 90)["started again"]
	s := soundOf(t, img)
	fs, err := img.disk()
	if err != nil {
		t.Fatal(err)
	}
	h, err := open(fs)
	if err != nil {
		t.Fatal(err)
	}
	records := h.records(t, s.shards[len(s.shards)-2])
	want := h.bodies(t)
	h.close()
	byFamily := map[byte][]pair{}
	for _, r := range records {
		byFamily[r.key[0]] = append(byFamily[r.key[0]], r)
	}
	families := slices.Sorted(maps.Keys(byFamily))
	n := promise.Times(t, "R34RECORDS", 200, 5000)
	count := map[string]int{}
	var mu sync.Mutex
	each(n, func(seed int) outcome {
		rng := rand.New(rand.NewPCG(uint64(seed), 36))
		family := families[rng.IntN(len(families))] // each alike: most records are of messages
		r := byFamily[family][rng.IntN(len(byFamily[family]))]
		fs, err := img.disk()
		if err != nil {
			t.Error(err)
			return missed
		}
		h, err := open(fs)
		if err != nil {
			t.Error(err)
			return missed
		}
		defer h.close()
		shard := s.shards[len(s.shards)-2]
		if err := h.hurt(shard, r, rng); err != nil {
			t.Error(err)
			return missed
		}
		lost, said := 0, 0
		plain, err := store.Open(h.engine, store.Options{Now: time.Now})
		if err != nil {
			t.Error(err)
			return missed
		}
		defer plain.Close()
		if err := plain.Repair(ctx, nil, func(m store.Mended) {
			said++
			if m.Lost {
				lost += max(m.Count, 1)
			}
		}); err != nil {
			t.Errorf("seed %d: record %q: repair: %v", seed, r.key, err)
			return missed
		}
		for _, problem := range h.verify(ctx) {
			t.Errorf("seed %d: record %q: afterwards %s", seed, r.key, problem)
		}
		got, missing := h.bodies(t), 0
		for body, places := range want {
			missing += max(0, places-got[body])
		}
		if missing != lost {
			t.Errorf("seed %d: record %q: %d messages are gone and %d reported", seed, r.key, missing, lost)
		}
		if said == 0 && strings.Contains(nowhereElse, string(family)) && len(r.value) > 0 && string(r.key) != "e" { // the size of all of them
			t.Errorf("seed %d: record %q: nobody says that it is lost", seed, r.key)
		}
		mu.Lock()
		defer mu.Unlock()
		count["repairs"]++
		count["lost"] += lost
		return harmless
	})
	promise.Kept(t, "R34", "records repaired", count["repairs"], "messages lost and reported", count["lost"], "lost without a word", 0)
}

// nowhereElse are families whose records say what no other one does.
const nowhereElse = "amqwxe"

// hurt removes a record or turns over a bit of it.
func (h *floors) hurt(shard engine.Shard, r pair, rng *rand.Rand) error {
	return h.engine.Update(context.Background(), shard, func(w engine.Writer) error {
		if len(r.value) == 0 || rng.IntN(2) == 0 {
			return w.Delete(r.key)
		}
		b := bytes.Clone(r.value)
		b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
		return w.Put(r.key, b)
	})
}

// bodies reads every message of every mailbox, and counts how often each lies somewhere.
func (h *floors) bodies(t *testing.T) map[string]int {
	ctx := context.Background()
	all := map[string]int{}
	ids, err := h.store.Accounts(ctx)
	if err != nil {
		t.Error(err)
	}
	for _, id := range ids {
		a := h.store.Account(id)
		var boxes []store.Mailbox
		if err := a.View(ctx, func(s *store.Snapshot) (err error) { boxes, err = s.Mailboxes(); return err }); err != nil {
			t.Error(err)
		}
		for _, box := range boxes {
			p, err := a.Picture(ctx, box.ID)
			if err != nil {
				t.Error(err)
				continue
			}
			for _, m := range p.Messages(store.All()) {
				r, err := a.Open(ctx, m.ID, 0, -1)
				if err != nil {
					t.Errorf("%s, UID %d: %v", box.Name, m.UID, err)
					continue
				}
				b, err := io.ReadAll(r)
				r.Close()
				if err != nil {
					t.Errorf("%s, UID %d: %v", box.Name, m.UID, err)
				}
				all[fmt.Sprintf("%d %s", id, b)]++
			}
		}
	}
	return all
}
