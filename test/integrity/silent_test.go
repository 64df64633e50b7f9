package integrity

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/test/promise"
)

// damage is one fault of a medium.
type damage struct {
	file string
	what string // flip, cut, zero, gone
	at   int64
	bit  int
}

func (d damage) String() string {
	if d.what == "flip" {
		return fmt.Sprintf("%s: bit %d of byte %d turned over", d.file, d.bit, d.at)
	}
	return fmt.Sprintf("%s: %s at %d", d.file, d.what, d.at)
}

const sector = 512

// apply returns a copy of the image with the damage.
func (d damage) apply(img image) image {
	hurt := maps.Clone(img)
	b := bytes.Clone(img[d.file])
	switch d.what {
	case "flip":
		b[d.at] ^= 1 << d.bit
	case "cut":
		b = b[:d.at]
	case "zero":
		clear(b[d.at:min(d.at+sector, int64(len(b)))])
	case "gone":
		delete(hurt, d.file)
		return hurt
	}
	hurt[d.file] = b
	return hurt
}

// draw chooses a damage: any file alike, so that small ones have their share.
func draw(rng *rand.Rand, img image) damage {
	names := slices.Sorted(maps.Keys(img))
	for {
		name := names[rng.IntN(len(names))]
		n := int64(len(img[name]))
		d := damage{file: name}
		switch kind := rng.IntN(16); {
		case kind == 0:
			d.what = "gone"
			return d
		case n == 0:
		case kind < 4:
			d.what, d.at = "cut", rng.Int64N((n+sector-1)/sector)*sector
			return d
		case kind < 7:
			d.what, d.at = "zero", rng.Int64N((n+sector-1)/sector)*sector
			if bytes.Count(img[name][d.at:min(d.at+sector, n)], []byte{0}) < int(min(sector, n-d.at)) { // there is something to lose
				return d
			}
		default:
			d.what, d.at, d.bit = "flip", rng.Int64N(n), rng.IntN(8)
			return d
		}
	}
}

// outcome of a trial.
type outcome string

const (
	refused  outcome = "refused"  // to open, and named the file
	found    outcome = "found"    // by verify
	harmless outcome = "harmless" // all reads the same, and writing goes on
	missed   outcome = "missed"   // wrong or missing without a word
)

// sound is what an undamaged image says.
type sound struct {
	img    image
	all    content
	shards []engine.Shard
}

func soundOf(t testing.TB, img image) sound {
	t.Helper()
	fs, err := img.disk()
	if err != nil {
		t.Fatal(err)
	}
	h, err := open(fs)
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	s := sound{img: img}
	if s.shards, err = h.shards(context.Background()); err != nil {
		t.Fatal(err)
	}
	if problems := h.verify(context.Background()); len(problems) > 0 {
		t.Fatalf("the store is damaged before anything was planted: %v", problems)
	}
	var failed bool
	if s.all, failed = h.all(context.Background(), s.shards); failed {
		t.Fatal("the store cannot be read before anything was planted")
	}
	return s
}

// try plants a damage and tells what became of it; why explains a miss.
func (s sound) try(d damage) (o outcome, why string) {
	defer func() {
		if p := recover(); p != nil {
			o, why = missed, fmt.Sprintf("panic: %v", p)
		}
	}()
	ctx := context.Background()
	fs, err := d.apply(s.img).disk()
	if err != nil {
		return missed, err.Error()
	}
	h, err := open(fs)
	if err != nil {
		return s.refusal(d, err, fs)
	}
	defer h.close()
	all, failed := h.all(ctx, s.shards)
	if why := s.wrong(all, failed); why != "" {
		return missed, why
	}
	if problems := h.verify(ctx); len(problems) > 0 {
		return found, ""
	}
	if failed || len(all) != len(s.all) {
		return missed, "verify says all is whole, and not all can be read"
	}
	return s.goesOn(h, fs)
}

