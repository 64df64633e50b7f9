package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
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
	patient   = flag.Duration("sim.patience", 5*time.Minute, "how long one run may take")
	sumFile   = flag.String("sim.sum", "", "write the figures to this file; for processes of the long form")
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
	var sum figures
	if *sumFile == "" && n > 2*perProcess {
		sum = inProcesses(t, *firstSeed, n)
	} else {
		sum = inSeries(t, *firstSeed, n)
	}
	if *sumFile != "" {
		b, err := json.Marshal(sum)
		if err == nil {
			err = os.WriteFile(*sumFile, b, 0o644)
		}
		if err != nil {
			t.Error(err)
		}
		return
	}
	kept(t, n, sum)
}

// inSeries runs seeds one after the other.
func inSeries(t *testing.T, first uint64, n int) (sum figures) {
	failed := 0
	for seed := first; seed < first+uint64(n); seed++ {
		s := draw(seed)
		res := guarded(t, s, options{})
		if len(res.faults) > 0 {
			t.Errorf("seed %d: %q\nrerun it with: go test ./test/sim -run TestSim -sim.seed=%d\n%s\n%s", seed, res.faults, seed, s, res.text)
			if failed++; failed == 5 {
				t.Fatal("enough")
			}
		}
		sum.add(res.figures)
	}
	return sum
}

// perProcess is how many seeds a process takes in the long form: an engine whose disk has
// failed leaves goroutines behind.
const perProcess = 2_000

// inProcesses shares the seeds out to other processes, as many at a time as there are
// processors.
func inProcesses(t *testing.T, first uint64, n int) (sum figures) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	places := make(chan struct{}, runtime.GOMAXPROCS(0))
	for from := 0; from < n; from += perProcess {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			path := filepath.Join(t.TempDir(), "sum.json")
			cmd := exec.Command(os.Args[0], "-test.run=^TestSim$", "-test.timeout=0", "-sim.sum="+path,
				fmt.Sprintf("-sim.first=%d", first+uint64(from)), fmt.Sprintf("-sim.seeds=%d", min(perProcess, n-from)))
			cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
			out, err := cmd.CombinedOutput()
			var part figures
			if err == nil {
				var b []byte
				if b, err = os.ReadFile(path); err == nil {
					err = json.Unmarshal(b, &part)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("seeds from %d on: %v\n%s", first+uint64(from), err, out)
			}
			sum.add(part)
		})
	}
	wg.Wait()
	return sum
}

// kept notes the figures, and fails if too little has happened to prove anything.
func kept(t *testing.T, n int, sum figures) {
	what := []any{"seeds", n, "restarts", sum.Restarts, "acknowledged", sum.Acked, "unknown", sum.Unknown,
		"lost", sum.Lost, "dup", sum.Dup, "cuts that took unsynced data", sum.Forgotten}
	for _, kind := range slices.Sorted(maps.Keys(sum.Met)) {
		what = append(what, kind, sum.Met[kind])
	}
	promise.Kept(t, "R4", what...)
	promise.Kept(t, "R10", "recipients elsewhere", sum.Out, "bad turns of hosts", sum.Met["bad turns of hosts"], "lost", sum.Lost, "dup", sum.Dup)
	promise.Kept(t, "R11", "reports", sum.Met["reports"], "to <>", 0, "twice", sum.Dup, "without a reason", sum.Wrong)
	promise.Kept(t, "R13", "mailboxes looked into", sum.Looks, "restarts", sum.Restarts, "wrong", sum.Wrong)
	if n < 300 {
		return
	}
	if sum.Forgotten == 0 || sum.Unknown == 0 || sum.Restarts < n/2 || len(sum.Met) < 6 {
		t.Errorf("too little happened: %+v", sum)
	}
}

// guarded runs a scenario; one that stands still ends the test, with all stacks.
func guarded(t *testing.T, s *scenario, opt options) result {
	stuck := time.AfterFunc(*patient, func() {
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

// What follows is the test of the test: each must be noticed soon.

func TestSimNoticesMissingSyncs(t *testing.T) {
	mustFail(t, options{wrap: func(fs vfs.FS) vfs.FS { return lazyFS{fs} }}, "lost: ")
}

func TestSimNoticesOldData(t *testing.T) { mustFail(t, options{stale: true}, "lost: ") }

func TestSimNoticesSecondCopies(t *testing.T) { mustFail(t, options{deaf: true}, "was taken again") }

func TestSimNoticesLies(t *testing.T) { mustFail(t, options{lie: true}, "lost: ") }

// mustFail runs seeds until one finds what is wanted.
func mustFail(t *testing.T, opt options, want string) {
	t.Helper()
	for seed := range uint64(40) {
		for _, found := range guarded(t, draw(seed), opt).faults {
			if strings.Contains(found, want) {
				t.Logf("noticed by seed %d: %s", seed, found)
				return
			}
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
