package crash

import (
	"math/rand/v2"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// cut is a power cut: the disk as it would be found after it, and what had been told
// before it.
type cut struct {
	disk *vfs.MemFS
	then moment
}

// cutter clones the disk before some of the calls that change it.
type cutter struct {
	mu     sync.Mutex
	rng    *rand.Rand
	ledger *ledger
	disk   *vfs.MemFS
	calls  int
	at     map[int]bool // calls to cut before
	cuts   []cut
}

func newCutter(rng *rand.Rand, l *ledger, disk *vfs.MemFS) *cutter {
	c := &cutter{rng: rng, ledger: l, disk: disk, at: map[int]bool{}}
	for range 3 {
		c.at[20+rng.IntN(600)] = true
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

// cut clones the disk with a share of what was not synced.
func (c *cutter) cut() {
	then := c.ledger.now() // before the clone: all of it must be in there
	c.cuts = append(c.cuts, cut{c.disk.CrashClone(vfs.CrashCloneCfg{
		UnsyncedDataPercent: 25 * c.rng.IntN(5), RNG: c.rng,
	}), then})
}

// all cuts once more and returns every cut.
func (c *cutter) all() []cut {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut()
	c.at = nil
	return c.cuts
}

// lazyDisk does not sync the log: the control that must lose something.
type lazyDisk struct{ vfs.FS }

func (d lazyDisk) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, category)
	if err != nil || !strings.HasSuffix(name, ".log") {
		return f, err
	}
	return lazyFile{f}, nil
}

type lazyFile struct{ vfs.File }

func (lazyFile) Sync() error     { return nil }
func (lazyFile) SyncData() error { return nil }