// refusal judges an Open that failed.
func (s sound) refusal(d damage, err error, fs vfs.FS) (outcome, string) {
	after, hurt := imageOf(nil, fs), d.apply(s.img)
	delete(after, "LOCK")
	delete(hurt, "LOCK")
	if strings.Contains(err.Error(), "nothing was changed") && !maps.EqualFunc(after, hurt, bytes.Equal) {
		return missed, "refused, but the folder is no longer as it was"
	}
	stem, _, _ := strings.Cut(d.file, ".")
	if !strings.Contains(err.Error(), stem) {
		return missed, "refused without naming the file: " + err.Error()
	}
	if !fault.Is(err, fault.Corrupt) {
		return missed, "refused, but not as damaged: " + err.Error()
	}
	return refused, ""
}

// wrong tells what was read that is not true, or denied that is.
func (s sound) wrong(all content, failed bool) string {
	for key, value := range all {
		if want, ok := s.all[key]; !ok || value != want && value != broken {
			return "another value of " + key
		}
	}
	if failed {
		return ""
	}
	for key := range s.all {
		if _, ok := all[key]; !ok {
			return "nothing of " + key
		}
	}
	return ""
}

// goesOn shows that a store that is said to be whole takes mail and keeps it.
func (s sound) goesOn(h *floors, fs vfs.FS) (outcome, string) {
	ctx := context.Background()
	text := []byte("From: a@b.example\r\nSubject: after\r\n\r\nstill there\r\n")
	p, err := h.store.Receive(ctx, bytes.NewReader(text))
	if err != nil {
		return missed, "cannot take mail: " + err.Error()
	}
	var uid mail.UID
	a := h.store.Account(1)
	err = a.Update(ctx, func(tx *store.Tx) error {
		box, err := tx.Mailbox("INBOX")
		if err != nil {
			return err
		}
		uid, err = tx.Append(box.ID, store.NewMessage{Parcel: p})
		return err
	})
	if err != nil {
		return missed, "cannot deliver: " + err.Error()
	}
	if err := h.close(); err != nil {
		return missed, "cannot close: " + err.Error()
	}
	again, err := open(fs)
	if err != nil {
		return missed, "cannot open again: " + err.Error()
	}
	defer again.close()
	all, failed := again.all(ctx, s.shards)
	if failed || len(all) < len(s.all) {
		return missed, "cannot read all after a write"
	}
	err = again.store.Account(1).View(ctx, func(snap *store.Snapshot) error {
		box, err := snap.Mailbox("INBOX")
		if err == nil {
			_, err = snap.Message(box.ID, uid)
		}
		return err
	})
	if err != nil {
		return missed, "the new message is not there: " + err.Error()
	}
	return harmless, ""
}

// TestR5R34EveryDamageIsFound plants one damage at a time in any file of the folder, as a
// kill, a clean stop and a new start leave it.
func TestR5R34EveryDamageIsFound(t *testing.T) {
	n := promise.Times(t, "R5", 500, 50_000)
	all := images(t, 1, 90)
	states := map[string]sound{}
	for name, img := range all {
		states[name] = soundOf(t, img)
	}
	checkFamilies(t, states["killed"])
	names := slices.Sorted(maps.Keys(states))
	count := each(n, func(seed int) outcome {
		rng := rand.New(rand.NewPCG(uint64(seed), 34))
		name := names[rng.IntN(len(names))]
		d := draw(rng, states[name].img)
		o, why := states[name].try(d)
		if o == missed {
			t.Errorf("seed %d: %s: %v: %s", seed, name, d, why)
		}
		return o
	})
	promise.Kept(t, "R5", "trials", n, "found by verify", count[found], "refused at the start", count[refused], "harmless", count[harmless], "missed", count[missed])
	promise.Kept(t, "R34", "trials", n, "missed", count[missed])
}

// TestR5ControlWithoutWitness is the same without the two lists that the engine keeps of its
// files, as it would be with the checksums of the database alone: damage to logs and
// manifests must then be missed. If it is not, the test above proves nothing.
func TestR5ControlWithoutWitness(t *testing.T) {
	count := map[outcome]int{}
	for name, img := range images(t, 1, 90) {
		img := maps.Clone(img)
		delete(img, "synced")
		delete(img, "sums")
		s := soundOf(t, img)
		for file := range img {
			if !strings.HasSuffix(file, ".log") && !strings.HasPrefix(file, "MANIFEST-") || len(img[file]) == 0 {
				continue
			}
			for part := range 20 {
				d := damage{file: file, what: "flip", at: int64(len(img[file])-1) * int64(part) / 20, bit: part % 8}
				o, why := s.try(d)
				if o == missed && strings.HasPrefix(why, "refused") {
					o = refused // the name does not matter here
				}
				if count[o]++; o == missed && count[o] == 1 {
					t.Logf("for one: %s: %v: %s", name, d, why)
				}
			}
		}
	}
	if count[missed] == 0 {
		t.Error("nothing is missed without the lists")
	}
	t.Logf("%v", count)
}

