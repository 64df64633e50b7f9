package integrity

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/test/promise"
)

// TestR34RepairBooks takes out or damages one record at a time of the directory or the
// queue, repairs, and holds the rest against what it was: verify finds nothing, each
// account is there with its mail, and a record that nothing else says is reported.
func TestR34RepairBooks(t *testing.T) {
	ctx := context.Background()
	img := images(t, 1, 30)["started again"]
	fs, err := img.disk()
	if err != nil {
		t.Fatal(err)
	}
	h, err := open(fs)
	if err != nil {
		t.Fatal(err)
	}
	type target struct {
		shard engine.Shard
		pair
	}
	var targets []target
	for _, shard := range []engine.Shard{store.DirectoryShard, store.QueueShard} {
		for _, r := range h.records(t, shard) {
			targets = append(targets, target{shard, r})
		}
	}
	want := h.bodies(t)
	accounts, err := h.store.Accounts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	h.close()
	said := map[string]int{}
	var mu sync.Mutex
	n := promise.Times(t, "R34BOOKS", 120, 3000)
	each(n, func(seed int) outcome {
		rng := rand.New(rand.NewPCG(uint64(seed), 37))
		r := targets[rng.IntN(len(targets))]
		fs, err := img.disk()
		if err != nil {
			t.Error(err)
			return missed
		}
		e, err := pebble.Open(folder, engineOptions(fs))
		if err != nil {
			t.Error(err)
			return missed
		}
		hurt := &floors{engine: e}
		if err := hurt.hurt(r.shard, r.pair, rng); err != nil {
			t.Error(err)
			return missed
		}
		fail := func(format string, args ...any) {
			t.Errorf("seed %d: shard %d, record %q: "+format, append([]any{seed, r.shard, r.key}, args...)...)
		}
		st, err := store.Open(e, store.Options{Now: time.Now})
		if err != nil {
			t.Error(err)
			return missed
		}
		lost := 0
		if err := directory.Repair(ctx, e, accounts, nil, time.Now(), func(m directory.Mended) {
			if m.Lost {
				lost++
			}
		}); err != nil {
			fail("directory: %v", err)
		}
		if err := queue.Repair(ctx, e, st, time.Now(), func(m queue.Mended) error {
			if m.Lost {
				lost++
			}
			return nil
		}); err != nil {
			fail("queue: %v", err)
		}
		st.Close()
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		h, err := open(fs)
		if err != nil {
			fail("open: %v", err)
			return missed
		}
		defer h.close()
		for _, problem := range h.verify(ctx) {
			fail("afterwards %s", problem)
		}
		got := h.bodies(t)
		for body, places := range want {
			if got[body] < places {
				fail("mail of an account is gone")
				break
			}
		}
		var live []mail.AccountID
		for a, err := range h.directory.Accounts(ctx, "") {
			if err != nil {
				fail("%v", err)
			}
			live = append(live, a.ID)
		}
		if slices.Sort(live); !slices.Equal(live, accounts) {
			fail("accounts %v are left of %v", live, accounts)
		}
		if lost == 0 && tellsAlone(r.shard, r.key) {
			fail("nobody says that it is lost")
		}
		mu.Lock()
		defer mu.Unlock()
		said["repairs"]++
		said["lost"] += lost
		return harmless
	})
	promise.Kept(t, "R34", "records of directory and queue repaired", said["repairs"], "reported", said["lost"], "lost without a word", 0)
}

// tellsAlone tells whether nothing else says what a record does.
func tellsAlone(shard engine.Shard, key []byte) bool {
	if shard == store.DirectoryShard {
		return key[0] == 'u'
	}
	return slices.Contains([]byte("mrp"), key[0])
}
