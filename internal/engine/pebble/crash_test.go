package pebble

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// seeds is the number of runs: MARTLET_CRASH_SEEDS, or the short form's.
func seeds(t *testing.T, short int) int {
	s := os.Getenv("MARTLET_CRASH_SEEDS")
	if s == "" {
		return short
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("MARTLET_CRASH_SEEDS: %v", err)
	}
	return n
}

// cut is a power cut: the file system as it would be found after it, and what had
// been told before it.
type cut struct {
	fs   *vfs.MemFS
	then said
}

// cutter clones the file system in the middle of its calls.
type cutter struct {
	mu     sync.Mutex
	rng    *rand.Rand
	ledger *ledger
	fs     *vfs.MemFS
	calls  int
	at     map[int]bool // which calls to cut before
	cuts   []cut
}

func newCutter(rng *rand.Rand, l *ledger, fs *vfs.MemFS) *cutter {
	c := &cutter{rng: rng, ledger: l, fs: fs, at: map[int]bool{}}
	for range 3 {
		c.at[1+rng.IntN(400)] = true
	}
	return c
}

// MaybeError is called before each call of the file system.
func (c *cutter) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsRead {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls++; c.at[c.calls] {
		c.cut()
	}
	return nil
}

func (c *cutter) String() string { return "cutter" }

// cut clones the file system with a share of what was not synced.
func (c *cutter) cut() {
	then := c.ledger.now() // before the clone: all of it must be in there
	c.cuts = append(c.cuts, cut{c.fs.CrashClone(vfs.CrashCloneCfg{
		UnsyncedDataPercent: 25 * c.rng.IntN(5),
		RNG:                 c.rng,
	}), then})
}

// crash runs the workload, cuts the power a few times and verifies each time.
func crash(seed uint64, wrap func(vfs.FS) vfs.FS) error {
	rng := rand.New(rand.NewPCG(seed, 99))
	l := newLedger()
	mem := vfs.NewCrashableMem()
	c := newCutter(rng, l, mem)
	opt := small(wrap(errorfs.Wrap(mem, c)))
	if seed%2 == 1 {
		opt.gather = 0 // as many tables gather as with large ones
	}
	e, err := Open("data", opt)
	if err != nil {
		return err
	}
	l.run(e, seed, 12)
	c.mu.Lock()
	c.cut() // also after everything
	cuts := c.cuts
	c.at = nil
	c.mu.Unlock()
	if err := e.Close(); err != nil {
		return err
	}
	for i, cut := range cuts {
		if err := recoverFrom(l, cut); err != nil {
			return fmt.Errorf("cut %d of %d: %w", i, len(cuts), err)
		}
	}
	return nil
}

// recoverFrom opens what a cut left, verifies it, writes on and verifies again
// after a second cut.
func recoverFrom(l *ledger, c cut) error {
	e, err := Open("data", small(c.fs))
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer e.Close()
	if err := l.verify(e, c.then); err != nil {
		return err
	}
	if len(c.then.acked)%4 > 0 {
		return nil // the rest is slow: now and then is enough
	}
	again := newLedger()
	again.doomed = l.doomed
	again.run(e, 1<<40, 3) // other names than the first run
	second := cut{c.fs.CrashClone(vfs.CrashCloneCfg{}), again.now()}
	e2, err := Open("data", small(second.fs))
	if err != nil {
		return fmt.Errorf("open again: %w", err)
	}
	defer e2.Close()
	if err := again.verify(e2, second.then); err != nil {
		return fmt.Errorf("second cut: %w", err)
	}
	return nil
}

func TestPowerCut(t *testing.T) {
	for seed := range seeds(t, 60/effort) {
		if err := crash(uint64(seed), func(fs vfs.FS) vfs.FS { return fs }); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

// TestPowerCutWhileOpening cuts the power before every call of Open that changes the
// disk: of a new directory and of one with data.
func TestPowerCutWhileOpening(t *testing.T) {
	full := vfs.NewCrashableMem()
	l := newLedger()
	e := open(t, "data", small(full))
	l.run(e, 1, 10)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	then := l.now()
	for name, start := range map[string]func() (*vfs.MemFS, said){
		"new":  func() (*vfs.MemFS, said) { return vfs.NewCrashableMem(), said{} },
		"full": func() (*vfs.MemFS, said) { return full.CrashClone(vfs.CrashCloneCfg{}), then },
	} {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 1))
			for call := 1; ; call++ {
				mem, then := start()
				c := &cutter{rng: rng, ledger: l, fs: mem, at: map[int]bool{call: true}}
				e, err := Open("data", small(errorfs.Wrap(mem, c)))
				if err != nil {
					t.Fatal(err)
				}
				if err := e.Close(); err != nil {
					t.Fatal(err)
				}
				if len(c.cuts) == 0 {
					t.Logf("%d calls", call-1)
					return
				}
				again, err := Open("data", small(c.cuts[0].fs))
				if err != nil {
					t.Fatalf("call %d: %v", call, err)
				}
				if err := l.verify(again, then); err != nil {
					t.Fatalf("call %d: %v", call, err)
				}
				if err := again.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestPowerCutNoticesLoss runs the same without syncs of the log: if nothing is
// lost then, the test above proves nothing.
func TestPowerCutNoticesLoss(t *testing.T) {
	lost := 0
	for seed := range 10 / min(effort, 2) {
		if crash(uint64(seed), func(fs vfs.FS) vfs.FS { return lazyFS{fs} }) != nil {
			lost++
		}
	}
	if lost == 0 {
		t.Error("a log that is never synced lost nothing")
	}
	t.Logf("%d runs without syncs lost something", lost)
}

// lazyFS does not sync the log.
type lazyFS struct{ vfs.FS }

func (fs lazyFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.Create(name, category)
	if err != nil || !isLog(name) {
		return f, err
	}
	return lazyFile{f}, nil
}

type lazyFile struct{ vfs.File }

func (lazyFile) Sync() error     { return nil }
func (lazyFile) SyncData() error { return nil }
