package backup

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/test/promise"
)

// strike makes the power go before the n-th operation that writes: what was not synced is
// there or not, block by block.
type strike struct {
	mem   *vfs.MemFS
	n     int
	seed  int64
	after *vfs.MemFS
}

var errStruck = errors.New("the power is gone")

func (s *strike) String() string { return "strike" }

func (s *strike) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
		return nil
	}
	if s.n--; s.n > 0 {
		return nil
	}
	if s.after == nil {
		percent := []int{0, 25, 50, 75, 100}[s.seed%5]
		s.after = s.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(uint64(s.seed), 3))})
	}
	return errStruck
}

// A backup or a prune that the power ends anywhere leaves every snapshot there was whole,
// and the next backup and prune go on from there.
func TestPowerGoes(t *testing.T) {
	w := populated(t, "carol")
	w.mixed(t, "carol", 16, 1)
	base := vfs.NewCrashableMem()
	w.Disk = on(base)
	w.save(t, "/b/r", SaveOptions{})
	w.mixed(t, "carol", 16, 2)
	first, _, err := List(w.Disk, "/b/r")
	w.must(t, err)

	trials := promise.Times(t, "R16_POWER", 120, 5000)
	struck, ended := 0, 0
	for seed := range int64(trials) {
		rng := rand.New(rand.NewPCG(uint64(seed), 4))
		mem := base.CrashClone(vfs.CrashCloneCfg{})
		s := &strike{mem: mem, n: 1 + rng.IntN(36), seed: seed}
		house := w.House
		house.Disk = on(errorfs.Wrap(mem, s))
		_, err := house.Save(ctx, "/b/r", SaveOptions{Full: seed%3 == 0})
		if err == nil && seed%2 == 0 {
			_, err = Prune(ctx, house.Disk, "/b/r", Keep{Last: 1}, time.Now(), false)
		}
		if err == nil && s.after == nil {
			ended++
			continue
		}
		struck++
		after := on(s.after)
		n, verr := findings(after, "/b/r")
		list, bad, lerr := List(after, "/b/r")
		if n > 0 || verr != nil || lerr != nil || len(bad) > 0 || len(list) == 0 {
			t.Fatalf("seed %d: after the power came back: %d problems, %v, %v, %v, %d snapshots", seed, n, verr, lerr, bad, len(list))
		}
		if pruned := err == nil || seed%2 == 0; !pruned && list[0].Time != first[0].Time {
			t.Fatalf("seed %d: the snapshot of before is gone", seed)
		}
		house.Disk = after
		if _, err := house.Save(ctx, "/b/r", SaveOptions{}); err != nil {
			t.Fatalf("seed %d: the next backup: %v", seed, err)
		}
		if _, err := Prune(ctx, after, "/b/r", Keep{Last: 1}, time.Now(), false); err != nil {
			t.Fatalf("seed %d: the next prune: %v", seed, err)
		}
		if n, err := findings(after, "/b/r"); n > 0 || err != nil {
			t.Fatalf("seed %d: %d problems, %v", seed, n, err)
		}
	}
	if struck < trials/4 {
		t.Errorf("the power went %d times in %d: too little for a proof", struck, trials)
	}
	promise.Kept(t, "R16", "power cuts in a backup", struck, "snapshots harmed", 0)
}

// A disk that says no is an error, and leaves what was there.
func TestDiskFails(t *testing.T) {
	w := populated(t, "carol")
	w.mixed(t, "carol", 8, 1)
	mem := vfs.NewMem()
	w.must(t, mem.MkdirAll("/b", 0o700))
	w.Disk = on(mem)
	w.save(t, "/b/r", SaveOptions{})
	w.mixed(t, "carol", 8, 2)
	failed := 0
	for n := 1; ; n++ {
		count := n
		house := w.House
		house.Disk = on(errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
				return nil
			}
			if count--; count == 0 {
				return errStruck
			}
			return nil
		})))
		_, err := house.Save(ctx, "/b/r", SaveOptions{})
		if err == nil && count > 0 {
			break
		}
		if err != nil {
			failed++
			if !fault.Is(err, fault.Unavailable) {
				t.Fatalf("call %d: %v", n, err)
			}
		}
		if n, err := findings(on(mem), "/b/r"); n > 0 || err != nil {
			t.Fatalf("call %d: %d problems, %v", n, n, err)
		}
	}
	if failed < 5 {
		t.Errorf("only %d calls failed", failed)
	}
}

// deaf is a file system whose files do not sync, nor its folders.
type deaf struct{ vfs.FS }

type deafFile struct{ vfs.File }

func (deafFile) Sync() error     { return nil }
func (deafFile) SyncData() error { return nil }

func (d deaf) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	return deafFile{f}, err
}

func (d deaf) OpenDir(name string) (vfs.File, error) {
	f, err := d.FS.OpenDir(name)
	return deafFile{f}, err
}

// What a backup says is done survives the loss of all that was not synced. On a disk that
// does not sync it does not: the test can see what it looks for.
func TestSavedIsDurable(t *testing.T) {
	w := populated(t, "carol")
	w.mixed(t, "carol", 8, 1)
	for _, syncs := range []bool{true, false} {
		mem := vfs.NewCrashableMem()
		w.Disk = on(mem)
		if !syncs {
			w.Disk = on(deaf{mem})
		}
		w.save(t, "/far/away/r", SaveOptions{})
		after := on(mem.CrashClone(vfs.CrashCloneCfg{}))
		n, err := findings(after, "/far/away/r")
		list, _, _ := List(after, "/far/away/r")
		if whole := n == 0 && err == nil && len(list) == 1; whole != syncs {
			t.Errorf("syncs %v: %d problems, %v, %d snapshots", syncs, n, err, len(list))
		}
	}
}
