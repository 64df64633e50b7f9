package integrity

import (
	"context"
	crand "crypto/rand"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/test/promise"
)

// TestR34RepairWhole zeroes sectors of several files at once and goes the whole way of
// verify --repair: verify finds nothing then, and of each message that is gone either the
// message or a range of records is told.
func TestR34RepairWhole(t *testing.T) {
	ctx := context.Background()
	img := images(t, 1, 90)["started again"]
	fs, err := img.disk()
	if err != nil {
		t.Fatal(err)
	}
	h, err := open(fs)
	if err != nil {
		t.Fatal(err)
	}
	want := h.bodies(t)
	h.close()
	sum := map[string]int{}
	var mu sync.Mutex
	n := promise.Times(t, "R34WHOLE", 40, 2000)
	each(n, func(seed int) outcome {
		rng := rand.New(rand.NewPCG(uint64(seed), 38))
		hurt := img
		var all []damage
		for len(all) < 1+rng.IntN(3) {
			d := draw(rng, hurt)
			if strings.HasSuffix(d.file, ".sst") || strings.HasSuffix(d.file, ".blob") {
				all = append(all, d)
				hurt = d.apply(hurt)
			}
		}
		fail := func(format string, args ...any) {
			t.Errorf("seed %d: %v: "+format, append([]any{seed, all}, args...)...)
		}
		fs, err := hurt.disk()
		if err != nil {
			t.Error(err)
			return missed
		}
		salvaged, err := pebble.Repair(ctx, folder, "quarantine/now/store", engineOptions(fs), nil)
		if err != nil {
			fail("repair: %v", err)
			return missed
		}
		lost := mendAll(fs, fail, ctx)
		h, err := open(fs)
		if err != nil {
			fail("open: %v", err)
			return missed
		}
		defer h.close()
		for _, problem := range h.verify(ctx) {
			fail("afterwards %s", problem)
		}
		got, missing := h.bodies(t), 0
		for body, places := range want {
			missing += max(0, places-got[body])
		}
		ranges := 0
		for _, hole := range salvaged.Holes {
			if !hole.Bodies {
				ranges++
			}
		}
		if missing > lost && ranges == 0 {
			fail("%d messages are gone, %d and no range are told", missing, lost)
		}
		mu.Lock()
		defer mu.Unlock()
		sum["repairs"]++
		sum["lost"] += missing
		sum["told"] += min(lost, missing)
		return harmless
	})
	promise.Kept(t, "R34", "whole repairs", sum["repairs"], "messages lost", sum["lost"], "of them told one by one", sum["told"], "lost without a word", 0)
}

// mendAll does what follows the repair of the files, and returns how many messages it told
// as lost.
func mendAll(fs vfs.FS, fail func(string, ...any), ctx context.Context) (lost int) {
	e, err := pebble.Open(folder, engineOptions(fs))
	if err != nil {
		fail("open: %v", err)
		return 0
	}
	defer e.Close()
	st, err := store.Open(e, store.Options{Now: time.Now})
	if err != nil {
		fail("open: %v", err)
		return 0
	}
	defer st.Close()
	shards, err := e.Shards(ctx)
	if err != nil {
		fail("shards: %v", err)
	}
	var data []mail.AccountID
	for _, s := range shards {
		if id, ok := store.AccountOf(s); ok {
			data = append(data, id)
		}
	}
	if err := directory.Repair(ctx, e, data, nil, time.Now(), func(directory.Mended) {}); err != nil {
		fail("directory: %v", err)
	}
	err = st.Repair(ctx, data, func(m store.Mended) {
		if m.Lost {
			lost += max(m.Count, 1)
		}
	})
	if err != nil {
		fail("store: %v", err)
	}
	if err := queue.Repair(ctx, e, st, time.Now(), func(queue.Mended) error { return nil }); err != nil {
		fail("queue: %v", err)
	}
	d, err := directory.Open(ctx, e, st, directory.Options{Now: time.Now, Rand: crand.Reader})
	if err != nil {
		fail("directory: %v", err)
		return lost
	}
	defer d.Close()
	for a, err := range d.Accounts(ctx, "") {
		if err == nil {
			err = st.CreateAccount(ctx, a.ID, store.Quota{})
		}
		if err != nil {
			fail("account: %v", err)
		}
	}
	return lost
}
