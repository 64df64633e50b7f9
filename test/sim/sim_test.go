package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/test/promise"
)

var (
	oneSeed   = flag.Int64("sim.seed", -1, "run this seed 20 times, and print what happened")
	firstSeed = flag.Uint64("sim.first", 0, "the first seed")
	script    = flag.String("sim.script", "", "run this file 20 times instead")
	seedCount = flag.Int("sim.seeds", 0, "how many seeds; 0: as many as promise R4 asks for")
)

// base is the disk of a server that has its accounts and nothing else.
var base = func() func(t *testing.T) *vfs.MemFS {
	var once sync.Once
	var mem *vfs.MemFS
	return func(t *testing.T) *vfs.MemFS {
		once.Do(func() {
			synctest.Test(t, func(t *testing.T) {
				fs := vfs.NewCrashableMem()
				ctx := context.Background()
				h, err := openHouse(ctx, site{fs: fs, memTable: 256, now: time.Now, log: slog.New(slog.DiscardHandler), chance: newChance(1, 1)})
				if err != nil {
					t.Fatal(err)
				}
				if err := h.settle(ctx); err != nil {
					t.Fatal(err)
				}
				if err := h.close(); err != nil {
					t.Fatal(err)
				}
				mem = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
			})
		})
		return mem
	}
}()

// TestSim is promise R4: the whole server, its clients, its peers and its disk, over and
// over, with what can go wrong drawn from a seed.
func TestSim(t *testing.T) {
	switch {
	case *script != "":
		again(t, readScript(t, *script))
		return
	case *oneSeed >= 0:
		again(t, draw(uint64(*oneSeed)))
		return
	}
	n := *seedCount
	if n == 0 {
		n = promise.Times(t, "R4", 1_000, 100_000)
	}
	var sum result
	leaked := 0
	for seed := *firstSeed; seed < *firstSeed+uint64(n); seed++ {
		s := draw(seed)
		res := guarded(t, s, options{})
		if len(res.faults) > 0 {
			t.Errorf("seed %d: %q\nrerun it with: go test ./test/sim -run TestSim -sim.seed=%d\n%s\n%s", seed, res.faults, seed, s, res.text)
			if sum.losses++; sum.losses > 4 {
				t.Fatal("enough")
			}
		}
		sum.add(res)
		if res.leaks {
			leaked++
		}
	}
	promise.Kept(t, "R4", "seeds", n, "restarts", sum.restarts, "acknowledged", sum.acked, "unknown", sum.unknown,
		"lost", sum.losses, "dup", sum.dups, "cuts that took unsynced data", sum.forgotten, "to other hosts", sum.queued, "disks that failed", leaked)
	if n >= 100 && (sum.forgotten == 0 || sum.unknown == 0 || sum.restarts < n/2) {
		t.Errorf("too little happened: %+v", sum)
	}
}

func (r *result) add(o result) {
	r.restarts += o.restarts
	r.cuts += o.cuts
	r.forgotten += o.forgotten
	r.acked += o.acked
	r.unknown += o.unknown
	r.losses += o.losses
	r.dups += o.dups
	r.messages += o.messages
	r.queued += o.queued
}

// guarded runs a scenario; one that stands still ends the test, with all stacks.
func guarded(t *testing.T, s *scenario, opt options) result {
	stuck := time.AfterFunc(5*time.Minute, func() {
		b := make([]byte, 4<<20)
		fmt.Fprintf(os.Stderr, "seed %d stands still\n%s\n%s\n", s.Seed, s, b[:runtime.Stack(b, true)])
		os.Exit(2)
	})
	defer stuck.Stop()
	return run(t, s, opt)
}

// again runs a scenario 20 times on one processor, since some of what happens is chosen
// by the scheduler, and prints the first run that fails, or the last.
func again(t *testing.T, s *scenario) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	failed := 0
	var shown result
	courses := map[string]bool{}
	for i := range 20 {
		res := guarded(t, s, options{verbose: true})
		courses[res.text] = true
		if len(res.faults) > 0 {
			failed++
		}
		if failed == 1 && len(res.faults) > 0 || failed == 0 && i == 19 {
			shown = res
		}
	}
	t.Logf("%s\n%s", s, shown.text)
	t.Logf("20 runs took %d courses", len(courses))
	if failed > 0 {
		t.Errorf("%d of 20 runs failed: %q", failed, shown.faults)
	}
}

// TestSimNoticesLoss runs it on disks that do not sync their log: it must fail.
func TestSimNoticesLoss(t *testing.T) {
	mustFail(t, options{wrap: func(fs vfs.FS) vfs.FS { return lazyFS{fs} }})
}

// TestSimNoticesLies runs it with a ledger that takes for acknowledged what nobody knows.
func TestSimNoticesLies(t *testing.T) { mustFail(t, options{lie: true}) }

func mustFail(t *testing.T, opt options) {
	for seed := range uint64(40) {
		if res := guarded(t, draw(seed), opt); len(res.faults) > 0 {
			t.Logf("noticed by seed %d: %q", seed, res.faults)
			return
		}
	}
	t.Error("it is not noticed")
}

func readScript(t *testing.T, path string) *scenario {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	s := new(scenario)
	if err := d.Decode(s); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return s
}

// TestScripts runs the scenarios of testdata: each has found something once.
func TestScripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".json"), func(t *testing.T) {
			s := readScript(t, path)
			if s.Why == "" {
				t.Error("it does not say what it has found")
			}
			for range 3 {
				if res := guarded(t, s, options{}); len(res.faults) > 0 {
					t.Fatalf("%s: %q\n%s", s.Why, res.faults, res.text)
				}
			}
		})
	}
}