// TestR34EveryRecordIsRead turns over one bit in one record at a time, with the checksums of
// the files in order: verify must read each, and know it.
func TestR34EveryRecordIsRead(t *testing.T) {
	ctx := context.Background()
	s := soundOf(t, images(t, 1, 90)["started again"])
	fs, err := s.img.disk()
	if err != nil {
		t.Fatal(err)
	}
	h, err := open(fs)
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	rng := rand.New(rand.NewPCG(3, 4))
	n, found, lastFamily := 0, 0, byte(0)
	for _, shard := range s.shards {
		for i, r := range h.records(t, shard) {
			if len(r.value) == 0 || i%3 > 0 && r.key[0] == lastFamily && !promise.Long() {
				continue // of the short form every third of a family, and its first
			}
			lastFamily = r.key[0]
			hurt := bytes.Clone(r.value)
			hurt[rng.IntN(len(hurt))] ^= 1 << rng.IntN(8)
			h.put(t, shard, r.key, hurt)
			if n++; len(h.verify(ctx)) > 0 {
				found++
			} else {
				t.Errorf("shard %d, record %q: a bit turned over is not found", shard, r.key)
			}
			h.put(t, shard, r.key, r.value)
		}
	}
	if problems := h.verify(ctx); len(problems) > 0 {
		t.Fatalf("verify complains of what is whole: %v", problems)
	}
	promise.Kept(t, "R34", "records turned over below their checksums", n, "found", found)
}

type pair struct{ key, value []byte }

func (h *floors) records(t *testing.T, shard engine.Shard) (all []pair) {
	t.Helper()
	err := h.engine.View(context.Background(), shard, func(r engine.Reader) error {
		all = nil
		return r.Scan(nil, nil, false, func(k, v []byte) bool {
			all = append(all, pair{bytes.Clone(k), bytes.Clone(v)})
			return true
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func (h *floors) put(t *testing.T, shard engine.Shard, key, value []byte) {
	t.Helper()
	err := h.engine.Update(context.Background(), shard, func(w engine.Writer) error { return w.Put(key, value) })
	if err != nil {
		t.Fatal(err)
	}
}

// each runs trials, several at a time, as reading what is damaged takes its time on purpose.
func each(n int, try func(seed int) outcome) map[outcome]int {
	var next atomic.Int64
	var mu sync.Mutex
	var running sync.WaitGroup
	count := map[outcome]int{}
	for range 16 {
		running.Go(func() {
			for {
				seed := int(next.Add(1)) - 1
				if seed >= n {
					return
				}
				o := try(seed)
				mu.Lock()
				count[o]++
				mu.Unlock()
			}
		})
	}
	running.Wait()
	return count
}

// checkFamilies makes sure that there is something to damage: a record of each family
// that docs/schema.md has.
func checkFamilies(t *testing.T, s sound) {
	t.Helper()
	have := map[string]bool{}
	for key := range s.all {
		if shard, rest, ok := strings.Cut(key, "/"); ok {
			kind := map[string]string{"0": "directory ", "1": "queue ", "2": "registry "}[shard]
			have[kind+rest[1:2]] = true
		}
	}
	for _, family := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u", "v", "w", "x", "y", "z", "D"} {
		if !have[family] {
			t.Errorf("the store has no record of family %s", family)
		}
	}
	for _, family := range []string{"directory d", "directory e", "directory u", "directory m", "queue m", "queue p", "queue r", "queue g", "queue q", "queue l", "queue t", "queue a", "queue k", "queue n", "registry A", "registry O"} {
		if !have[family] {
			t.Errorf("the store has no record of family %s", family)
		}
	}
}
